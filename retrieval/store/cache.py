"""Where things are kept that can be fetched or made again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The user's cache of Mycelia; ``MYCELIA_CACHE`` names another folder."""
    return Path(os.environ.get("MYCELIA_CACHE") or platformdirs.user_cache_dir("mycelia"))
