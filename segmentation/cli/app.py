"""The root of the command: its groups, ``--version``, and what becomes of an error."""

from __future__ import annotations

import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from retrieval.errors import MyceliaError, StorageError
from retrieval.store.files import is_unreadable, storage_errors
from segmentation.cli import (
    assist,
    classes,
    classify,
    compact,
    demo,
    evaluate,
    index,
    inspect,
    live,
    maintain,
    search,
    segment,
    serve,
    similar,
    slices,
    tune,
)
from segmentation.cli.console import escape_unknown_characters, one_line, say, show
from segmentation.cli.files import check_names

#: UsageError, which typer has from click or from its own copy of it.
_USAGE_ERROR: Any = typer.BadParameter.__base__

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130

#: How often a message is shown that comes for each file that it is true of.
SHOWN_PER_FILE = 5

#: So many new objects before the collector looks for cycles: while torch and timm are loaded, each look finds
#: nothing, and with Python's own 700 that took a tenth of the time of a start.
OBJECTS_BETWEEN_COLLECTIONS = 50_000


class _Guarded(TyperGroup):
    """Turns errors of ours into one line on stderr and an exit status; bugs keep their traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse names that are empty, which would stand for the folder at hand."""
        check_names(args)
        with _short_usage_errors():
            return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:
        try:
            with _short_usage_errors():
                return super().invoke(ctx)
        except MyceliaError as error:
            raise _failure(error) from error
        except KeyboardInterrupt as interrupt:
            say("interrupted; run the same command again to continue a build")
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt
        except OSError as error:
            raise _failure(_storage_error(error)) from error


@contextmanager
def _short_usage_errors() -> Iterator[None]:
    """Let a message about an argument not repeat all of it."""
    try:
        yield
    except _USAGE_ERROR as error:
        error.message = one_line(error.message)
        raise


def _failure(error: MyceliaError) -> typer.Exit:
    say(f"error: {one_line(error)}")
    return typer.Exit(EXIT_ERROR)


def _storage_error(error: OSError) -> StorageError:
    """What a full or forbidden disk means for the user; any other error of the system is raised again."""
    if is_unreadable(error):
        return StorageError(
            f"{error.filename} cannot be read ({os.strerror(error.errno or 0)}); change its permissions"
        )
    try:
        with storage_errors(Path(error.filename or ".")):
            raise error
    except StorageError as storage:
        return storage


app = typer.Typer(
    name="mycelia",
    cls=_Guarded,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        show(f"mycelia {version('mycelia')}")
    except PackageNotFoundError:
        show("mycelia (not installed)")
    raise typer.Exit


class _Messages(logging.Handler):
    """What the packages say while they work, as lines on stderr; what comes for each file, a few times."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, set[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        text = one_line(record.getMessage())
        if getattr(record, "per_file", False):
            said = self._said.setdefault(str(record.msg), set())
            if text in said:  # a file that is read twice
                return
            said.add(text)
            if len(said) > SHOWN_PER_FILE:
                return
        say(text)

    def say_rest(self) -> None:
        """Say how many more files the shortened messages were for."""
        for said in self._said.values():
            if len(said) > SHOWN_PER_FILE:
                say(f"{len(said) - SHOWN_PER_FILE:,} more such messages, like: {min(said)}")


@contextmanager
def _shown_messages() -> Iterator[None]:
    """Show them while one command runs, and leave logging as it was."""
    logger, handler = logging.getLogger("mycelia"), _Messages()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        handler.say_rest()
        logger.removeHandler(handler)
        logger.setLevel(level)


@app.callback()
def _root(
    context: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Segment images by retrieval: no training, a labelled memory of image patches instead.

    \b
    Start with:
      mycelia demo
      mycelia index build DATA --out my.index
      mycelia segment my.index photo.jpg --out masks --overlay
    """
    context.with_resource(_shown_messages())


index.app.command("add")(live.add)
index.app.command("replace")(live.replace)
index.app.command("relabel")(live.relabel)
index.app.command("merge")(live.merge)
index.app.command("convert")(maintain.convert)
index.app.command("remove")(maintain.remove)
index.app.command("compact")(compact.compact)
app.add_typer(index.app, name="index")
app.command("inspect")(inspect.inspect)
app.command("classes")(classes.classes)
app.command("segment")(segment.segment)
app.command("assist")(assist.assist)
app.command("search")(search.search)
app.command("classify")(classify.classify)
app.command("similar")(similar.similar)
app.command("evaluate")(evaluate.evaluate)
app.command("tune")(tune.tune)
app.command("slices")(slices.slices)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)


def main() -> None:
    """Run the command with this process's arguments; status 0 done, 1 our error, 2 usage, 130 stopped."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    # Threads of torch and of FAISS that wait by spinning take the processor from each other and from others'
    # work. OpenMP reads this once, when torch is loaded, which is later than here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What OpenCV and FFmpeg mutter about a bad video; ours is one sentence. Read when cv2 is loaded.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    if not sys.warnoptions:  # what Pillow mutters about a photo; what matters of it is a message of ours
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
    escape_unknown_characters()
    try:
        app()
    finally:
        gc.freeze()  # Python would look for cycles in all of torch once more, half a second before it leaves
