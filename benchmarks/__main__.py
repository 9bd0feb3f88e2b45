"""All benchmarks, one after another, on one data set.

    python -m benchmarks quick --data DATA      # small banks, under ten minutes on two cores
    python -m benchmarks full --data DATA       # the tracked tables; hours

DATA is CamVid in SegNet's layout, or anything that `mycelia index build` reads and that has the splits train
and val. What was built is kept in ``--work`` and used again.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from retrieval.store.manifest import has_manifest

RECIPE = "camvid.yaml"


@dataclass(frozen=True)
class Size:
    """How much is measured: settings of the banks, and arguments of the benchmarks."""

    banks: dict[str, list[str]]
    runs: list[list[str]]


def quick() -> Size:
    """About 100,000 patches of 120 images."""
    bank = ["bank.max_images=120", "bank.max_patches=null", "features.projection_width=384"]
    return Size(
        banks={"bank": bank},
        runs=[
            ["extraction", "--images", "4"],
            ["search", "{bank}", "{data}", "--rows", "100000", "--images", "8", "--batches", "4"],
            ["memory", "{bank}", "{data}", "--rows", "100000"],
            ["latency", "{bank}", "{data}", "--images", "4"],
            ["scaling", "{bank}", "{data}", "--images", "8", "--sizes", "10000", "30000", "100000"],
            ["quality", "{bank}", "{data}", "--images", "8", "--only", "float16", "default", "PCA"],
            ["objectives", "{data}", "--config", RECIPE, "--images", "8", "--seeds", "2", "--blocks", "9"],
        ],
    )


def full() -> Size:
    """The tracked tables."""
    every = ["bank.max_patches=null"]
    narrow = [*every, "features.projection_width=384"]
    return Size(
        banks={
            "default": [],
            "all": every,
            "million": [*narrow, "bank.epochs=4"],
            "ten_million": [*narrow, "bank.epochs=32", "runtime.precision=bfloat16"],
        },
        runs=[
            ["extraction"],
            ["engines", "{all}", "{data}"],
            ["search", "{million}", "{data}"],
            ["memory", "{million}", "{data}"],
            ["latency", "{million}", "{data}"],
            ["scaling", "{million}", "{data}", "--larger", "{ten_million}"],
            ["quality", "{default}", "{data}"],
            ["objectives", "{data}", "--config", RECIPE],
        ],
    )


def main() -> None:
    """Build the banks that are missing, run everything, say how long it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("size", choices=("quick", "full"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("out/bench"), help="banks, queries, JSON files")
    parser.add_argument("--only", nargs="*", help="these benchmarks")
    parser.add_argument("--out", type=Path, help="write the tracked tables to this folder")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"{arguments.data}: no data set to measure on; give --data FOLDER (make bench DATA=FOLDER)")
    size = quick() if arguments.size == "quick" else full()
    place = hashlib.sha256(str(arguments.data.resolve()).encode()).hexdigest()[:8]  # a bank for each data set
    work = arguments.work / f"{arguments.size}-{place}"
    work.mkdir(parents=True, exist_ok=True)
    places = {"data": str(arguments.data), "work": str(work)}
    places |= {name: str(work / f"{name}.index") for name in size.banks}
    start = time.perf_counter()
    for name, *options in size.runs:
        if arguments.only and name not in arguments.only:
            continue
        for bank, settings in size.banks.items():
            if f"{{{bank}}}" in options:
                prepare(arguments.data, Path(places[bank]), settings)
        run = [sys.executable, "-m", f"benchmarks.{name}", *(option.format(**places) for option in options)]
        run += ["--json", str(work / f"{name}.json")]
        if name != "extraction":
            run += ["--cache", str(work)]
        if arguments.out:
            run += ["--out", str(arguments.out)]
        subprocess.run(run, check=True)
    print(f"all benchmarks: {time.perf_counter() - start:.0f} s; figures in {work}", file=sys.stderr)


def prepare(data: Path, folder: Path, settings: list[str]) -> None:
    """Build an exact bank of the train split where it is not there yet."""
    if has_manifest(folder):
        return
    command = [sys.executable, "-c", "from segmentation.cli import main; main()", "index", "build", str(data)]
    command += ["--split", "train", "--out", str(folder), "--config", RECIPE, "--engine", "exact", *settings]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
