"""Where Mycelia keeps what can be made or fetched again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache (converted weights, addresses of servers); ``MYCELIA_CACHE`` overrides it."""
    import platformdirs

    return Path(os.environ.get("MYCELIA_CACHE") or platformdirs.user_cache_dir("mycelia"))
