"""A plain folder: ``images/`` and ``masks/`` with equal names, and an optional ``classes.json``.

Splits, if any, are subfolders (``images/train`` and ``masks/train``) or lists of ids
(``train.txt`` or ``splits/train.txt``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexer.datasets.base import Dataset, Layout, Sample, check_samples, choose_split, nearest, read_lines
from indexer.datasets.class_file import USUAL_IGNORE, read_class_file
from indexer.datasets.labels import MaskFile, NoLabels
from indexer.datasets.masks import Color, ColorCode, color_of_id, read_mask_file
from indexer.images import list_images
from retrieval.classes import ClassInfo, ClassMap
from retrieval.errors import DatasetError, MaskError

CLASS_FILE = "classes.json"


def find(path: Path) -> Path | None:
    """``path`` itself where it holds images/ and masks/, or None."""
    return path if (path / "images").is_dir() and (path / "masks").is_dir() else None


def load(root: Path, split: str | None) -> Dataset:
    """The samples of a split, or all where there are no splits, sorted by id or as listed.

    Raises DatasetError where images are missing, ambiguous or unlabelled altogether.
    """
    return _load(root, split, classes=_classes)


def draft(root: Path, split: str | None) -> Dataset:
    """As :func:`load`, but without classes, and images may be unlabelled altogether."""
    return _load(root, split, classes=None)


def splits(root: Path) -> Sequence[str]:
    """The names of the splits, sorted."""
    images = _by_id(root / "images")
    return sorted({*_split_lists(root, images), *_split_folders(root, images)})


def _load(
    root: Path,
    split: str | None,
    *,
    classes: Callable[[Path, Iterable[Path]], tuple[ClassMap, ColorCode | None]] | None,
) -> Dataset:
    images, masks = _by_id(root / "images"), _by_id(root / "masks")
    lists, folders = _split_lists(root, images), _split_folders(root, images)
    available = sorted({*lists, *folders})
    if split is not None and not available:
        raise DatasetError(f"{root} has no splits (no images/{split}/, no {split}.txt); leave --split out")
    if available:
        split = choose_split(split, available, where=root)
    keys = _keys(images, split, lists)
    # Ids drop the name of the split's own folder, so that lists of ids stay short.
    prefix = f"{split}/" if split is not None and split not in lists else ""
    drafts = [Sample(key[len(prefix) :], images[key], NoLabels(images[key])) for key in keys]
    checked = check_samples(drafts, where=lists.get(split or "", root))
    if classes is not None and not any(key in masks for key in keys):
        raise DatasetError(
            f"no image of {root / 'images'} has a mask with the same name in {root / 'masks'} "
            f"(the first, {checked[0].image.name}, needs for example {checked[0].id}.png)"
        )
    known, colors = (ClassMap(()), None) if classes is None else classes(root, masks.values())
    samples = tuple(
        replace(sample, labels=MaskFile(masks[key], known, colors)) if key in masks else sample
        for key, sample in zip(keys, checked, strict=True)
    )
    return Dataset(root.name, "folder", root, split, samples, known)


def _by_id(folder: Path) -> dict[str, Path]:
    """The images below a folder by their path within it, without suffix."""
    found: dict[str, Path] = {}
    for path in list_images(folder):
        id = path.relative_to(folder).with_suffix("").as_posix()
        if id in found:
            raise DatasetError(
                f"{folder} has two files with the id {id!r}: {found[id].name} and {path.name}; keep one"
            )
        found[id] = path
    if not found:
        raise DatasetError(f"{folder} holds no images; expected files such as 1.jpg or 1.png")
    return found


def _split_folders(root: Path, images: dict[str, Path]) -> list[str]:
    """Subfolders of images/ that masks/ has too, if every image lies in a subfolder."""
    if any("/" not in id for id in images):
        return []
    names = sorted({id.split("/", 1)[0] for id in images})
    return [name for name in names if (root / "masks" / name).is_dir()]


def _split_lists(root: Path, images: dict[str, Path]) -> dict[str, Path]:
    """Text files that list images, by split; others (a README, say) start with something else."""
    lists: dict[str, Path] = {}
    for path in [*sorted(root.glob("*.txt")), *sorted((root / "splits").glob("*.txt"))]:
        usual = path.parent != root or path.stem in ("train", "val", "test", "trainval")
        if usual or _starts_with_image(path, images):
            lists[path.stem] = path
    return lists


def _starts_with_image(path: Path, images: dict[str, Path]) -> bool:
    try:
        lines = read_lines(path)
    except DatasetError:
        return False
    return bool(lines) and _find_key(lines[0][1], path.stem, images) is not None


def _find_key(entry: str, split: str, images: dict[str, Path]) -> str | None:
    """The image that a list's entry means: an id or a file name, with or without its folders."""
    entry = entry.replace("\\", "/").removeprefix("./").removeprefix("images/")
    bare = Path(entry).with_suffix("").as_posix() if entry.strip("/.") else entry
    candidates = (entry, bare, f"{split}/{entry}", f"{split}/{bare}")
    return next((key for key in candidates if key in images), None)


def _keys(images: dict[str, Path], split: str | None, lists: dict[str, Path]) -> list[str]:
    if split is None:
        return list(images)
    if split not in lists:
        return [key for key in images if key.startswith(f"{split}/")]
    keys = []
    for number, line in read_lines(lists[split]):
        key = _find_key(line, split, images)
        if key is None:
            raise DatasetError(
                f"{lists[split]}, line {number}: there is no image {line!r} in images/{nearest(line, images)}"
            )
        keys.append(key)
    return keys


def _classes(root: Path, masks: Iterable[Path]) -> tuple[ClassMap, ColorCode | None]:
    if (root / CLASS_FILE).exists():
        return read_class_file(root / CLASS_FILE)
    return _found_classes(root, masks), None


def _found_classes(root: Path, masks: Iterable[Path]) -> ClassMap:
    """The ids that occur in any mask of any split, so that all splits share one class map."""
    ids: set[int] = set()
    palette: tuple[Color, ...] = ()
    problem: MaskError | None = None
    for path in masks:
        try:
            pixels, colors = read_mask_file(path)
        except MaskError as error:  # raised again when the sample is read, where bad ones may be skipped
            problem = problem or error
            continue
        if pixels.ndim == 3:
            raise DatasetError(
                f"mask {path} holds RGB colours; say in {root / CLASS_FILE} which class each colour is"
            )
        palette = palette or colors
        ids.update(np.unique(pixels).tolist())
    if not ids and problem is not None:
        raise problem
    _check_found(ids, root)
    return ClassMap(
        tuple(
            ClassInfo(id, f"class_{id}", palette[id] if id < len(palette) else color_of_id(id))
            for id in sorted(ids - {USUAL_IGNORE})
        ),
        ignore=(USUAL_IGNORE,),
    )


def _check_found(ids: set[int], root: Path) -> None:
    if min(ids) < 0 or max(ids) > 65535:
        raise DatasetError(
            f"the masks of {root} hold class ids outside 0..65535; save them as 8 or 16 bit class ids"
        )
    if ids <= {0, USUAL_IGNORE}:
        raise DatasetError(
            f"the masks of {root} hold no class ids but {', '.join(map(str, sorted(ids)))}, "
            "and 255 means unlabelled; if 255 is a class (black and white masks), list both under classes "
            f"in {root / CLASS_FILE}"
        )


LAYOUT = Layout(
    "folder",
    f"a plain folder: images/ and masks/ with equal file names, and perhaps {CLASS_FILE}",
    find,
    load,
    splits,
    draft,
    _classes,
)
