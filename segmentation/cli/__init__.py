"""The command ``mycelia``: one file per group of commands."""

from segmentation.cli.app import app, main

__all__ = ["app", "main"]
