"""What SQLite has written into its log is taken into the file beside the writer, not by it.

By itself SQLite does so within the commit that fills a thousand pages, and everybody waits for the disk twice or thrice
as long there. The log can begin anew only in a moment at which all of it has been taken over; under load only the
writer can make one, and it takes over the few pages that have come meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from pathlib import Path

EVERY = 0.25
"""Seconds between two rounds."""
LONG = 8192
"""Pages of 4 kB from which on the writer lets the log begin anew."""
TAKE_OVER = "pragma wal_checkpoint(passive)"
"""Waits for nobody, and nobody waits for it."""

_log = logging.getLogger(__name__)


class Checkpoints:
    """A thread with a connection of its own; it works only after something was written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = threading.Event()
        self._closing = threading.Event()
        self.long = False
        """Whether the log has grown long; all but its last pages have been taken over by then."""
        self._thread = threading.Thread(target=self._work, name="database checkpoints", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something was written."""
        self._written.set()

    def close(self) -> None:
        self._closing.set()
        self._written.set()
        self._thread.join()

    def _work(self) -> None:
        with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            while self._written.wait() and not self._closing.wait(EVERY):
                self._written.clear()
                try:
                    _, pages, _ = connection.execute(TAKE_OVER).fetchone()
                except sqlite3.Error as error:
                    _log.warning("%s: what was written stays in the log for now: %s", self._path, error)
                else:
                    self.long = pages > LONG
