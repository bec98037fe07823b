"""The databases of the labelling site: every behaviour is tested on both kinds."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from site_of_tests import Site, opened
from speakers import speakers

from tutelage.web.models import Models
from tutelage.web.sessions import Session

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def cluster() -> Iterator[object]:
    import cluster

    reason = cluster.why_not()
    if reason:
        pytest.skip(reason)
    with cluster.running() as server:
        yield server


@pytest.fixture(scope="session")
def ready_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database at the newest schema, to be copied."""
    from tutelage.web.database import Database

    path = tmp_path_factory.mktemp("ready") / "label.db"
    Database(path).close()
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def where(request: pytest.FixtureRequest) -> Iterator[Path | str]:
    """An empty database at the newest schema: the path of an SQLite file, or an address.

    The file lies in memory where that can be: thousands of syncs to a busy disk are minutes, and a process that is
    killed takes no memory file with it.
    """
    if request.param == "postgresql":
        yield request.getfixturevalue("cluster").database()
        return
    memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(shutil.copy(request.getfixturevalue("ready_file"), Path(folder) / "label.db"))


@pytest.fixture
def site(where: Path | str) -> Iterator[Site]:
    with opened(where) as site:
        yield site


@pytest.fixture
def anna(site: Site) -> Session:
    return site.person("anna")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """Two that speak, in a process of their own."""
    asked = speakers(tmp_path_factory.mktemp("runs"), "one", "two")
    yield asked
    asked.close()
