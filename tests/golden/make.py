"""Write the golden indexes of the present format that are not there yet; none is ever written again.

    python tests/golden/make.py tests/golden

They are plain arithmetic, with no model behind them: what matters is that every later version of the
code still opens them and finds the same neighbours.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from retrieval import ClassInfo, ClassMap, Cosine, ImageRecord, IndexSettings, Manifest, create_index
from retrieval.manifest import FORMAT
from retrieval.similarity import GradientProduct, Reranked, Similarity

ROWS, WIDTH, IMAGES = 24, 8, 3
CLASSES = ClassMap((ClassInfo(0, "sky", (70, 130, 180)), ClassInfo(7, "road", (128, 64, 128))), ignore=(255,))
#: Name -> engine and similarity, all of vectors of WIDTH numbers.
KINDS: dict[str, tuple[str, Similarity]] = {
    "exact": ("exact", Cosine(WIDTH)),
    "faiss": ("faiss", Cosine(WIDTH)),
    "reranked": ("exact", Reranked(Cosine(3), GradientProduct(3, 2, 3, 0.5), candidates=9, separate=False)),
}


def unit_vectors(rows: int, *, phase: float) -> np.ndarray:
    """(rows, WIDTH) float32 unit vectors, from sines so that no random generator has to stay the same."""
    angles = np.outer(np.arange(1, rows + 1), np.arange(1, WIDTH + 1)) * 0.7 + phase
    vectors = np.sin(angles)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def write(folder: Path, engine: str, similarity: Similarity) -> None:
    """One golden index and, beside it, the neighbours that it must give."""
    shares = np.linspace(0, 255, ROWS).round().astype(np.uint8)
    labels = np.stack([shares, 255 - shares], axis=1)
    patches = np.stack([np.arange(ROWS) % IMAGES, np.arange(ROWS) // 6, np.arange(ROWS) % 6], axis=1)
    records = [
        ImageRecord(n, f"image-{n}", f"image-{n}.png", "0" * 64, 48, 72, ROWS // IMAGES)
        for n in range(IMAGES)
    ]
    manifest = Manifest(
        classes=CLASSES, similarity=similarity, recipe={"seed": 0}, fingerprints={"weights": "none"}
    )
    settings = IndexSettings(engine=engine)
    with create_index(folder, manifest, rows=ROWS, settings=settings) as index:
        index.add(unit_vectors(ROWS, phase=0.0), labels, patches.astype(np.int32))
        index.remove(1)
        index.flush(images=records)
        found = index.search(unit_vectors(4, phase=0.3), 5)
    expected = {
        "ids": found.ids.tolist(),
        "similarities": found.similarities.tolist(),
        "labels": found.labels.tolist(),
    }
    folder.with_suffix(".json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    for name, (kind, nearness) in KINDS.items():
        path = Path(sys.argv[1]) / f"format-{FORMAT}-{name}"
        if not path.exists():
            write(path, kind, nearness)
