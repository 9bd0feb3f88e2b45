"""How small a memory may get: random choice, balanced sampling and compaction, scored as in ``evaluate``.

    mycelia index build DATA --split train --out all.index --config camvid.yaml --engine exact \\
        bank.max_patches=null
    python -m benchmarks.compaction all.index DATA --split train --folds 3 --images 12 \\
        [--how weight_rarity=0 label_scale=0,budget_rarity=0]
    python -m benchmarks.compaction all.index DATA --split val [--out benchmarks/results --name compaction]

INDEX is an exact index of all patches of the train images. ``--split train`` never looks at another image:
one of ``--folds`` groups of train images is left out of the memory at a time, and segmented; a group is made
of stretches, images whose ids begin with the same ``--letters`` letters. Choose there, confirm with
``--split val``. ``balanced`` takes the same number of patches of every image, rare classes first, as
``bank.max_patches`` does; ``default`` is that with ``--per-image``. This one and ``all`` use FAISS, chosen by
size as in the recipes, the others exact search. Features of the images to segment are computed once, and
neighbours once for all ``--k``.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.bank import allocated_bytes, spaced, use_threads
from benchmarks.command import track
from benchmarks.report import write_table
from indexer.bank.sampling import choose_patches
from indexer.datasets import Dataset, load_dataset
from indexer.seeds import generator_for
from retrieval import (
    ImageRecord,
    IndexSettings,
    create_index,
    open_index,
    read_images,
    read_manifest,
)
from retrieval.edit.compact import CompactOptions, compact_index
from retrieval.edit.convert import convert_index
from segmentation import Segmenter
from segmentation.cli.progress import ProgressDisplay
from segmentation.description import Description
from segmentation.labelling import label_pixels
from segmentation.scoring.columns import column_table
from segmentation.scoring.metrics import Confusion, confusion_matrix, mean_iou

EXACT, FAISS = IndexSettings(engine="exact"), IndexSettings(engine="faiss")

#: Files of an index that grow with its rows.
ROW_FILES = ("vectors.npy", "vectors.faiss", "labels.npy", "patches.npy", "weights.npy")

Rows = npt.NDArray[np.int64]


def main() -> None:
    """Make the memories, score them, print, and write the table."""
    args = parse()
    use_threads(args.threads)
    dataset = load_dataset(args.data, split=args.split)
    totals: dict[tuple[str, str, int], Confusion] = {}
    sizes: dict[tuple[str, str], list[tuple[int, int]]] = {}
    with Segmenter.open(args.index) as segmenter:
        for asked, left_out in folds(dataset, args):
            described = [segmenter.describe(sample.image) for sample in asked.samples]
            for keep, method, folder in memories(args, left_out):
                sizes.setdefault((keep, method), []).append(size_of(folder))
                for k, confusion in score(folder, segmenter, asked, described, args.k).items():
                    totals[keep, method, k] = totals.get((keep, method, k), 0) + confusion
                if folder != args.index:
                    shutil.rmtree(folder)
                show = ", ".join(f"k {k}: {100 * mean_iou(totals[keep, method, k]):.2f}" for k in args.k)
                print(f"{keep}, {method}: {show}", flush=True)
    table = [line(keep, method, sizes[keep, method], totals, args.k) for keep, method in sizes]
    groups = f" of each of {args.folds} groups left out" if args.split == "train" else ""
    default = f"; default is a bank of {args.per_image} patches an image" if args.per_image else ""
    note = (
        f"Scored on {args.split}, {args.images or 'all'} images{groups}; T as in the recipe. keep is the "
        f"share of all patches of the memory images{default}. "
        "Rows are means over groups; bytes are those of vectors, labels, positions and weights on disk "
        "(FAISS keeps float32, or codes beside float16, the others float16)."
    )
    write_table(args.name, table, folder=args.out, notes=[note])


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("index", type=Path, help="an exact index of all patches of the train images")
    parser.add_argument("data", type=Path, help="labelled images")
    parser.add_argument("--split", default="val", help="val, or train to leave groups out")
    parser.add_argument(
        "--images", type=int, help="images to segment (of each group), evenly spaced; all without"
    )
    parser.add_argument(
        "--keep", type=float, nargs="*", default=[0.1, 0.0344], help="shares of the rows to keep"
    )
    parser.add_argument(
        "--per-image", type=int, default=300, help="patches of an image in the default bank; 0: leave out"
    )
    parser.add_argument("--methods", nargs="*", default=["all", "random", "balanced", "compacted"])
    parser.add_argument(
        "--how", nargs="*", default=[], help="also compact with key=value[,key=value] changed"
    )
    parser.add_argument("--k", type=int, nargs="+", default=[30, 10])
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--letters", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("out/compaction"), help="folder for the memories")
    parser.add_argument("--out", type=Path, help="write the tracked table to this folder")
    parser.add_argument("--name", default="compaction", help="name of the tracked table")
    return parser.parse_args()


def folds(dataset: Dataset, args: argparse.Namespace) -> Iterator[tuple[Dataset, set[str]]]:
    """Images to segment, and the ids of those that the memory must do without."""
    if args.split != "train":
        yield spaced(dataset, args.images or len(dataset)), set()
        return
    names = list(dict.fromkeys(sample.id[: args.letters] for sample in dataset.samples))
    for fold in range(args.folds):
        mine = set(names[fold :: args.folds])
        inside = [sample for sample in dataset.samples if sample.id[: args.letters] in mine]
        group = replace(dataset, samples=tuple(inside))
        yield spaced(group, args.images or len(group)), {sample.id for sample in inside}


def memories(args: argparse.Namespace, left_out: set[str]) -> Iterator[tuple[str, str, Path]]:
    """(keep, method, folder) of each memory; a folder is made when its turn comes."""
    source = args.index
    records = [record for record in read_images(args.index) if record.id not in left_out]
    allowed = rows_of(args.index, records)
    args.work.mkdir(parents=True, exist_ok=True)
    if left_out:
        source = subset(args.index, allowed, args.work / "source", EXACT)
    if "all" in args.methods:
        yield "1", "all", convert(source, args.work / "all")
    if args.per_image:
        chosen = balanced(args.index, records, args.per_image)
        exact = subset(args.index, chosen, args.work / "exact", EXACT)
        yield "default", "balanced", convert(exact, args.work / "default")
        if "compacted" in args.methods:
            folder, keep = args.work / "small", args.keep[0]
            compact_index(exact, folder, options=CompactOptions(keep), settings=EXACT)
            yield f"{keep:g} of default", "compacted", folder
        shutil.rmtree(exact)
    for keep in args.keep:
        total = round(keep * len(allowed))
        if "random" in args.methods:
            chosen = np.sort(np.random.default_rng(0).permutation(allowed)[:total])
            yield f"{keep:g}", "random", subset(args.index, chosen, args.work / "random", EXACT)
        if "balanced" in args.methods:
            chosen = balanced(args.index, records, max(1, round(total / len(records))))
            yield f"{keep:g}", "balanced", subset(args.index, chosen, args.work / "balanced", EXACT)
        hows = [("compacted", CompactOptions(keep))] if "compacted" in args.methods else []
        for name, how in [*hows, *((f"compacted {text}", parse_how(text, keep)) for text in args.how)]:
            folder = args.work / "compacted"
            compact_index(source, folder, options=how, settings=EXACT, progress=ProgressDisplay())
            yield f"{keep:g}", name, folder
    if left_out:
        shutil.rmtree(source)


def parse_how(text: str, keep: float) -> CompactOptions:
    """Options from ``key=value,key=value``."""
    pairs = (pair.split("=") for pair in text.split(","))
    return CompactOptions(keep, **{key: float(value) for key, value in pairs})  # type: ignore[arg-type]


def rows_of(index: Path, records: Sequence[ImageRecord]) -> Rows:
    """Ids of the rows of some images, (n,) int64."""
    images = np.load(index / "patches.npy", mmap_mode="r")[:, 0]
    return np.flatnonzero(np.isin(images, [record.number for record in records])).astype(np.int64)


def balanced(index: Path, records: Sequence[ImageRecord], limit: int) -> Rows:
    """``limit`` rows of each image, rare classes first, as a build with ``bank.max_patches`` would choose."""
    images, labels = (
        np.load(index / "patches.npy", mmap_mode="r")[:, 0],
        np.load(index / "labels.npy", mmap_mode="r"),
    )
    chosen = []
    for record in records:
        rows = np.flatnonzero(images == record.number)
        kept = choose_patches(labels[rows].astype(np.int64), limit, generator_for(0, "patches", record.id, 0))
        chosen.append(rows[kept])
    return np.concatenate(chosen).astype(np.int64)


def subset(index: Path, rows: Rows, folder: Path, settings: IndexSettings) -> Path:
    """A new index of some rows, made afresh."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    manifest = replace(read_manifest(index), engine={}, files={})
    arrays = [np.load(index / f"{name}.npy", mmap_mode="r") for name in ("vectors", "labels", "patches")]
    with create_index(folder, manifest, rows=len(rows), settings=settings) as target:
        for start in range(0, len(rows), 8192):
            vectors, labels, patches = (array[rows[start : start + 8192]] for array in arrays)
            target.add(vectors.astype(np.float32), labels, patches)
        target.flush(images=read_images(index))
    return folder


