"""What finer patch grids, mirror images and refined edges give: reports of one index, side by side.

    mycelia evaluate cam.index DATA --split val --json plain.json
    mycelia evaluate cam.index DATA --split val --json finer.json image.shifts=2 transfer.refine=guided
    python -m benchmarks.masks plain.json finer.json [--name masks] [--out FOLDER]

Gains are over the first report; their errors are those of the mean over images of the paired difference of
each image's own mIoU.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.command import plain_parser
from benchmarks.report import Row, write_table

Report = dict[str, Any]


def row_of(report: Report, base: Report) -> Row:
    """The settings and scores of a report, in percent, and its gain over another of the same images."""
    image, transfer = report["recipe"]["image"], report["recipe"]["transfer"]
    own, others = ({each["id"]: each["miou"] for each in one["per_image"]} for one in (report, base))
    gains = [100 * (own[name] - others[name]) for name in own if None not in (own[name], others[name])]
    error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else 0.0
    return {
        "image.shifts": image["shifts"],
        "image.flip": str(image["flip"]).lower(),
        "transfer.refine": transfer["refine"],
        "mIoU": f"{100 * report['miou']:.1f}",
        "boundary IoU": f"{100 * report['boundary_miou']:.1f}",
        "an image's mIoU, gain": f"{statistics.mean(gains):+.1f} +- {error:.1f}",
    }


def main() -> None:
    """Read the reports, print and track."""
    parser = plain_parser(__doc__)
    parser.add_argument("reports", type=Path, nargs="+", help="what `mycelia evaluate --json` wrote")
    parser.add_argument("--name", default="masks", help="name of the tracked table")
    args = parser.parse_args()
    reports = [json.loads(path.read_text()) for path in args.reports]
    first = reports[0]
    ids = {each["id"] for each in first["per_image"]}
    for path, report in zip(args.reports, reports, strict=True):
        if {each["id"] for each in report["per_image"]} != ids or report["index"] != first["index"]:
            parser.error(f"{path} is of another index or other images than {args.reports[0]}")
    kind, transfer = first["recipe"]["features"]["kind"], first["recipe"]["transfer"]
    notes = [
        f"{first['index']['rows']} rows of {first['index']['dataset']['name']}; {first['images']} images of "
        f"{first['dataset']['split']}; features.kind {kind}, k {transfer['k']}, T {transfer['temperature']}."
    ]
    rows = [row_of(report, first) for report in reports]
    write_table(args.name, rows, folder=args.out, notes=notes, json_file=args.json)


if __name__ == "__main__":
    main()
