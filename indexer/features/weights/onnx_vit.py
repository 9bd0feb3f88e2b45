"""A DINOv2 encoder exported to ONNX under Hugging Face's names, read under timm's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

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


def read_onnx_vit(data: bytes, prefix: str) -> dict[str, Tensor]:
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
