"""The command ``mycelia``: one file per group of commands."""

import os
import signal
import threading
from typing import Any


def _leave(*_: Any) -> None:
    """Go at once: while modules are loaded there is nothing to tidy, and a traceback says nothing."""
    os.write(2, b"interrupted\n")
    os._exit(130)


_alone = threading.current_thread() is threading.main_thread()
_quick = _alone and signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _quick:
    signal.signal(signal.SIGINT, _leave)
try:
    from segmentation.cli.app import app, main
finally:
    if _quick:
        signal.signal(signal.SIGINT, signal.default_int_handler)

__all__ = ["app", "main"]
