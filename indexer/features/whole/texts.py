"""FUNGI features of texts, with encoders of ``transformers``.

Source: *No Train, all Gain* (NeurIPS 2024), appendix on text: KL with T 15, and InfoNCE between copies of
a text that lack a tenth of its words.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indexer.features.encoder import Encoder
from indexer.features.weights.encoders import load_encoder
from indexer.features.whole.base import Seen, WholeExtractor, of_images_alone
from indexer.recipe import Recipe
from indexer.texts import read_text_file
from retrieval.errors import TextError

#: Texts, or copies of some, that pass the model at once.
CHUNK = 32
#: Letters of a text that an index keeps to show it.
EXCERPT = 300

_LOG = logging.getLogger("mycelia")


class TextExtractor(WholeExtractor[str]):
    """Maps texts to vectors, as a recipe with ``backbone.kind: text`` says.

    A text that is longer than the model takes is cut at its end, which is said once.
    """

    noun: ClassVar[str] = "text"

    def __init__(self, recipe: Recipe, backbone: TextModel, tensors: dict[str, Tensor]) -> None:
        """Use :meth:`create` or :meth:`open`; ``tensors`` is what :meth:`to_bytes` stores."""
        super().__init__(recipe, backbone, tensors)
        self._model = backbone
        self._said_cut = False

    @classmethod
    def load_model(cls, recipe: Recipe) -> TextModel:
        """The encoder and its tokenizer; raises ConfigError, MissingExtraError, WeightsError."""
        return TextModel(recipe)

    @property
    def _preprocessing(self) -> list[Any]:
        return ["text", self._model.tokenizer_digest, self._model.longest]

    def read(self, source: Any) -> str:
        """A text as it is, or the content of a file (a ``Path``); TextError for one without a word."""
        text = read_text_file(source) if isinstance(source, Path) else source
        if not isinstance(text, str):
            raise TextError(f"expected a text or the path of a text file, not {type(source).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TextError(f"the text holds what is no letter ({error}); save it in UTF-8") from error
        if not text.split():
            what = f"{source} holds" if isinstance(source, Path) else "the text has"
            raise TextError(f"{what} no word; give a text with words, or leave it out")
        return text

    def extent(self, content: str) -> tuple[int, int]:
        """(1, letters)."""
        return 1, len(content)

    def excerpt(self, content: str) -> str:
        """The text's beginning, on one line."""
        return " ".join(content.split())[:EXCERPT]

    @torch.no_grad()
    def see(self, kind: str, contents: Sequence[str], *, few: bool = False) -> Seen:
        """The text alone (``single``), or copies without some of its words (``overlapping``)."""
        settings = self.recipe.objective.infonce
        alike = None
        if kind == "single":
            views = [[text] for text in contents]
            for text in contents:
                self._note_cut(text)
        elif kind == "overlapping":
            count = settings.negative_views if few else settings.views
            views = [
                without_words(text, count, share=settings.deletion, seed=self.recipe.seed)
                for text in contents
            ]
            alike = torch.tensor([len(set(copies)) == 1 for copies in views])
        else:
            raise of_images_alone(kind)
        flat = [view for group in views for view in group]
        chunks = [flat[start : start + CHUNK] for start in range(0, len(flat), CHUNK)]
        with self._lock:
            cuts = [self._cut(chunk) for chunk in chunks]
        longest = max(weights.shape[1] for _, _, weights in cuts)
        residual, activation, weights = (
            torch.cat([_padded(part, longest) for part in parts]) for parts in zip(*cuts, strict=True)
        )
        activation = self._with_bias(activation)
        shape = (len(views), len(views[0]))
        return Seen(residual, activation.view(*shape, *activation.shape[1:]), weights, alike)

    def _cut(self, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Residuals and activations (n, N, .) of the tokens that are pooled, and their shares (n, N)."""
        inputs = self._model.tokens(texts)
        cut = self._model.cut(inputs)
        mask = inputs["attention_mask"].to(cut.residual.device)
        if self.recipe.features.pool == "mean":
            shares = mask / mask.sum(dim=1, keepdim=True)
            return cut.residual, cut.activation, shares.float()
        # the first token that is no padding, wherever the tokenizer pads
        first = mask.long().argmax(dim=1)
        rows = torch.arange(len(first), device=first.device)
        shares = torch.ones(len(first), 1, device=first.device)
        return cut.residual[rows, first][:, None], cut.activation[rows, first][:, None], shares

    def _note_cut(self, text: str) -> None:
        # far below so many letters no text can be too long
        if self._said_cut or len(text) < self._model.longest:
            return
        with self._lock:  # the tokenizer keeps what it is asked
            tokens = self._model.count(text)
        if tokens > self._model.longest:
            self._said_cut = True
            _LOG.warning(
                "a text of %d tokens (%r ...) is cut to the first %d, the most that %s takes; "
                "so are all longer ones",
                *(tokens, text[:40], self._model.longest, self.recipe.backbone.model),
            )


class TextModel(Encoder):
    """An encoder of texts with its tokenizer."""

    def __init__(self, recipe: Recipe) -> None:
        """Load both; raises ConfigError, MissingExtraError, WeightsError."""
        settings = recipe.backbone
        loaded = load_encoder(settings.model, settings.weights, "AutoTokenizer", seed=recipe.seed)
        super().__init__(loaded.model, settings, runtime=recipe.runtime)
        self._tokenizer = loaded.processor
        #: SHA-256 of all that the tokenizer does.
        self.tokenizer_digest = _tokenizer_digest(loaded.processor)
        #: Most tokens of a text.
        self.longest = min(_positions(loaded.model), int(self._tokenizer.model_max_length))
        self.check(self.tokens(["a b c"]))

    def tokens(self, texts: list[str]) -> dict[str, Tensor]:
        """The model's inputs, (n, N) int64 each, padded to the longest, cut to :attr:`longest`."""
        made = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
        )
        return dict(made)

    def count(self, text: str) -> int:
        """Tokens of a text that is not cut."""
        return len(self._tokenizer(text, truncation=False, verbose=False)["input_ids"])


def _positions(model: nn.Module) -> int:
    """Tokens that a model has positions for; of some the first ones are the padding's."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            reserved = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - reserved
    return int(getattr(model.config, "max_position_embeddings", 512))


def _tokenizer_digest(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    told = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(told.encode(errors="backslashreplace")).hexdigest()


def without_words(text: str, copies: int, *, share: float, seed: int) -> list[str]:
    """Copies of a text that each lack about ``share`` of its words, and never all of them.

    A text of one word, as those without blanks between words are, lacks letters. Which ones follows from the
    seed and the place of the word alone, the same for every text.
    """
    words = text.split()
    between = " "
    if len(words) == 1:
        words, between = list(words[0]), ""
    draws = torch.rand(len(words), copies, generator=torch.Generator().manual_seed(seed)).T
    kept = draws >= share
    kept[:, 0] |= ~kept.any(dim=1)
    return [
        between.join(word for word, keep in zip(words, row, strict=True) if keep) for row in kept.tolist()
    ]


def _padded(part: Tensor, tokens: int) -> Tensor:
    """(n, N, ...) with zeros behind, up to ``tokens``."""
    room = tokens - part.shape[1]
    return F.pad(part, (0, 0, 0, room) if part.ndim == 3 else (0, room)) if room else part
