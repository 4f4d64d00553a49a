"""The lines that the module logs where there is no Kamailio."""

from __future__ import annotations

import logging


class Logged(logging.Handler):
    """Collects them from here on."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        logging.getLogger("mqueue_kemi").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        lines, self.lines = self.lines, []
        return lines
