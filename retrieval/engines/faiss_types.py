"""FAISS's index types: which one a bank gets, and how it is made and trained."""

from __future__ import annotations

import importlib
import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.engines.blas import choose_kernels
from retrieval.errors import ConfigError, MissingExtraError

#: Below this many rows a plain scan is fast enough, and exact.
FLAT_ROWS = 100_000
#: Banks of 8-bit codes below this size are scanned as a whole.
SCANNED_ROWS = 10_000

#: Training vectors that FAISS asks for per inverted list.
_SAMPLE_PER_LIST = 39

#: Rows that train the quantisers: at least so many of a bank, and never more.
_FEWEST_TRAINED, _MOST_TRAINED = 65_536, 262_144

#: Inverted lists for each square root of the rows.
_LISTS_PER_ROOT = 4

#: FAISS's names of the number types that vectors are stored in.
_STORED = {"float16": "SQfp16", "int8": "SQ8", "none": None}

#: Share of the vectors' energy that the reduced vectors keep which find the candidates, in steps of width.
_ENERGY, _WIDTH_STEP = 0.92, 16
#: Share of the directions that is kept whatever their energy: where most patches are alike, what tells a rare
#: class has next to none (thin defects on steel: no defect found with 16 of 384, all of them with 96).
_LEAST_KEPT = 0.25

#: Vectors up to this width have a 4-bit code for each number, wider ones for each pair.
_NARROW = 256

#: Our own prefix of a factory string, and the refinement that may end it.
_REDUCED = re.compile(r"SVD(\d+),(.+?)(?:,Refine\((\w+)\))?")


def load_faiss() -> Any:
    """The ``faiss`` module; raises MissingExtraError, naming the extras, where it cannot be imported."""
    choose_kernels()
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise MissingExtraError(
            "the faiss engine needs FAISS, which is not installed; run `pip install mycelia[faiss-cpu]` "
            "(or mycelia[faiss-gpu], never both), or set index.engine=exact"
        ) from error
    except RuntimeError as error:  # a GPU wheel on a machine without CUDA's libraries
        raise MissingExtraError(
            f"the installed FAISS does not load here ({error}); it is probably faiss-gpu on a machine "
            "without CUDA: uninstall it and run `pip install mycelia[faiss-cpu]`, or set index.engine=exact"
        ) from error


def training_rows(rows: int) -> int:
    """How many of a bank's ``rows`` train its quantisers: what its lists ask for, within bounds."""
    wanted = math.ceil(_SAMPLE_PER_LIST * _LISTS_PER_ROOT * math.sqrt(rows))
    return min(rows, max(_FEWEST_TRAINED, min(wanted, _MOST_TRAINED)))


