"""Logs for programs: a JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone

#: What a record of ours may carry besides its message.
_EXTRA = ("request", "status", "milliseconds")


class JsonLines(logging.Formatter):
    """Time, level, logger and message, and what the record carries, as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        entry = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: getattr(record, name) for name in _EXTRA if hasattr(record, name)},
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
