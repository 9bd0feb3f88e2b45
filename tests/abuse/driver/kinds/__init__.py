"""The kinds of input, and how many of each come in a turn: what costs much comes less often."""

from __future__ import annotations

from ..worker import Act
from .calls import call
from .commands import command_line, override, recipe_values
from .media import archive, media
from .memory import export, live
from .paths import paths
from .pictures import as_mask, as_memory, as_photo
from .requests import request
from .texts import json_file, tool_file, yaml_recipe

KINDS: dict[str, Act] = {
    "paths": paths,
    "json": json_file,
    "tools": tool_file,
    "yaml": yaml_recipe,
    "recipes": recipe_values,
    "overrides": override,
    "commands": command_line,
    "photos": as_photo,
    "memory-photos": as_memory,
    "masks": as_mask,
    "calls": call,
    "live": live,
    "export": export,
    "archives": archive,
    "media": media,
    "requests": request,
}

WEIGHTS = {
    **dict.fromkeys(KINDS, 4),
    **{"calls": 24, "requests": 24, "paths": 8, "overrides": 8, "commands": 8, "recipes": 6, "photos": 6},
    **{"memory-photos": 2, "export": 2, "archives": 2, "media": 2},
}
