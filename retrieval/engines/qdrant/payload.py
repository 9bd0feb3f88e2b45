"""What Qdrant knows of a patch besides its vector: one schema for the embedded engine and the server.

==========  ========  =======  =======  ============================================================
field       type      indexed  Edge     meaning
==========  ========  =======  =======  ============================================================
``image``   integer   yes      yes      image number, as in ``images.jsonl``
``class``   integer   yes      yes      dominant class: column of the largest soft label (-1: none)
``row``     integer   no       no       grid row
``col``     integer   no       no       grid column
``label``   string    no       no       soft label, one byte a column (share times 255), in base64
``source``  string    no       no       the image's id in its data set
``dataset`` keyword   yes      no       name of the data set
==========  ========  =======  =======  ============================================================

The embedded engine keeps the two fields that filters ask for. The others would repeat what lies in
``labels.npy`` and ``patches.npy`` beside it, whose rows are read by position, in no time. A server has
no such files, so its points carry everything.

Points of a server whose field ``kind`` (keyword, indexed) is set hold no vector and are no patches:
``file`` (name, size and SHA-256 of a file that readers need, such as ``features.safetensors``) and
``data`` (a piece of one, in base64). The manifest is in the collection's metadata, or such a file on a
server without. One point, ``state``, tells readers of changes: its ``token`` is another after each, and
``changing`` is true from before the first row of one until its end. A search never finds these points,
since they have no vector.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.errors import ConfigError
from retrieval.store.label_file import dominant_columns
from retrieval.store.manifest import Manifest

IMAGE, CLASS, ROW, COL, LABEL, SOURCE, DATASET = "image", "class", "row", "col", "label", "source", "dataset"
KIND = "kind"

#: Kinds of points that are no patches.
OTHERS = ["file", "data", "state"]

#: Fields that a search brings back.
FOUND = [IMAGE, ROW, COL, LABEL]

#: Types of the payload indexes, which exist before the first point is uploaded.
INDEXED = {IMAGE: "integer", CLASS: "integer", DATASET: "keyword", KIND: "keyword"}

#: Bits of a row id on a server that hold the grid row, and as many the grid column.
_GRID_BITS = 12
_GRID_MASK = (1 << _GRID_BITS) - 1

_NAMESPACE = uuid.UUID("a7a4b1f4-3f1d-5a5e-9d0c-6d7963656c69")


@dataclass(frozen=True)
class Origin:
    """Where the patches of one image number come from: what a point id is made of."""

    source: str
    sha256: str
    epoch: int


@dataclass(frozen=True)
class Points:
    """Rows on their way to a server: n ids (UUIDs), vectors (n, D) float32, n payloads."""

    ids: list[str]
    vectors: npt.NDArray[np.float32]
    payloads: list[dict[str, Any]]


@dataclass(frozen=True)
class State:
    """What a collection holds: ``token`` is another after each change, ``changing`` is true during one."""

    token: str
    changing: bool


def bank_fingerprint(manifest: Manifest) -> str:
    """SHA-256 of everything that decides a memory bank's rows: recipe, weights, data set, classes, layout.

    Two builds may fill one collection exactly when this agrees.
    """
    aside = ("index", "rerank", "transfer", "runtime")  # a server has no re-ranking
    recipe = {name: value for name, value in manifest.recipe.items() if name not in aside}
    if "image" in recipe:  # how photos are asked about decides no row
        free = ("overlap", "shifts", "flip")
        image = {key: value for key, value in recipe["image"].items() if key not in free}
        if image.get("scale") is None:  # collections of before know nothing of it
            image.pop("scale", None)
        recipe["image"] = image
    data = {
        "recipe": recipe,
        "fingerprints": manifest.fingerprints,
        "dataset": {name: value for name, value in manifest.dataset.items() if name != "root"},
        "similarity": manifest.similarity.to_json(),
        "classes": (manifest.fitted_classes or manifest.classes).to_json(),
    }
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def point_id(fingerprint: str, origin: Origin, row: int, col: int) -> str:
    """The id (a UUID) of a patch: a function of its image's bytes and id, the recipe and the position.

    The same patch uploaded twice, by anyone, is one point.
    """
    name = f"{fingerprint}/{origin.sha256}/{origin.source}/{origin.epoch}/{row}/{col}"
    return str(uuid.uuid5(_NAMESPACE, name))


def reserved_id(*names: object) -> str:
    """The id of a point that is no patch."""
    return str(uuid.uuid5(_NAMESPACE, "reserved/" + "/".join(map(str, names))))


def pack_ids(patches: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Row ids of patches on a server: (..., 3) image number, row, column -> (...) int64.

    A server's points have no numbers of their own; the position is the id. Raises ConfigError for
    a grid of more than 4096 rows or columns.
    """
    wide = patches.astype(np.int64)
    if wide.size and (wide.min() < 0 or wide[..., 1:].max() > _GRID_MASK):
        raise ConfigError(f"patch positions on a Qdrant server lie in 0..{_GRID_MASK}, got {patches.max()}")
    packed: npt.NDArray[np.int64] = (
        (wide[..., 0] << (2 * _GRID_BITS)) | (wide[..., 1] << _GRID_BITS) | wide[..., 2]
    )
    return packed


def unpack_ids(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """The inverse of :func:`pack_ids`: (...) int64 -> (..., 3) int32; -1 for the id -1."""
    parts = np.stack([ids >> (2 * _GRID_BITS), (ids >> _GRID_BITS) & _GRID_MASK, ids & _GRID_MASK], axis=-1)
    parts[ids < 0] = -1
    return parts.astype(np.int32)


def edge_payloads(labels: npt.NDArray[np.uint8], patches: npt.NDArray[np.int32]) -> list[dict[str, Any]]:
    """The payloads of rows in the embedded engine: labels (n, C) uint8, patches (n, 3) int32."""
    images, columns = patches[:, 0].tolist(), dominant_columns(labels).tolist()
    return [{IMAGE: image, CLASS: column} for image, column in zip(images, columns, strict=True)]


def server_payloads(
    labels: npt.NDArray[np.uint8], patches: npt.NDArray[np.int32], origins: list[Origin], dataset: str
) -> list[dict[str, Any]]:
    """The payloads of rows on a server; one origin a row."""
    columns = dominant_columns(labels).tolist()
    return [
        {
            IMAGE: image,
            CLASS: column,
            ROW: row,
            COL: col,
            LABEL: base64.b64encode(label).decode(),
            SOURCE: origin.source,
            DATASET: dataset,
        }
        for (image, row, col), column, label, origin in zip(
            patches.tolist(), columns, map(bytes, labels), origins, strict=True
        )
    ]


def decode_label(text: str, classes: int) -> npt.NDArray[np.uint8]:
    """A soft label (C,) uint8 from its payload field; raises ValueError for one of more classes.

    One of fewer is from before the others were added.
    """
    label = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    if len(label) > classes:
        raise ValueError(f"a label of {len(label)} classes where {classes} were expected")
    return np.pad(label, (0, classes - len(label)))