def choose_factory(
    rows: int,
    width: int,
    sample: int,
    *,
    refine: str = "float16",
    reduced: int | None = None,
    codes: str = "pq",
) -> str:
    """The factory string of a bank of ``rows`` vectors of ``width`` numbers (:func:`make_index`).

    A plain scan under 100,000 rows; above, about 4 sqrt(rows) inverted lists (fewer where ``sample``
    training vectors cannot fill them), 4-bit product quantisation of each number (of pairs in wide
    vectors) and refinement with vectors of ``refine`` (float16, int8 or none) numbers. ``reduced`` is
    the width in which candidates are found, where that is less. Small banks of int8 are scanned as such.
    With ``codes`` int8 the lists hold vectors of 8 bits a number and there is no refinement; scanning these
    is slow, so that lists pay for smaller banks already.
    """
    stored = _STORED[refine]
    lists = max(1, min(round(_LISTS_PER_ROOT * math.sqrt(rows)), sample // _SAMPLE_PER_LIST))
    if codes == "int8":
        return "SQ8" if rows < SCANNED_ROWS else f"IVF{lists},SQ8"
    if rows < FLAT_ROWS:
        return stored if stored == "SQ8" else "Flat"
    if reduced is not None and stored is not None:
        return f"SVD{reduced},IVF{lists},PQ{reduced}x4fs,Refine({stored})"
    most = width if width <= _NARROW else width // 2
    parts = max(divisor for divisor in range(1, max(2, most + 1)) if width % divisor == 0)
    if parts * 8 < width:  # a width without good divisors: quantise single numbers instead
        return f"IVF{lists},{stored or 'SQfp16'}"
    return f"IVF{lists},PQ{parts}x4fs" + (f",Refine({stored})" if stored else "")


def reduced_width(sample: npt.NDArray[np.float32]) -> int | None:
    """Leading singular directions that hold most of the energy of a sample (n, D).

    None where those are more than half of all: such vectors gain nothing by being cut.
    """
    if len(sample) == 0:
        return None
    energies = _directions(sample)[0]
    share = np.cumsum(energies) / max(float(energies.sum()), 1e-30)
    needed = int(np.searchsorted(share, _ENERGY)) + 1
    least = math.ceil(sample.shape[1] * _LEAST_KEPT)
    width = -(-max(needed, least) // _WIDTH_STEP) * _WIDTH_STEP
    return width if 2 * width <= sample.shape[1] else None


def default_k_factor(k: int) -> int:
    """Candidates that refinement ranks for each of ``k`` neighbours, where the settings do not say."""
    return max(20, k // 3)


def make_index(faiss: Any, factory: str, width: int, sample: npt.NDArray[np.float32]) -> Any:
    """An empty, trained index of inner products of vectors (n, ``width``).

    ``factory`` is a factory string of FAISS, or ``SVD<n>,<type>[,Refine(<type>)]``: the type in front
    holds the first n singular coordinates of the sample, not centred, so that inner products
    stay what they are but for what is cut, and rotated at random, so that all codes have as much to
    tell; the refinement holds whole vectors. Raises ConfigError for
    a string that FAISS does not know, or that ``sample`` (n, D) float32 cannot train.
    """
    reduced = _REDUCED.fullmatch(factory)
    if reduced is None:
        index = _parse(faiss, factory, width)
        if not index.is_trained:
            _train(faiss, index, factory, sample)
        return index
    kept = int(reduced[1])
    if not 0 < kept < width or len(sample) == 0:
        raise ConfigError(
            f"{factory!r} reduces vectors of {width} numbers to {kept} by {len(sample)} training vectors; "
            "correct index.factory, or leave it empty to have it chosen"
        )
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((kept, kept)))[0]
    axes = np.ascontiguousarray(rotation @ _directions(sample)[1][:kept], dtype=np.float32)
    base = _parse(faiss, reduced[2], kept)
    if not base.is_trained:
        _train(faiss, base, factory, sample @ axes.T)
    cut = faiss.LinearTransform(width, kept, False)
    faiss.copy_array_to_vector(axes.ravel(), cut.A)
    cut.is_trained = True
    index = faiss.IndexPreTransform(cut, base)
    if reduced[3] is None:
        return index
    refinement = _parse(faiss, reduced[3], width)
    if not refinement.is_trained:
        _train(faiss, refinement, factory, sample)
    return faiss.IndexRefine(index, refinement)


def _directions(
    sample: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Energies (D,), falling, and right singular vectors (D, D), one a row, of a sample (n, D)."""
    step = max(1, len(sample) // _FEWEST_TRAINED)
    rows = sample[::step]
    energies, axes = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    return np.maximum(energies[::-1], 0.0), axes[:, ::-1].T


def _parse(faiss: Any, factory: str, width: int) -> Any:
    try:
        return faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(
            f"FAISS knows no index type {factory!r} for vectors of {width} numbers ({last_line(error)}); "
            "correct index.factory, or leave it empty to have it chosen"
        ) from error


def _train(faiss: Any, index: Any, factory: str, sample: npt.NDArray[np.float32]) -> None:
    inner = innermost(faiss, index)
    parts: list[Any] = [inner, getattr(inner, "pq", None)]
    for part in parts:
        if hasattr(part, "cp"):
            part.cp.min_points_per_centroid = 1  # a small sample is no reason to warn on stderr
    try:
        if len(sample) == 0:
            raise RuntimeError("no training vectors were given")
        index.train(np.ascontiguousarray(sample, dtype=np.float32))
    except RuntimeError as error:
        raise ConfigError(
            f"the FAISS type {factory!r} cannot be trained on {len(sample)} vectors ({last_line(error)}); "
            "give a larger sample, or choose fewer lists or Flat in index.factory"
        ) from error


def reserve(faiss: Any, index: Any, rows: int) -> None:
    """Take the memory of the refinement's vectors at once: growing would hold them twice at times."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexRefine):
        index = faiss.downcast_index(index.refine_index)
    if isinstance(index, faiss.IndexFlatCodes):
        index.codes.resize(rows * index.code_size)
        index.codes.resize(0)


def innermost(faiss: Any, index: Any) -> Any:
    """The index below refinement and transforms, which scans the codes."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexRefine):
        return innermost(faiss, index.base_index)
    if isinstance(index, faiss.IndexPreTransform):
        return innermost(faiss, index.index)
    return index


def inverted_lists(faiss: Any, index: Any) -> int:
    """Number of inverted lists; 0 for types without."""
    inner = innermost(faiss, index)
    return int(inner.nlist) if isinstance(inner, faiss.IndexIVF) else 0


def takes_no_selector(faiss: Any, index: Any) -> bool:
    """Whether the type refuses a selector: fast scans without lists do (FAISS 1.15)."""
    return isinstance(innermost(faiss, index), faiss.IndexFastScan)


def on_device(faiss: Any, index: Any, device: str) -> Any:
    """A copy of the index on a GPU; the index itself where device, FAISS or the type is the CPU's alone."""
    kind, _, number = device.partition(":")
    if kind != "cuda" or not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        return index
    try:
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), int(number or 0), index)
    except RuntimeError:  # fast scans and refinement are the CPU's
        return index


def last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].rpartition(": ")[2]
