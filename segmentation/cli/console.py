"""What the commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

#: Characters of a message that are shown.
LONGEST = 1200

_UNITS = ("bytes", "KB", "MB", "GB", "TB")


def say(message: str) -> None:
    """A message for a person, on stderr."""
    print(printable(message, sys.stderr), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """A line of result, on stdout."""
    print(printable(text, sys.stdout), flush=True)


def printable(text: str, stream: TextIO) -> str:
    """The text with escapes for the characters that a stream lacks: names need not be text."""
    encoding = stream.encoding or "utf-8"
    try:
        return text.encode(encoding, errors="backslashreplace").decode(encoding)
    except LookupError:
        return text.encode("ascii", errors="backslashreplace").decode()


def show_json(data: Any) -> None:
    """A result for a program, on stdout; characters that stdout lacks as JSON's escapes."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        text = json.dumps(data, indent=2)
    print(text, flush=True)


def escape_unknown_characters() -> None:
    """Let no character that a terminal or a pipe lacks end a run: it is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show_table(
    title: str | None,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    text: Sequence[str] = ("class",),
) -> None:
    """A table on stdout; columns named in ``text`` start at the left, numbers stand at the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for name in columns:
        table.add_column(name, justify="left" if name in text else "right", overflow="fold")
    for row in rows:
        table.add_row(*(printable(cell, sys.stdout) for cell in row))
    console = Console(markup=False, highlight=False)
    # A table that goes into a file or a pipe must not be folded to some terminal's width.
    console.print(table, width=None if console.is_terminal else 200)


def one_line(error: BaseException | str) -> str:
    """A message as one line; of a very long one, which repeats what was given, the beginning and the end."""
    text = " ".join(str(error).split())
    if len(text) <= LONGEST:
        return text
    left = len(text) - LONGEST
    return (
        f"{text[: LONGEST - LONGEST // 4]} ... ({left:,} characters left out) ... {text[-(LONGEST // 4) :]}"
    )


def say_skipped(skipped: Sequence[tuple[str, str]], noun: str = "image") -> None:
    """List the (name, reason) of what ``--skip-bad`` passed over; nothing where nothing was."""
    if not skipped:
        return
    say(f"skipped {count_of(len(skipped), f'bad {noun}')}:")
    for name, reason in skipped:
        say(f"  {name or '(empty)'}: {one_line(reason)}")


def count_of(count: int, noun: str, plural: str | None = None) -> str:
    """A number and its noun: ``1 image``, ``1,024 images``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def format_percent(share: float) -> str:
    """A share in 0..1 as percent with one decimal, ``-`` where there is none (NaN)."""
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def format_bytes(count: int) -> str:
    """A size a person can read, in powers of 1000: 1234567 -> ``1.2 MB``."""
    size = float(count)
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
