"""The changes of an index that faults are injected into, and what an index holds, as one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from retrieval import (
    ClassInfo,
    ClassMap,
    Cosine,
    ImageRecord,
    IndexFolder,
    IndexSettings,
    Manifest,
    PatchIndex,
    create_index,
)
from retrieval.edit.add import NewImage, add_images
from retrieval.edit.compact import CompactOptions, compact_index
from retrieval.edit.convert import convert_index
from retrieval.edit.merge import merge_indexes
from retrieval.edit.relabel import relabel_index
from retrieval.edit.remove import remove_images
from retrieval.engines import tail
from retrieval.engines.qdrant.settings import QdrantSettings
from retrieval.store.layout import FEATURES

CLASSES, WIDTH, ROWS = 3, 16, 12

#: The engines by the name that the table has. A tail is what FAISS adds to a large index.
ENGINES = {
    "exact": IndexSettings(engine="exact"),
    "faiss": IndexSettings(engine="faiss"),
    "faiss, tail": IndexSettings(engine="faiss"),
    "qdrant": IndexSettings(engine="qdrant", qdrant=QdrantSettings(threads=1)),
}

TINY = (
    *("backbone.model=test_vit", "backbone.weights=random", "image.size=[32,32]", "runtime.device=cpu"),
    *("features.projection_width=16", "objective.infonce.head_width=16", "objective.infonce.support_size=16"),
    *("bank.max_patches=24", "runtime.batch_size=2"),
)


@dataclass(frozen=True)
class Change:
    """One change: ``run`` makes it in a folder that ``prepare`` has filled, and may be run again.

    ``result`` is the name of the index that it changes or makes. ``repeats`` says that to run it again does
    no harm once it was made; else it is refused then.
    """

    run: Callable[[Path, IndexSettings], object]
    result: str = "index"
    prepare: Callable[[Path, IndexSettings], None] | None = None
    repeats: bool = False

    def fill(self, folder: Path, settings: IndexSettings) -> None:
        """Make what there is before."""
        (self.prepare or prepare_index)(folder, settings)


def set_up(engine: str) -> IndexSettings:
    """The settings of an engine of the table, for this process alone."""
    tail.SMALL_ROWS = 8 if engine.endswith("tail") else 65_536
    return ENGINES[engine]


def new_image(number: int, *, seed: int = 0, rows: int = ROWS) -> NewImage:
    """An image with random rows and a thumbnail of random bytes."""
    rng = np.random.default_rng([number, seed])
    vectors = rng.standard_normal((rows, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = rng.integers(1, 256, (rows, CLASSES)).astype(np.uint8)
    places = np.stack([np.arange(rows) // 4, np.arange(rows) % 4], axis=1).astype(np.int32)
    record = ImageRecord(number, f"photo{number}", f"/photos/{number}.jpg", f"{number:064x}", 40, 60, rows)
    return NewImage(record, vectors, labels, places, rng.bytes(3000))


def create(folder: Path, settings: IndexSettings, numbers: range = range(4)) -> None:
    """An index of random images, with features and thumbnails."""
    images = [new_image(number) for number in numbers]
    classes = ClassMap(tuple(ClassInfo(i, f"class {i}", (i, i, i)) for i in range(CLASSES)), ignore=(255,))
    manifest = Manifest(
        classes,
        Cosine(WIDTH),
        recipe={"seed": 3, "index": settings.model_dump(mode="json")},
        fingerprints={"weights": "abc"},
        counts={"images": len(images)},
        dataset={"name": "toy"},
    )
    rows = sum(len(image.vectors) for image in images)
    sample = np.concatenate([image.vectors for image in images])
    with create_index(folder, manifest, rows=rows, sample=sample, settings=settings) as index:
        for image in images:
            _add(index, image)
        index.flush(
            images=[image.record for image in images],
            thumbnails={image.record.number: image.thumbnail or b"" for image in images},
        )


def _add(index: PatchIndex, image: NewImage) -> None:
    numbers = np.full((len(image.places), 1), image.record.number, dtype=np.int32)
    index.add(image.vectors, image.labels, np.hstack([numbers, image.places]))


def prepare_index(folder: Path, settings: IndexSettings) -> None:
    create(folder / "index", settings)


def _prepare_two(folder: Path, settings: IndexSettings) -> None:
    create(folder / "index", settings)
    create(folder / "second", settings, range(4, 6))


def _prepare_images(folder: Path, settings: IndexSettings) -> None:
    for part in ("images", "masks"):
        (folder / "data" / part).mkdir(parents=True)
    for number in range(3):
        rng = np.random.default_rng(number)
        mask: npt.NDArray[np.uint8] = np.kron(rng.integers(0, 3, (4, 4)), np.ones((8, 8), int)).astype(
            np.uint8
        )
        mask[0, :3] = (0, 1, 2)
        photo = (mask[:, :, None] * 80 + rng.integers(0, 60, (*mask.shape, 3))).astype(np.uint8)
        Image.fromarray(photo).save(folder / "data" / "images" / f"photo{number}.png")
        Image.fromarray(mask).save(folder / "data" / "masks" / f"photo{number}.png")


def _build(folder: Path, settings: IndexSettings) -> object:
    from indexer import build_index, load_dataset, load_recipe
    from indexer.bank import parts

    parts.PART_IMAGES = 2
    recipe = load_recipe(None, TINY).model_copy(update={"index": settings})
    return build_index(load_dataset(folder / "data"), folder / "out", recipe=recipe)


def _compact(folder: Path, settings: IndexSettings) -> object:
    options = CompactOptions(keep=0.4)
    return compact_index(folder / "index", folder / "out", options=options, settings=settings)


CHANGES = {
    "create": Change(lambda f, s: create(f / "out", s), "out", lambda f, s: None),
    "build": Change(_build, "out", _prepare_images),
    "add": Change(lambda f, s: add_images(f / "index", [new_image(4), new_image(5)])),
    "replace": Change(
        lambda f, s: add_images(f / "index", [new_image(2, seed=1, rows=9)], replace_known=True), repeats=True
    ),
    "remove": Change(lambda f, s: remove_images(f / "index", ["photo1", "photo3"])),
    "relabel": Change(lambda f, s: relabel_index(f / "index", {"class 2": "class 1"})),
    "merge": Change(
        lambda f, s: merge_indexes(f / "index", f / "second", f / "out", settings=s), "out", _prepare_two
    ),
    "convert": Change(lambda f, s: convert_index(f / "index", f / "out", settings=s), "out"),
    "compact": Change(_compact, "out"),
}


def cases() -> list[tuple[str, str]]:
    """(engine, change) of all that can be."""
    return [
        (engine, change)
        for engine in ENGINES
        for change in CHANGES
        # a tail comes by adding; the embedded Qdrant keeps no multiplicity
        if not (engine.endswith("tail") and change not in ("add", "replace", "remove"))
        and not (engine == "qdrant" and change == "compact")
    ]


def state_of(path: Path) -> str | None:
    """What the index in a folder holds, read and checked in full, as a digest; None where there is none.

    Row ids and versions of files do not count: a change that is made twice gives other ones.
    """
    if not (path / "manifest.json").exists():
        return None
    folder = IndexFolder.open(path)
    folder.verify()
    with folder.index(verify=True) as index:
        ids = {record.number: (record.id, record.patches) for record in folder.records if not record.removed}
        rows = []
        for block in index.stream():
            for vector, label, place in zip(block.vectors, block.labels, block.patches, strict=True):
                key = (ids[int(place[0])], *place[1:].tolist(), label.tolist())
                rows.append(repr((key, np.round(vector, 3).tolist())))
        found = _search(index, ids)
    thumbs = {id: _sum(folder.thumbnail(number)) for number, (id, _) in ids.items()}
    whole = {
        "rows": sorted(rows),
        "count": [len(index), folder.live_rows],
        "images": sorted(ids.values()),
        "classes": folder.manifest.classes.to_json(),
        "thumbs": thumbs,
        "search": found,
        "features": _sum(path / FEATURES),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _search(index: PatchIndex, ids: dict[int, tuple[str, int]]) -> list[object]:
    """The nearest row of some queries: where it is from, and its label."""
    queries = np.random.default_rng(9).standard_normal((5, index.similarity.width)).astype(np.float32)
    found = index.search(queries, 1)
    places = index.patches(found.ids)[:, 0]
    labels = found.labels[:, 0]
    return [(ids[int(p[0])][0], *p[1:].tolist(), row.tolist()) for p, row in zip(places, labels, strict=True)]


def _sum(path: Path | None) -> str:
    return "" if path is None or not path.is_file() else hashlib.sha256(path.read_bytes()).hexdigest()
