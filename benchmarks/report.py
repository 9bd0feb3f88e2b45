"""What every benchmark prints and tracks: a table, and the machine, commit and command behind it."""

from __future__ import annotations

import csv
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

Row = Mapping[str, object]


def provenance() -> dict[str, str]:
    """Command, commit, date, machine and versions."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    changed = subprocess.run(
        ["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False
    )
    versions = [
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "timm", "numpy", "faiss-cpu")
    ]
    return {
        "command": shlex.join(
            ["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(_portable, sys.argv[1:])]
        ),
        "commit": (commit.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else ""),
        "date": datetime.date.today().isoformat(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "versions": f"Python {platform.python_version()}, " + ", ".join(versions),
    }


def write_table(
    name: str,
    rows: Sequence[Row],
    *,
    folder: Path | None,
    notes: Sequence[str] = (),
    json_file: Path | None = None,
) -> None:
    """Print rows of equal keys; with ``folder`` also write ``name.csv`` and ``name.md`` there.

    ``json_file`` gets the rows as a list.
    """
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=1) + "\n")
    table = Table(title=name)
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=160).print(table)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (folder / f"{name}.md").write_text(_markdown(name, rows, notes), encoding="utf-8")


def _markdown(name: str, rows: Sequence[Row], notes: Sequence[str]) -> str:
    lines = [f"# {name}", ""]
    lines += [f"- {key}: {value}" for key, value in provenance().items()]
    lines += ["", "| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    if notes:
        lines += ["", *notes]
    return "\n".join(lines) + "\n"


def _portable(word: str) -> str:
    """A word of the command line; an absolute path as seen from here, since tables go to other machines."""
    return os.path.relpath(word) if Path(word).is_absolute() else word


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"
