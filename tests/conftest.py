"""What all tests share: float32, and tiny encoders of texts and spectrograms as folders, weights random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

WORDS = (
    *("the", "a", "my", "card", "money", "bank", "lost", "where", "is", "arrived", "late", "please", "help"),
    *("cash", "fee", "rain", "sun", "sea", "cloud", "wind"),
)

MakeEncoder = Callable[..., Path]


@pytest.fixture(autouse=True, scope="session")
def float32_where_nothing_is_said() -> Iterator[None]:
    """``runtime.precision: auto`` is float32 in the tests' own process, on every machine."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("indexer.features.precision.measured", lambda name, measure: 1.0)
        yield


@pytest.fixture
def text_encoder(tmp_path: Path) -> MakeEncoder:
    """``text_encoder("bert")``: a folder with configuration and tokenizer of a tiny model."""
    transformers = pytest.importorskip("transformers")

    def make(kind: str = "bert") -> Path:
        folder = tmp_path / kind
        folder.mkdir()
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
        (folder / "vocab.txt").write_text("\n".join(vocabulary))
        tokenizer = transformers.BertTokenizerFast(
            vocab={word: number for number, word in enumerate(vocabulary)}, model_max_length=16
        )
        tokenizer.save_pretrained(folder)
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
        config = transformers.AutoConfig.for_model(
            kind, vocab_size=len(vocabulary), max_position_embeddings=24, pad_token_id=0, **sizes
        )
        config.save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def sound_encoder(tmp_path: Path) -> Path:
    """A folder with the configuration of a tiny spectrogram transformer: 64 frames of 16 mels."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "ast"
    config = transformers.ASTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_length=64,
        num_mel_bins=16,
        patch_size=8,
        frequency_stride=8,
        time_stride=8,
    )
    config.save_pretrained(folder)
    transformers.ASTFeatureExtractor(max_length=64, num_mel_bins=16).save_pretrained(folder)
    return folder


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """A folder of two classes, low and high, with four tones of half a second each: train and val."""
    soundfile = pytest.importorskip("soundfile")
    time = np.arange(8000) / 16000
    for split, count in (("train", 4), ("val", 2)):
        for name, base in (("low", 200.0), ("high", 3000.0)):
            folder = tmp_path / "tones" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pitch = base * (1 + 0.03 * number + (0.015 if split == "val" else 0))
                soundfile.write(folder / f"{number}.wav", 0.3 * np.sin(2 * np.pi * pitch * time), 16000)
    return tmp_path / "tones"
