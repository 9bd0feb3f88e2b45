"""Write the golden indexes of the present format; run once for each new format version, never for an old one.

    python tests/golden/make.py tests/golden

They are plain arithmetic, with no model behind them: what matters is that every later version of the
code still opens them and finds the same neighbours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from retrieval import (
    ClassInfo,
    ClassMap,
    Cosine,
    ImageRecord,
    IndexSettings,
    Manifest,
    create_index,
    open_index,
)
from retrieval.similarity import GradientProduct, Reranked, Similarity
from retrieval.store.manifest import FORMAT

ROWS, WIDTH, IMAGES = 24, 8, 3
SKY, ROAD = ClassInfo(0, "sky", (70, 130, 180)), ClassInfo(7, "road", (128, 64, 128))
CLASSES = ClassMap((SKY, ROAD), ignore=(255,))
#: So many that labels are stored sparse; the columns between sky and road stay empty.
MANY = ClassMap((SKY, *(ClassInfo(n, f"class {n}", (n, n, n)) for n in range(8, 46)), ROAD), ignore=(255,))
#: The embedding in front of gradient and activation, all of vectors of WIDTH numbers.
RERANKED = Reranked(Cosine(3), GradientProduct(3, 2, 3, 0.5), candidates=9, separate=False)


def unit_vectors(rows: int, *, phase: float) -> np.ndarray:
    """(rows, WIDTH) float32 unit vectors, from sines so that no random generator has to stay the same."""
    angles = np.outer(np.arange(1, rows + 1), np.arange(1, WIDTH + 1)) * 0.7 + phase
    vectors = np.sin(angles)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def write(
    folder: Path,
    engine: str,
    classes: ClassMap,
    *,
    weights: np.ndarray | None = None,
    similarity: Similarity = Cosine(WIDTH),  # noqa: B008
) -> None:
    """One golden index and, beside it, the neighbours that it must give."""
    shares = np.linspace(0, 255, ROWS).round().astype(np.uint8)
    labels = np.zeros((ROWS, len(classes)), dtype=np.uint8)
    labels[:, 0], labels[:, -1] = shares, 255 - shares
    patches = np.stack([np.arange(ROWS) % IMAGES, np.arange(ROWS) // 6, np.arange(ROWS) % 6], axis=1)
    records = [
        ImageRecord(n, f"image-{n}", f"image-{n}.png", "0" * 64, 48, 72, ROWS // IMAGES)
        for n in range(IMAGES)
    ]
    manifest = Manifest(
        classes=classes, similarity=similarity, recipe={"seed": 0}, fingerprints={"weights": "none"}
    )
    settings = IndexSettings(engine=engine)
    with create_index(folder, manifest, rows=ROWS, settings=settings) as index:
        index.add(unit_vectors(ROWS, phase=0.0), labels, patches.astype(np.int32), multiplicity=weights)
        index.flush(images=records)
    with open_index(folder) as index:  # a second state, whose changed files have names of their own
        index.remove(1)
        index.flush()
        found = index.search(unit_vectors(4, phase=0.3), 5)
    expected = {
        "ids": found.ids.tolist(),
        "similarities": found.similarities.tolist(),
        "labels": found.labels.tolist(),
        "weights": None if found.multiplicity is None else found.multiplicity.tolist(),
    }
    folder.with_suffix(".json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    base = Path(sys.argv[1]) / f"format-{FORMAT}"
    for name in ("exact", "faiss"):
        write(base.with_name(f"{base.name}-{name}"), name, CLASSES)
    counts = np.arange(1, ROWS + 1, dtype=np.float32)
    write(base.with_name(f"{base.name}-sparse-weighted"), "exact", MANY, weights=counts)
    write(base.with_name(f"{base.name}-reranked"), "exact", CLASSES, similarity=RERANKED)
