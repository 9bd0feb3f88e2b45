"""What tuning expected of a recipe, from the train images alone, beside what the recipe then scored.

mycelia tune DATA --split train --group 9 ... --out tuned.yaml --json tuned.json
mycelia index build DATA --split train --config tuned.yaml --out tuned.index
mycelia evaluate tuned.index DATA --split val --json score.json
python -m benchmarks.tuning tuned.json score.json [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.report import write_table


def rows_of(tuned: dict[str, Any], score: dict[str, Any]) -> list[dict[str, object]]:
    """One row an expectation, then the interval that spans them, in percent, beside the score."""
    expected, scored = tuned["expected"], 100 * score["miou"]
    named = {"like the memory": expected["like_memory"], "a new group": expected["new_group"]}
    named["either"] = {"low": expected["low"], "high": expected["high"]}
    table: list[dict[str, object]] = []
    for name, found in named.items():
        if found is None:
            continue
        low, high = 100 * found["low"], 100 * found["high"]
        table.append(
            {
                "new images": name,
                "expected": f"{100 * found['miou']:.1f}" if "miou" in found else "",
                "low": f"{low:.1f}",
                "high": f"{high:.1f}",
                "scored": f"{scored:.2f}",
                "outside by": f"{max(low - scored, scored - high, 0):.1f}",
            }
        )
    return table


def plain_values(chosen: dict[str, Any]) -> list[tuple[str, object]]:
    """A setting's values by name, the reduction's among them where there is one."""
    reduction = chosen["reduction"]
    given = [] if reduction["kind"] == "none" else ["kind", "width", "shrinkage"]
    values = [(name, value) for name, value in chosen.items() if name != "reduction"]
    return values + [("metric" if name == "kind" else name, reduction[name]) for name in given]


def main() -> None:
    """Read both reports, print and track."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tuned", type=Path, help="what `mycelia tune --json` wrote")
    parser.add_argument("score", type=Path, help="what `mycelia evaluate --json` wrote")
    parser.add_argument("--out", type=Path, help="write the tracked table to this folder")
    parser.add_argument("--name", default="tuning", help="name of the tracked table")
    args = parser.parse_args()
    tuned, score = (json.loads(path.read_text()) for path in (args.tuned, args.score))
    chosen = ", ".join(f"{name} {value}" for name, value in plain_values(tuned["chosen"]))
    notes = [
        f"Chosen ({tuned['written']}) of {len(tuned['settings'])} scores: {chosen}. {tuned['queries']} of "
        f"{tuned['images']} train images were segmented, {tuned['groups'] or tuned['images']} left out one "
        f"at a time; index: {tuned['index']['reason']}.",
        f"Tuning took {tuned['seconds'] / 60:.1f} minutes, and {tuned['processor_seconds'] / 60:.1f} of "
        "processor time.",
        f"Scored on {score['images']} images of {score['dataset']['split']}.",
    ]
    write_table(args.name, rows_of(tuned, score), folder=args.out, notes=notes)


if __name__ == "__main__":
    main()
