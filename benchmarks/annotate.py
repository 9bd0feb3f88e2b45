"""The loop of annotation: few labels, proposals, two corrections, and what they are worth.

    python -m benchmarks.annotate DATA [--split train] [--labelled 10] [--photos 50] [--corrected 2]
        [--config fast.yaml] [--seeds 3] [--out benchmarks/results]

The commands of the README are run as a person would run them: ``assist`` on photos beside a few labelled
images, exporting to Label Studio and COCO; then the first photos of its list "label these next" get their
true masks and enter the memory by ``index replace``; ``evaluate`` scores the photos that nobody labelled,
before and after. Beside the list stand as many photos drawn at random, over seeds. All images are evenly
spaced.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.bank import spaced
from benchmarks.command import plain_parser
from benchmarks.report import write_table
from indexer.datasets import Dataset, Sample, load_dataset


def mycelia(*words: object) -> float:
    """Run the command; the seconds it took. Ends this script where it fails."""
    start = time.perf_counter()
    code = "from segmentation.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"mycelia {' '.join(map(str, words))}:\n{done.stderr}")
    return time.perf_counter() - start


def write_folder(dataset: Dataset, samples: Sequence[Sample], folder: Path) -> None:
    """Photos and masks of class ids as a plain data set."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    classes = dataset.classes
    (folder / "classes.json").write_text(json.dumps({**classes.to_json(), "ignore": [255]}))
    ids = np.append(classes.ids, 255).astype(np.uint8)  # the last one serves unlabelled pixels
    for sample in samples:
        shutil.copyfile(sample.image, folder / "images" / sample.image.name)
        mask = ids[dataset.read_mask(sample)]
        Image.fromarray(mask).save(folder / "masks" / f"{sample.image.stem}.png")


def score(index: Path, data: Path, split: str, ids: Sequence[str], work: Path) -> float:
    """mIoU of the samples with these ids, 0..1."""
    subset, report = work / "subset.txt", work / "score.json"
    subset.write_text("\n".join(ids))
    mycelia("evaluate", index, data, "--split", split, "--subset", subset, "--json", report)
    miou: float = json.loads(report.read_text())["miou"]
    report.unlink()
    return miou


def main() -> None:
    """Run the loop, print, and write the table."""
    parser = plain_parser(__doc__)
    parser.add_argument("data", type=Path, help="a data set with masks")
    parser.add_argument("--split", default="train")
    parser.add_argument("--labelled", type=int, default=10, help="images that have labels at first")
    parser.add_argument("--photos", type=int, default=50, help="photos without")
    parser.add_argument("--corrected", type=int, default=2, help="proposals that are corrected")
    parser.add_argument("--seeds", type=int, default=3, help="draws of as many photos at random")
    parser.add_argument("--config", default="fast.yaml")
    parser.add_argument("--name", default="annotate")
    arguments = parser.parse_args()
    dataset = spaced(
        load_dataset(arguments.data, split=arguments.split), arguments.labelled + arguments.photos
    )
    first = {sample.id for sample in spaced(dataset, arguments.labelled).samples}
    labelled = [sample for sample in dataset.samples if sample.id in first]
    others = [sample for sample in dataset.samples if sample.id not in first]
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        write_folder(dataset, labelled, work / "labelled")
        (work / "photos").mkdir()
        for sample in others:
            shutil.copyfile(sample.image, work / "photos" / sample.image.name)
        out, memory = work / "proposals", work / "memory.index"
        words = ("assist", work / "photos", "--labels", work / "labelled", "--out", out, "--index", memory)
        formats = "label-studio,coco"
        seconds = mycelia(*words, "--config", arguments.config, "--export", formats)
        ranked = [Path(entry["photo"]).stem for entry in json.loads((out / "next.json").read_text())["next"]]
        by_stem = {sample.image.stem: sample for sample in others}
        count = arguments.corrected
        chosen = {"label these next": [by_stem[stem] for stem in ranked[:count]]}
        for seed in range(arguments.seeds):
            picks = np.random.default_rng(seed).choice(len(others), count, replace=False)
            chosen[f"at random, seed {seed}"] = [others[i] for i in picks]
        rows: list[dict[str, object]] = []
        for number, (title, picked) in enumerate(chosen.items()):
            grown, corrected = work / f"{number}.index", work / f"corrected-{number}"
            shutil.copytree(memory, grown)
            rest = [sample.id for sample in others if sample not in picked]
            before = score(grown, arguments.data, arguments.split, rest, work)
            write_folder(dataset, picked, corrected)
            took = mycelia("index", "replace", grown, corrected)
            after = score(grown, arguments.data, arguments.split, rest, work)
            rows.append(
                {
                    "corrected": title,
                    "photos scored": len(rest),
                    "mIoU before": round(100 * before, 2),
                    "mIoU after": round(100 * after, 2),
                    "gain": round(100 * (after - before), 2),
                    "index replace s": round(took, 1),
                }
            )
    notes = [
        f"{len(labelled)} labelled images, {len(others)} photos, {count} corrected; assist with exports to "
        f"{formats} took {seconds:.0f} s. Rows are of different photos: compare gains."
    ]
    write_table(arguments.name, rows, folder=arguments.out, json_file=arguments.json, notes=notes)


if __name__ == "__main__":
    main()
