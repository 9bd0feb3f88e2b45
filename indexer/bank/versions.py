"""Versions of the packages that decide a result."""

from __future__ import annotations

import importlib.metadata

from retrieval.engines.registry import engine_packages

_PACKAGES = ("mycelia", "torch", "timm", "transformers", "numpy", "pillow")


def package_versions() -> dict[str, str]:
    """The version of each package that decides numbers and is installed, for manifests and reports."""
    found = {}
    for name in (*_PACKAGES, *engine_packages()):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
