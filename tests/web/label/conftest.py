import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House, served


@pytest.fixture
def house(ready_file: Path) -> Iterator[House]:
    """A served site on a fresh SQLite file, in memory where that can be."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(dir=memory) as folder,
        served(Path(shutil.copy(ready_file, Path(folder) / "label.db"))) as house,
    ):
        yield house
