"""Calls from Python with arrays and values that fit nothing."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrieval import ClassInfo, ClassMap, Filter, PatchIndex, open_index
from retrieval.errors import MyceliaError
from segmentation import Classifier, Segmenter

from .. import wild
from ..case import Case, FaultError, refused
from .memory import verified
from .pictures import encoded

#: Opened once in a process: what is asked of them changes nothing.
_OPEN: dict[str, Any] = {}
_DTYPES = (
    *(
        "float32",
        "float32",
        "float64",
        "float16",
        "int8",
        "uint8",
        "int64",
        "uint64",
        "bool",
        "complex64",
        "object",
    ),
    *("U3", "S3", ">f4", ">u2", "datetime64[s]", "longdouble", "V4"),
)


def call(case: Case) -> None:
    """One call of an index, a segmenter or a classifier."""
    acts: tuple[Callable[[Case], None], ...] = (
        _search,
        _search,
        _add,
        _edit,
        _segment,
        _segment,
        _classify,
        _classes,
        _filters,
    )
    case.random.choice(acts)(case)


def _opened(case: Case, name: str, open: Callable[[Path], Any]) -> Any:
    if name not in _OPEN:
        _OPEN[name] = open(case.path(name))
    return _OPEN[name]


def array(case: Case, *, width: int, rows: int = 3) -> Any:
    """An array of some dtype and shape; every third one fits (rows, width)."""
    random = case.random
    shapes: list[tuple[int, ...]] = [
        (rows, width),
        (rows, width),
        (rows, width),
        (0, width),
        (width,),
        (rows, width + 1),
        (rows, width - 1),
    ]
    shapes += [(1, rows, width), (), (0,), (rows, 0), (rows, width, 1), (1, width), (1000, 0)]
    shape, dtype = random.choice(shapes), np.dtype(random.choice(_DTYPES))
    filled = np.random.default_rng(case.number).normal(size=shape)
    with np.errstate(all="ignore"):
        try:
            made = np.asarray(filled).astype(dtype)
        except (TypeError, ValueError):
            made = np.zeros(shape, dtype)
        if made.size and dtype.kind in "fc" and random.random() < 0.4:
            made.reshape(-1)[random.randrange(made.size)] = random.choice(
                [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-45, 0]
            )
    what = random.randrange(8)
    if what == 0:
        return made.tolist()
    if what == 1 and made.ndim > 1:
        return np.asfortranarray(made)
    if what == 2 and made.ndim:
        return made[::-1]
    if what == 3:
        made.flags.writeable = False
    return (
        made
        if what > 3 or random.random() < 0.9
        else random.choice([None, "x", 3, [], {}, [[1], [2]], np.ma.array(made)])
    )


def _number(case: Case) -> Any:
    return case.random.choice([1, 3, np.int64(2), wild.number(case.random), wild.value(case.random)])


def _search(case: Case) -> None:
    index = _opened(case, case.random.choice(["i.index", "faiss.index", "whole.index"]), open_index)
    width = index.similarity.width
    queries, k = array(case, width=width), _number(case)
    case.tried = f"search({_of(queries)}, {k!r:.80})"
    filter = _filter(case) if case.random.random() < 0.3 else None

    def act() -> None:
        found = index.search(queries, k, filter=filter)
        if not np.isfinite(np.asarray(found.similarities, np.float64)[found.ids >= 0]).all():
            raise FaultError("a similarity is not finite")

    refused(act)


def _filter(case: Case) -> Filter:
    random = case.random
    given: dict[str, Any] = {}
    for name in random.sample(
        ["images", "classes", "without_images", "without_classes", "nonsense"], random.choice([1, 2])
    ):
        given[name] = random.choice(
            [
                [0],
                [1, 2],
                [-1],
                [10**6],
                [],
                None,
                "x",
                np.array([0]),
                [wild.number(random)],
                wild.value(random),
            ]
        )
    try:
        return Filter(**given)
    except TypeError:  # an argument that no filter has
        return Filter()


def _filters(case: Case) -> None:
    made = None

    def act() -> None:
        nonlocal made
        made = _filter(case)
        case.tried = f"{made!r:.300}"
        _opened(case, "i.index", open_index).search(
            np.ones((1, _OPEN["i.index"].similarity.width), np.float32), 3, filter=made
        )

    refused(act)


def _add(case: Case) -> None:
    """Rows that fit no index: none is added, and what was there is whole."""
    index_path = Path(
        shutil.copytree(case.path(case.random.choice(["i.index", "faiss.index"])), case.inside / "own.index")
    )
    case.free.append(index_path)
    case.freeze()
    with open_index(index_path) as index:
        width, classes = index.similarity.width, len(index.classes)
        given = {
            "vectors": array(case, width=width),
            "labels": array(case, width=classes)
            if case.random.random() < 0.5
            else np.full((3, classes), 100, np.uint8),
            "patches": array(case, width=3) if case.random.random() < 0.5 else np.zeros((3, 3), np.int32),
        }
        case.tried = f"add({', '.join(f'{name}={_of(value)}' for name, value in given.items())})"
        before = len(index)
        try:
            _flushed(index, given)
        except MyceliaError:
            if len(index) != before:
                raise FaultError("rows were added by a call that was refused") from None
            raise
        finally:
            if len(index) < before:
                raise FaultError("rows were lost")
    verified(index_path)


def _flushed(index: PatchIndex, given: dict[str, Any]) -> None:
    index.add(**given)
    index.flush()


def _edit(case: Case) -> None:
    random = case.random
    index_path = Path(shutil.copytree(case.path("i.index"), case.inside / "own.index"))
    case.free.append(index_path)
    case.freeze()
    with open_index(index_path) as index:
        what = random.randrange(3)
        if what == 0:
            number = random.choice([0, 1, 2, 9, -1, np.int64(1), 2**31])
            case.tried = f"remove({number!r:.80})"
            acts: Callable[[], object] = partial(index.remove, number)
        elif what == 1:
            classes = random.choice([index.classes, ClassMap((ClassInfo(0, "a", (1, 2, 3)),))])
            columns = np.array([random.randrange(len(classes)) for _ in index.classes.names])
            case.tried = f"relabel({classes.names}, {columns})"
            acts = partial(index.relabel, classes, columns)
        else:
            rows = np.array([0, random.choice([-1, 1, 10**6, 2**62]), 3])
            case.tried = f"patches({_of(rows)})"
            acts = partial(index.patches, rows)
        refused(acts)
        index.flush()
    verified(index_path)


def _segment(case: Case) -> None:
    segmenter, source, random = _segmenter(case), _source(case), case.random
    case.tried = f"segment({_of(source)})"

    def act() -> None:
        if random.random() < 0.3:
            description = segmenter.describe(source)
            k, temperature = random.choice([None, _number(case)]), random.choice([None, 0.1, _number(case)])
            case.tried += f", k={k!r:.80}, temperature={temperature!r:.80}"
            result = segmenter.label(description, k=k, temperature=temperature)
        else:
            result = segmenter.segment(source)
        if not np.isfinite(result.confidence).all() or result.mask.shape != result.size:
            raise FaultError("a mask without a size, or a confidence that is no number")
        row, col = random.choice([(0, 0), (-1, 0), (10**9, 0), (result.size[0] - 1, result.size[1] - 1)])
        result.explain(row, col)

    refused(act)


def _segmenter(case: Case) -> Segmenter:
    name = case.random.choice(["i.index", "scaled.index"])
    opened: Segmenter = _opened(case, f"{name}/", lambda path: Segmenter.open(path))
    return opened


def _source(case: Case) -> Any:
    """Something in the place of a photo."""
    random, what = case.random, case.random.randrange(10)
    if what < 4:
        shape = random.choice(
            [
                (48, 70, 3),
                (48, 70),
                (48, 70, 1),
                (48, 70, 4),
                (48, 70, 2),
                (0, 70, 3),
                (3, 48, 70),
                (1, 1, 3),
                (48,),
                (),
                (2, 48, 70, 3),
            ]
        )
        made = np.random.default_rng(case.number).integers(0, 256, shape)
        with np.errstate(all="ignore"):
            try:
                return made.astype(random.choice(_DTYPES)) if random.random() < 0.6 else made.astype(np.uint8)
            except (TypeError, ValueError):
                return made
    if what < 7:
        try:
            opened = Image.open(io.BytesIO(encoded(case)[0]))
            # whoever opens an EPS by themselves has chosen the program that draws it
            return opened if opened.format != "EPS" else Image.new("RGB", (5, 4))
        except Exception:
            return Image.new(random.choice(["1", "L", "RGBA", "CMYK", "I", "F"]), (5, 4))
    if what == 7:
        path = case.inside / "photo.png"
        path.write_bytes(encoded(case)[0])
        return random.choice([path, str(path)])
    return random.choice(
        [
            "",
            "x\0y",
            "\ud800",
            ".",
            "/",
            Path("nothing"),
            None,
            3,
            b"x",
            [],
            {},
            object(),
            [[1, 2], [3]],
            np.nan,
            True,
        ]
    )


def _classify(case: Case) -> None:
    classifier: Classifier = _opened(case, "whole.index/", lambda path: Classifier.open(path))
    random = case.random
    what = random.randrange(3)
    if what == 0:
        source = _source(case)
        case.tried = f"classify({_of(source)})"
        refused(lambda: classifier.classify(source).best)
    elif what == 1:
        vectors = array(case, width=classifier.index.similarity.width)
        case.tried = f"label({_of(vectors)})"
        refused(lambda: classifier.label(vectors))
    else:
        count, source = _number(case), _source(case)
        case.tried = f"similar({_of(source)}, {count!r:.80})"
        refused(lambda: classifier.similar(source, count))


def _classes(case: Case) -> None:
    random = case.random
    given = [
        (
            random.choice([number, wild.number(random)]),
            random.choice([f"n{number}", wild.text(random)]),
            random.choice([(1, 2, 3), (1, 2), None, (1, 2, 300), (-1, 0, 0), "red", (1.5, 0, 0)]),
        )
        for number in range(random.randrange(4))
    ]
    case.tried = f"ClassMap of {given!r:.300}"
    refused(lambda: ClassMap(tuple(ClassInfo(*each) for each in given)))


def _of(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array {value.shape} {value.dtype}"
    return f"{value!r:.120}"
