"""``mycelia segment``: photos in, masks out."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval.errors import ConfigError
from segmentation.cli.archives import unpack, with_given
from segmentation.cli.arguments import IndexPath, MaxPixels, SkipBad
from segmentation.cli.asked import Asked
from segmentation.cli.console import count_of, say, say_skipped, show, show_json
from segmentation.cli.exports import Export, ExportClasses, Exports, Tolerance
from segmentation.cli.files import check_folder
from segmentation.cli.frames import Every, FrameOptions, Resume, Smooth, is_video
from segmentation.cli.overrides import changed_recipe, open_segmenter, split_overrides
from segmentation.cli.photo_jobs import check_outputs, missing_jobs, plan_jobs


def segment(
    context: typer.Context,
    index: IndexPath,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|FOLDER|VIDEO|KEY=VALUE",
            help="Photos, folders or archives of photos, videos; and settings to change, for example "
            "runtime.device=cpu.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the masks.")],
    overlay: Annotated[
        bool,
        typer.Option(
            "--overlay", help="Also write NAME.overlay.jpg: the photo with its classes painted over."
        ),
    ] = False,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Also write NAME.confidence.png: grey, 255 is certain.")
    ] = False,
    export: Export = None,
    export_classes: ExportClasses = None,
    tolerance: Tolerance = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are in the way.")
    ] = False,
    resume: Resume = False,
    every: Every = 1,
    smooth: Smooth = 0.0,
    paint_background: Annotated[
        bool,
        typer.Option(
            "--paint-background", help="Paint classes named background, void or unlabelled in overlays too."
        ),
    ] = False,
    skip_bad: SkipBad = False,
    max_pixels: MaxPixels = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
    instances: Annotated[
        str | None,
        typer.Option(
            "--instances", metavar="CLASS,...", help="Classes whose regions --json lists; all but background."
        ),
    ] = None,
    min_area: Annotated[
        int, typer.Option("--min-area", min=1, help="Smallest region that --json lists, in pixels.")
    ] = 1,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            "--threshold",
            metavar="CLASS=T",
            help="Call a photo defective where the largest share of CLASS is T or more; may be repeated.",
        ),
    ] = None,
) -> None:
    """Segment photos and videos into palette PNGs of class ids.

    Each photo gets NAME.png, of its own size, with class ids in its pixels; photos in subfolders of a
    folder that is given get theirs in subfolders of the same names. A GeoTIFF, and a TIFF too large to be
    read at once, gets NAME.tif with the same georeference (needs mycelia[geo]). A video gets a folder NAME
    with a PNG for each frame, and with --overlay NAME.overlay.mp4, which is to look at.

    \b
    Examples:
      mycelia segment my.index photo.jpg --out masks --overlay
      mycelia segment my.index photos/ more/*.jpg --out masks --skip-bad
      mycelia segment my.index photos/ --out masks runtime.device=cpu transfer.k=50
      mycelia segment steel.index photos/ --out masks --json --instances scratch,pit --min-area 20
      mycelia segment steel.index photos/ --out masks --json --threshold scratch=0.4
      mycelia segment my.index photos/ --out masks image.shifts=2 transfer.refine=guided
      mycelia segment my.index photos/ --out masks --export coco,labelme --tolerance 1
      mycelia segment my.index clip.mp4 --out masks --overlay --smooth 0.6 --every 2

    \b
    Settings (KEY=VALUE) that may differ from those of the build, as `mycelia evaluate --help` lists them:
      transfer.*  runtime.*  rerank.candidates  image.shifts  image.flip  image.overlap
    """
    given, overrides = split_overrides(images)
    if not given:
        raise typer.BadParameter("expected a photo, a folder or a video", param_hint="IMAGE|FOLDER|VIDEO")
    from segmentation.cli.segment_video import plan_clips, segment_clips

    check_folder(out, "--out")
    exports = Exports.of(export, export_classes, tolerance)
    paths = [unpack(context, path) for path in given]
    videos = [path for path in paths if is_video(path)]
    frames = FrameOptions(every, smooth, resume).checked(videos)
    jobs = plan_jobs(
        [path for path in paths if path not in videos],
        out,
        overlay=overlay,
        confidence=confidence,
        skip_bad=skip_bad,
        formats=exports.formats,
    )
    if resume:
        jobs, exports = missing_jobs(jobs, exports, out)
    check_outputs(jobs, overwrite=overwrite or resume, shared=exports.shared_files(out))
    if videos and exports.formats:
        raise ConfigError("--export names files of photos, and frames of a video are none; leave one out")

    from retrieval import IndexFolder
    from segmentation.cli.photo_results import segment_jobs, write_result
    from segmentation.cli.segment_large import is_large, large_entries
    from segmentation.pipeline import behind

    clips = plan_clips(videos, out, overlay=overlay, confidence=confidence, overwrite=overwrite or resume)
    folder = IndexFolder.open(index)
    recipe = changed_recipe(folder, overrides)
    large = [job for job in jobs if is_large(job, recipe)]
    skipped: list[tuple[str, str]] = []
    entries: list[dict[str, Any]] = []
    if large and exports.formats:
        raise ConfigError(
            f"--export takes whole masks, and {large[0].image} is so large that it is labelled in parts; "
            "leave the option out, or cut the photo"
        )
    names = [job.name for job in jobs]
    with open_segmenter(folder, recipe) as segmenter, exports.open(out, segmenter.classes, names) as exporter:
        bad = skipped if skip_bad else None
        results = segment_jobs(segmenter, [job for job in jobs if job not in large], skipped=bad)
        asked = Asked.of(
            segmenter.classes, instances=instances, min_area=min_area, thresholds=threshold, as_json=as_json
        )
        write = partial(write_result, exporter=exporter, asked=asked, paint_background=paint_background)
        rest = large_entries(segmenter, large, asked, paint_background=paint_background, skipped=bad)
        with closing(behind(results, write)) as written:
            for entry in chain(written, rest):
                entries.append(entry)
                if not as_json:
                    show(entry["mask"])
        photos = len(entries)
        of_frames = segment_clips(
            segmenter, clips, asked, frames, paint_background=paint_background, quiet=as_json, skipped=bad
        )
        for entry in of_frames:
            entries.append(entry if as_json else {"defective": entry.get("defective")})
    if as_json:
        show_json(with_given(context, entries))
    say_skipped(skipped)
    for path in exports.run_files(out):
        say(f"exported {path}")
    done = [count_of(photos, "image")] if photos or not clips else []
    done += [count_of(len(entries) - photos, "frame")] if clips else []
    say(f"segmented {' and '.join(done)} into {out}")
    if threshold:
        say(f"defective: {sum(entry['defective'] for entry in entries):,} of {len(entries):,}")
