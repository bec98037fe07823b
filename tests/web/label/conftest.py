import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from house import House, served
from town import Town, reached

import tutelage.web.label.application as application
from tutelage.web.models import Models


@pytest.fixture
def house(ready_file: Path) -> Iterator[House]:
    """A served site on a fresh SQLite file, in memory where that can be."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(dir=memory) as folder,
        served(Path(shutil.copy(ready_file, Path(folder) / "label.db"))) as house,
    ):
        yield house


@pytest.fixture
def talking(ready_file: Path, tmp_path: Path, models: Models) -> Iterator[House]:
    """A served site whose models outlive it."""
    file = tmp_path / "label.db"
    file.write_bytes(ready_file.read_bytes())
    with served(file, models) as house:
        yield house


@pytest.fixture(scope="module")
def town(ready_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """With endpoints that say no more than that somebody came so far."""
    file = tmp_path_factory.mktemp("town") / "label.db"
    file.write_bytes(ready_file.read_bytes())
    hollow = [replace(route, endpoint=reached) for route in application.ROUTES]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("house.application", lambda site: application.application(site, hollow))
        with served(file) as house:
            yield Town(house)


@pytest.fixture(scope="module")
def living(ready_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """With everything that is behind the doors."""
    file = tmp_path_factory.mktemp("living") / "label.db"
    file.write_bytes(ready_file.read_bytes())
    with served(file) as house:
        yield Town(house)
