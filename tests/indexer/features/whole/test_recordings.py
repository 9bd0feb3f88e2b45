from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from indexer.audio import Recording, read_recording
from indexer.features.whole.recordings import RecordingExtractor, noisy_copies
from indexer.recipe import load_recipe
from retrieval.errors import AudioError, ConfigError, MissingExtraError

soundfile = pytest.importorskip("soundfile")


def make(folder: Path, *overrides: str) -> RecordingExtractor:
    settings = [
        "backbone.kind=audio",
        f"backbone.model={folder}",
        "backbone.weights=random",
        "features.level=image",
        "features.projection_width=24",
        "objective.kind=[kl,infonce]",
        "objective.infonce.views=3",
        "objective.infonce.negatives=2",
        "runtime.device=cpu",
    ]
    return RecordingExtractor.create(load_recipe(None, [*settings, *overrides]))


def tone(pitch: float, *, seconds: float = 0.4, rate: int = 16000) -> Recording:
    time = np.arange(round(seconds * rate)) / rate
    return Recording((0.3 * np.sin(2 * np.pi * pitch * time)).astype(np.float32), rate)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_the_gradient_is_that_of_the_whole_model(pool: str, sound_encoder: Path) -> None:
    extractor = make(sound_encoder, "objective.kind=kl", f"features.pool={pool}")
    (objective,) = extractor._objectives
    seen = extractor.see("single", [tone(440)])
    gradients = extractor._gradients(objective, seen)
    summed = torch.einsum("bvne,bvna->ea", gradients, seen.activations)
    model = extractor._model
    model._linear.weight.requires_grad_(True)
    tokens = model._model(model.spectrogram(tone(440))[None]).last_hidden_state
    kept = tokens[:, :2] if pool == "cls" else tokens[:, 2:]
    loss = objective.loss(kept.mean(dim=1, keepdim=True), extractor._tensors, None)
    (expected,) = torch.autograd.grad(loss, model._linear.weight)
    assert torch.allclose(summed[:, :-1], expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


def test_a_recording_does_not_depend_on_its_batch(sound_encoder: Path) -> None:
    extractor = make(sound_encoder)
    sounds = [tone(pitch) for pitch in (200, 800, 3000)]
    extractor.fit(lambda: [sounds], images=3)
    together = extractor.extract(sounds)
    assert torch.allclose(together, torch.cat([extractor.extract([sound]) for sound in sounds]), atol=1e-5)
    assert together.shape == (3, 32 + 2 * 24)


def test_copies_are_noisy_and_shifted() -> None:
    spectrogram = torch.zeros(64, 16)
    spectrogram[30] = 5
    copies = noisy_copies(spectrogram, 6, noise=0.1, shift=10, seed=0)
    places = copies.sum(dim=2).argmax(dim=1)
    assert len(set(places.tolist())) > 1 and (places - 30).abs().max() <= 10
    rolled = torch.stack([torch.roll(spectrogram, int(p) - 30, dims=0) for p in places])
    assert float((copies - rolled).min()) >= 0 and 0.01 < float((copies - rolled).max()) <= 0.1
    assert torch.equal(copies, noisy_copies(spectrogram, 6, noise=0.1, shift=10, seed=0))


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_files_are_read_at_the_rate_of_the_model(ending: str, sound_encoder: Path, tmp_path: Path) -> None:
    sound = tone(440, rate=44100)
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, np.stack([sound.samples, sound.samples], axis=1), 44100)
    extractor = make(sound_encoder)
    read = extractor.read(path)
    assert read.rate == 16000 and abs(read.seconds - 0.4) < 0.001
    cosine = float((extractor.extract([read]) * extractor.extract([tone(440)])).sum())
    assert cosine > 0.99
    assert extractor.picture(read).shape[0] == 16


def test_a_long_recording_is_cut_and_said(sound_encoder: Path, caplog: pytest.LogCaptureFixture) -> None:
    extractor = make(sound_encoder, "objective.kind=kl")
    with caplog.at_level(logging.WARNING, "mycelia"):
        extractor.extract([tone(440, seconds=2), tone(880, seconds=3)])
    (record,) = caplog.records
    assert "2.0 s is cut to its first 0.6 s" in record.getMessage()


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros(8000), "is silent"),
        (np.ones(100), "expected at least 0.025 s"),
        (np.full(8000, np.nan), "no numbers"),
    ],
)
def test_sounds_that_are_none(samples: np.ndarray, said: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=said):
        read_recording(tmp_path / "a.wav")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="it is not there"):
        read_recording(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"RIFF but no more")
    with pytest.raises(AudioError, match=r"b\.wav cannot be read as a recording"):
        read_recording(tmp_path / "b.wav")


def test_a_model_of_texts_is_refused(text_encoder: object, sound_encoder: Path, tmp_path: Path) -> None:
    folder = text_encoder("bert")  # type: ignore[operator]
    for name in ("preprocessor_config.json",):
        (folder / name).write_bytes((sound_encoder / name).read_bytes())
    with pytest.raises(ConfigError, match="is no spectrogram transformer"):
        make(folder)


def test_without_soundfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(MissingExtraError, match=r"mycelia\[audio\]"):
        read_recording(tmp_path / "a.wav")
