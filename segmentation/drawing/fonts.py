"""Fonts that have the characters of a text: what pictures are written with comes from this machine."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import Any

from PIL import ImageFont

_LOG = logging.getLogger("mycelia")
_SAID = Event()  # that characters are missing: a process says it once

#: Parts of file names (letters and digits, lower case) of fonts with many scripts, the better ones first.
PREFERRED = (
    *("dejavusans", "notosanscjk", "notosansjp", "notosanssc", "notosanstc", "notosanskr", "sourcehansans"),
    *(
        "msyh",
        "yugoth",
        "meiryo",
        "msgothic",
        "malgun",
        "pingfang",
        "hiragino",
        "stheiti",
        "simhei",
        "simsun",
    ),
    *("arialunicode", "droidsansfallback", "wqy", "ipag", "takao", "vlgothic", "nanum", "unifont"),
    *("notosansarabic", "notonaskharabic", "notosans", "tahoma", "segoeui", "nirmala", "leelawad", "arial"),
)
#: Parts of names of fonts that show a character by a picture or by its number.
USELESS = ("emoji", "lastresort", "adobeblank", "symbol")
_STYLED = ("bold", "italic", "oblique", "mono", "thin", "light", "black", "condensed")


def pillow_font(text: str, *, size: int) -> Any:
    """A font of Pillow's of ``size`` pixels for a text: Pillow's own for ASCII, else one that has it all.

    Where none has, the one that has most of it, and that is said once.
    """
    if text.isascii():
        return ImageFont.load_default(size=size)
    wanted = _characters(text)
    paths = _font_files()
    best = max(paths, key=lambda path: sum(_has(path, character) for character in wanted), default=None)
    if best is None or not all(_has(best, character) for character in wanted):
        _say_missing("".join(c for c in wanted if best is None or not _has(best, c)))
    return ImageFont.load_default(size=size) if best is None else ImageFont.truetype(best, size)


def families(texts: Iterable[str]) -> list[str]:
    """Names of the fonts, as matplotlib's ``fontfamily`` takes them, that have the characters of the texts.

    The first is matplotlib's own, which serves alone where it has all. What none has is said once.
    """
    from matplotlib import font_manager

    found, missing = ["DejaVu Sans"], ""
    for character in _characters("".join(texts)):
        path = next((path for path in _font_files() if _has(path, character)), None)
        if path is None:
            missing += character
            continue
        font_manager.fontManager.addfont(path)
        name = font_manager.FontProperties(fname=path).get_name()
        if name not in found:
            found.append(name)
    if missing:
        _say_missing(missing)
    return found


def _characters(text: str) -> str:
    """The characters of a text that show, each once."""
    return "".join(dict.fromkeys(c for c in text if c.isprintable() and not c.isspace()))


@lru_cache(maxsize=1)
def _font_files() -> tuple[str, ...]:
    """All usable fonts of this machine, the best first: matplotlib's own, then those of many scripts."""
    import matplotlib
    from matplotlib import font_manager

    own = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    installed = {path for path in font_manager.findSystemFonts() if not _named(path, USELESS)}
    return (str(own), *sorted(installed, key=_rank))


def _rank(path: str) -> tuple[int, bool, str]:
    name = _plain_name(path)
    place = next((n for n, part in enumerate(PREFERRED) if part in name), len(PREFERRED))
    return place, _named(path, _STYLED), path


def _named(path: str, parts: Iterable[str]) -> bool:
    return any(part in _plain_name(path) for part in parts)


def _plain_name(path: str) -> str:
    return re.sub(r"[^a-z0-9]", "", Path(path).stem.lower())


@lru_cache(maxsize=4096)
def _has(path: str, character: str) -> bool:
    """Whether a font file has a character; a file that cannot be read has none."""
    font = _opened(path)
    return font is not None and bool(font.get_char_index(ord(character)))


@lru_cache(maxsize=64)
def _opened(path: str) -> Any:
    from matplotlib.ft2font import FT2Font

    try:
        return FT2Font(path)
    except (OSError, RuntimeError, ValueError):
        return None


def _say_missing(characters: str) -> None:
    if _SAID.is_set():
        return
    _SAID.set()
    _LOG.warning(
        "no installed font has %s: such characters are squares in pictures; install a font of the script, "
        "for example Noto Sans CJK or Noto Sans Arabic",
        characters[:20],
    )


def as_text(name: str) -> str:
    """A name with escapes for bytes that are no text, which matplotlib refuses."""
    return name.encode(errors="backslashreplace").decode()