def convert(source: Path, folder: Path) -> Path:
    """The same rows in the engine of the recipes."""
    shutil.rmtree(folder, ignore_errors=True)
    convert_index(source, folder, settings=FAISS, progress=ProgressDisplay())
    return folder


def score(
    folder: Path, segmenter: Segmenter, asked: Dataset, described: Sequence[Description], ks: Sequence[int]
) -> dict[int, Confusion]:
    """The confusion matrix of one memory for each k; ``segmenter`` described the images."""
    with open_index(folder) as index, track("evaluate", len(asked)) as task:
        classes, column_of = len(index.classes), column_table(asked, index.classes)
        totals = {k: np.zeros((classes, classes), dtype=np.int64) for k in ks}
        for sample, description in zip(asked.samples, described, strict=True):
            (view,) = description.views
            found = index.search(view.vectors, min(max(ks), len(index)))
            truth = column_of[asked.read_mask(sample)]
            for k in ks:
                labelled = label_pixels(
                    found.first(k),
                    view.geometry,
                    segmenter.extractor.patch_size,
                    temperature=segmenter.temperature,
                )
                totals[k] += confusion_matrix(truth, labelled.columns, classes)
            task.advance()
    return totals


def size_of(folder: Path) -> tuple[int, int]:
    """Rows of an index and the bytes that they take on disk."""
    files = [folder / name for name in ROW_FILES if (folder / name).exists()]
    return read_manifest(folder).counts["rows"], sum(allocated_bytes(path) for path in files)


def line(
    keep: str,
    method: str,
    sizes: list[tuple[int, int]],
    totals: dict[tuple[str, str, int], Confusion],
    ks: Sequence[int],
) -> dict[str, object]:
    """One line of the table."""
    rows, size = (round(float(np.mean(part))) for part in zip(*sizes, strict=True))
    scores = {f"mIoU k {k}": f"{100 * mean_iou(totals[keep, method, k]):.2f}" for k in ks}
    return {
        "keep": keep,
        "method": method,
        "rows": rows,
        "bytes a patch": round(size / rows),
        "MB": round(size / 1e6, 1),
        **scores,
    }


if __name__ == "__main__":
    main()
