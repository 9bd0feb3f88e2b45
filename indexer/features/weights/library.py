"""timm, loaded without torch's compiler.

timm and the torchvision that it loads name two functions of ``torch._dynamo`` while they are imported, one
to mark methods of models, one for boxes. For these two names sympy, triton and torch.distributed are loaded,
which takes as long as torch itself. Nothing here compiles a model, so the two names are given functions that
load the compiler when they are called; whatever else is asked of it meanwhile loads it at once.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"

_lock = threading.Lock()


def load_timm() -> ModuleType:
    """The package timm."""
    with _lock:
        if "timm" in sys.modules or COMPILER in sys.modules:
            return importlib.import_module("timm")
        importlib.import_module("torch")  # which may load the compiler for reasons of its own
        with _compiler_later():
            return importlib.import_module("timm")


@contextmanager
def _compiler_later() -> Iterator[None]:
    """Let modules stand in for the compiler while others are imported."""
    utils = _Later(f"{COMPILER}.utils", {"is_compile_supported": _called_later})
    standing = (_Later(COMPILER, {"disable": _disabled_later, "utils": utils}), utils)
    for module in standing:
        sys.modules[module.__name__] = module
    try:
        yield
    finally:
        _remove_standing()


class _Later(ModuleType):
    """Stands in for a module: has a few names of it, and loads it for all others."""

    def __init__(self, name: str, names: dict[str, Any]) -> None:
        super().__init__(name)
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        wanted = name == "__path__" and self.__name__ == COMPILER  # by the import of one of its modules
        if name.startswith("__") and not wanted:  # by those who look at all modules
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(_real(self.__name__), name)


def _remove_standing() -> None:
    for name in (COMPILER, f"{COMPILER}.utils"):
        if isinstance(sys.modules.get(name), _Later):
            del sys.modules[name]


def _real(name: str) -> ModuleType:
    """The module itself."""
    _remove_standing()
    return importlib.import_module(name)


def _called_later(*given: Any, **named: Any) -> Any:
    """``torch._dynamo.utils.is_compile_supported``."""
    return _real(f"{COMPILER}.utils").is_compile_supported(*given, **named)


def _disabled_later(function: Any = None, *given: Any, **named: Any) -> Any:
    """``torch._dynamo.disable``: a plain function is marked when it is first called, all else at once."""
    if not inspect.isfunction(function):
        return _real(COMPILER).disable(function, *given, **named)

    @functools.cache
    def marked() -> Callable[..., Any]:
        found: Callable[..., Any] = _real(COMPILER).disable(function, *given, **named)
        return found

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        return marked()(*arguments, **options)

    return call
