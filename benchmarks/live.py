"""One image into an index that is in use, out of it, and replaced: seconds and bytes written, by rows.

    python -m benchmarks.live --rows 10000 100000 1000000 --out benchmarks/results

Vectors are synthetic (unit vectors in clusters, 384 numbers), 1,000 rows an image, 11 classes; features come
on top (``extraction.md``). A call opens the index, changes it and commits, as a command does.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.command import plain_parser, track
from benchmarks.report import write_table
from retrieval import (
    ClassInfo,
    ClassMap,
    Cosine,
    ImageRecord,
    IndexFolder,
    IndexSettings,
    Manifest,
    create_index,
)
from retrieval.edit.add import NewImage, add_images
from retrieval.edit.remove import remove_images

WIDTH, CLASSES, IMAGE_ROWS, CLUSTERS = 384, 11, 1000, 1000
THUMBNAIL = bytes(8000)


def image_rows(number: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Vectors, labels and places of one image."""
    rng = np.random.default_rng(number)
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, WIDTH), dtype=np.float32)
    chosen = rng.integers(CLUSTERS, size=IMAGE_ROWS)
    vectors = centres[chosen] + rng.standard_normal((IMAGE_ROWS, WIDTH), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.zeros((IMAGE_ROWS, CLASSES), dtype=np.uint8)
    labels[np.arange(IMAGE_ROWS), chosen % CLASSES] = 255
    places = np.stack(np.divmod(np.arange(IMAGE_ROWS), 40), axis=1).astype(np.int32)
    return vectors, labels, places


def record_of(number: int) -> ImageRecord:
    """The record of an image."""
    return ImageRecord(number, f"image-{number}", f"{number}.jpg", f"{number:064x}", 480, 640, IMAGE_ROWS)


def build(folder: Path, settings: IndexSettings, rows: int) -> None:
    """An index of so many rows."""
    classes = tuple(ClassInfo(n, f"class {n}", (n, n, n)) for n in range(CLASSES))
    images = rows // IMAGE_ROWS
    manifest = Manifest(ClassMap(classes), Cosine(WIDTH), counts={"images": images})
    wanted = settings.spec.rows_to_train(rows)
    sample = None
    if wanted:
        first = range(min(images, -(-wanted // IMAGE_ROWS)))
        sample = np.concatenate([image_rows(number)[0] for number in first])[:wanted]
    with (
        create_index(folder, manifest, rows=rows, sample=sample, settings=settings) as index,
        track(f"{settings.engine}, {rows:,} rows", images) as task,
    ):
        for number in range(images):
            vectors, labels, places = image_rows(number)
            numbers = np.full((IMAGE_ROWS, 1), number, dtype=np.int32)
            index.add(vectors, labels, np.hstack([numbers, places]))
            task.advance()
        records = [record_of(number) for number in range(images)]
        index.flush(images=records, thumbnails={record.number: THUMBNAIL for record in records})


def new_image(number: int, *, id: int | None = None) -> NewImage:
    """An image to add, or to put in the place of another."""
    vectors, labels, places = image_rows(number)
    return NewImage(record_of(number if id is None else id), vectors, labels, places, THUMBNAIL)


def files_of(folder: Path) -> dict[int, int]:
    """Inode and size of every file."""
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return {status.st_ino: status.st_size for status in found}


def written(before: dict[int, int], after: dict[int, int]) -> int:
    """Bytes of new files, and what others grew by."""
    return sum(size - before.get(inode, 0) for inode, size in after.items())


def measure(folder: Path, rows: int, tries: int, *, shared: bool) -> dict[str, Any]:
    """Medians of a few changes; ``shared``: whether another reader may have the index open."""
    images = rows // IMAGE_ROWS
    reader = IndexFolder.open(folder).index() if shared else None
    changes: dict[str, Callable[[int], object]] = {
        "add": lambda n: add_images(folder, [new_image(images + n)]),
        "replace": lambda n: add_images(folder, [new_image(images + n, id=n)], replace_known=True),
        "remove": lambda n: remove_images(folder, [f"image-{n}"]),
    }
    row: dict[str, Any] = {}
    seconds: list[float] = []
    for name, change in changes.items():
        taken, sizes = [], []
        for number in range(tries):
            before = files_of(folder)
            start = time.perf_counter()
            change(number)
            taken.append(time.perf_counter() - start)
            sizes.append(written(before, files_of(folder)))
            if reader is not None:
                start = time.perf_counter()
                reader.refresh()
                seconds.append(time.perf_counter() - start)
        row[f"{name} (s)"] = f"{statistics.median(taken):.2f}"
        row[f"{name} slowest (s)"] = f"{max(taken):.2f}"
        row[f"{name} written (MB)"] = f"{statistics.median(sizes) / 1e6:.2f}"
    row["refresh (ms)"] = f"{1000 * statistics.median(seconds):.0f}" if seconds else "-"
    if reader is not None:
        start = time.perf_counter()
        for _ in range(1000):
            reader.refresh()
        row["refresh of nothing (ms)"] = f"{time.perf_counter() - start:.4f}"
        reader.close()
    else:
        row["refresh of nothing (ms)"] = "-"
    return row


def main() -> None:
    """Print the table, and write it with ``--out``."""
    parser = plain_parser(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--engines", nargs="+", default=["exact", "faiss", "qdrant"])
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--name", default="live")
    parser.add_argument(
        "--most", nargs="*", default=["qdrant=100000"], help="ENGINE=ROWS: no more of that one"
    )
    arguments = parser.parse_args()
    table: list[dict[str, Any]] = []
    most = {engine: int(rows) for engine, rows in (text.split("=") for text in arguments.most)}
    for engine in arguments.engines:
        for rows in arguments.rows:
            if rows > most.get(engine, rows):
                continue
            with tempfile.TemporaryDirectory(prefix="mycelia-live-") as name:
                folder = Path(name) / "index"
                build(folder, IndexSettings(engine=engine), rows)
                size = sum(files_of(folder).values())
                found = measure(folder, rows, arguments.tries, shared=engine != "qdrant")
                table.append(
                    {"engine": engine, "rows": f"{rows:,}", "index (MB)": f"{size / 1e6:.0f}", **found}
                )
    notes = [
        "Medians; a call opens the index, changes one image of 1,000 rows and commits. Features come on top.",
        "`written`: bytes of new files, and of what others grew by. Embedded Qdrant copies its folder.",
    ]
    write_table(arguments.name, table, folder=arguments.out, notes=notes, json_file=arguments.json)


if __name__ == "__main__":
    main()
