"""FUNGI features of recordings, with spectrogram transformers (AST and its like) of ``transformers``.

Source: *No Train, all Gain* (NeurIPS 2024), appendix on audio: KL, and InfoNCE between copies of a
spectrogram with uniform noise, shifted in time by up to ten frames.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from indexer.audio import Recording, read_recording
from indexer.features.encoder import Encoder
from indexer.features.weights.encoders import load_encoder
from indexer.features.whole.base import Seen, WholeExtractor, of_images_alone
from indexer.recipe import Recipe
from retrieval.errors import ConfigError

#: Spectrograms that pass the model at once.
CHUNK = 8
#: Seconds between two frames of a spectrogram.
FRAME = 0.01

_LOG = logging.getLogger("mycelia")


class RecordingExtractor(WholeExtractor[Recording]):
    """Maps recordings to vectors, as a recipe with ``backbone.kind: audio`` says.

    One that is longer than the model takes is cut at its end, which is said once.
    """

    noun: ClassVar[str] = "recording"

    def __init__(self, recipe: Recipe, backbone: SpectrogramModel, tensors: dict[str, Tensor]) -> None:
        """Use :meth:`create` or :meth:`open`; ``tensors`` is what :meth:`to_bytes` stores."""
        super().__init__(recipe, backbone, tensors)
        self._model = backbone
        self._said_cut = False

    @classmethod
    def load_model(cls, recipe: Recipe) -> SpectrogramModel:
        """The encoder and what makes spectrograms; raises ConfigError, MissingExtraError, WeightsError."""
        return SpectrogramModel(recipe)

    @property
    def _preprocessing(self) -> list[Any]:
        return ["audio", self._model.describe()]

    def read(self, source: Any) -> Recording:
        """A recording at the model's rate: a path, or one that is read already; raises AudioError."""
        recording = source if isinstance(source, Recording) else read_recording(source)
        return recording.at(self._model.rate)

    def extent(self, content: Recording) -> tuple[int, int]:
        """(1, samples)."""
        return 1, len(content.samples)

    def picture(self, content: Recording) -> npt.NDArray[np.uint8]:
        """The spectrogram, low tones below, without the padding behind it: (mels, frames, 3) uint8."""
        frames = max(1, min(self._model.frames, round(len(content.samples) / self._model.rate / FRAME)))
        spectrogram = self._model.spectrogram(content)[:frames].T.flip(0)
        low, high = spectrogram.min(), spectrogram.max()
        gray = ((spectrogram - low) / (high - low).clamp_min(1e-6) * 255).to(torch.uint8).numpy()
        return np.repeat(gray[:, :, None], 3, axis=2)

    @torch.no_grad()
    def see(self, kind: str, contents: Sequence[Recording], *, few: bool = False) -> Seen:
        """The spectrogram alone (``single``), or noisy, shifted copies of it (``overlapping``)."""
        settings = self.recipe.objective.infonce
        spectrograms = [self._model.spectrogram(recording) for recording in contents]
        if kind == "single":
            views = torch.stack(spectrograms)[:, None]
            for recording in contents:
                self._note_cut(recording)
        elif kind == "overlapping":
            count = settings.negative_views if few else settings.views
            views = torch.stack(
                [
                    noisy_copies(
                        item, count, noise=settings.noise, shift=settings.shift, seed=self.recipe.seed
                    )
                    for item in spectrograms
                ]
            )
        else:
            raise of_images_alone(kind)
        residuals, activations = [], []
        prefix = self._model.prefix_tokens
        kept = slice(prefix, None) if self.recipe.features.pool == "mean" or not prefix else slice(0, prefix)
        with self._lock:
            for chunk in torch.split(views.flatten(0, 1), CHUNK):
                cut = self._model.cut({"input_values": chunk})
                residuals.append(cut.residual[:, kept].clone())
                activations.append(cut.activation[:, kept].clone())
        activation = self._with_bias(torch.cat(activations))
        return Seen(torch.cat(residuals), activation.view(*views.shape[:2], *activation.shape[1:]))

    def _note_cut(self, recording: Recording) -> None:
        longest = self._model.frames * FRAME
        if not self._said_cut and recording.seconds > longest + 2 * FRAME:
            self._said_cut = True
            _LOG.warning(
                "a recording of %.1f s is cut to its first %.1f s, the most that %s takes; "
                "so are all longer ones",
                *(recording.seconds, longest, self.recipe.backbone.model),
            )


class SpectrogramModel(Encoder):
    """An encoder of spectrograms with what makes them.

    Attributes: ``rate`` of samples a second, ``frames`` and ``mels`` of a spectrogram, ``prefix_tokens``.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Load both; raises ConfigError, MissingExtraError, WeightsError."""
        settings = recipe.backbone
        loaded = load_encoder(settings.model, settings.weights, "AutoFeatureExtractor", seed=recipe.seed)
        config = cast(Any, loaded.model.config)
        if not hasattr(config, "num_mel_bins") or not hasattr(config, "max_length"):
            raise ConfigError(
                f"{settings.model} is no spectrogram transformer (it has no num_mel_bins and max_length); "
                "choose one such as MIT/ast-finetuned-audioset-10-10-0.4593"
            )
        super().__init__(loaded.model, settings, runtime=recipe.runtime)
        self._extractor = loaded.processor
        # the model's, which the spectrograms have to fit
        self._extractor.max_length, self._extractor.num_mel_bins = config.max_length, config.num_mel_bins
        self.frames, self.mels = int(config.max_length), int(config.num_mel_bins)
        self.rate = int(self._extractor.sampling_rate)
        self.prefix_tokens = sum(
            hasattr(loaded.model.embeddings, token) for token in ("cls_token", "distillation_token")
        )
        self.check({"input_values": torch.zeros(1, self.frames, self.mels)})

    def describe(self) -> dict[str, Any]:
        """What decides a spectrogram, as plain data."""
        names = ("sampling_rate", "num_mel_bins", "max_length", "do_normalize", "mean", "std")
        return {name: getattr(self._extractor, name, None) for name in names}

    def spectrogram(self, recording: Recording) -> Tensor:
        """(frames, mels) float32, zeros behind a short recording, cut where it is long."""
        made = self._extractor(recording.samples, sampling_rate=self.rate, return_tensors="pt")
        values: Tensor = made["input_values"][0]
        return values


def noisy_copies(spectrogram: Tensor, copies: int, *, noise: float, shift: int, seed: int) -> Tensor:
    """Copies (V, frames, mels) with uniform noise of up to ``noise``, shifted by up to ``shift`` frames.

    All draws follow from the seed alone, the same for every recording.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(copies):
        strength = torch.rand((), generator=generator) * noise
        drawn = torch.rand(spectrogram.shape, generator=generator) * strength
        frames = int(torch.randint(-shift, shift + 1, (), generator=generator))
        made.append(torch.roll(spectrogram + drawn, frames, dims=0))
    return torch.stack(made)
