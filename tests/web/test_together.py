"""Those who judge at the same time share a commit: where their work is done, and what it may believe of what it saw."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from site_of_tests import Site, opened

from tutelage.web import checkpoints
from tutelage.web.database import Ahead, Database, Transaction
from tutelage.web.judgments import Submission
from tutelage.web.prepared import Prepared
from tutelage.web.queue import shuffled
from tutelage.web.queue_wire import see
from tutelage.web.refusal import Refusal

WHERE = Prepared(sa.text("select 1").columns(sa.literal_column("one")))


def own_thread(t: Transaction) -> int:
    WHERE.run(t.connection, {})
    return threading.get_ident()


@contextlib.contextmanager
def held_back(database: Database) -> Iterator[None]:
    """What is handed in meanwhile goes into one commit."""
    gate = threading.Event()
    held = database.submit(lambda _: gate.wait(10))
    while not held.running():
        time.sleep(0.001)
    try:
        yield
    finally:
        gate.set()


def test_whole_work_is_done_in_the_askers_loop(where: Path | str) -> None:
    async def ask(database: Database) -> list[int]:
        loop = asyncio.get_running_loop()
        asked = [database.submit(own_thread, whole=True, loop=loop) for _ in range(3)]
        return list(await asyncio.gather(*map(asyncio.wrap_future, asked)))

    with Database(where) as database:
        assert database.write(own_thread) != threading.get_ident()
        assert set(asyncio.run(ask(database))) == {threading.get_ident()}


@pytest.mark.parametrize("end", ["busy", "closed"])
def test_a_loop_that_does_not_come_to_it_keeps_nobody_waiting(ready_file: Path, end: str) -> None:
    async def ask() -> Future[int]:
        asked = database.submit(own_thread, whole=True, loop=loop)
        if end == "busy":
            assert asked.result(10) != threading.get_ident()  # the loop stands still here
        return asked

    with Database(ready_file) as database:
        loop = asyncio.new_event_loop()
        if end == "closed":
            loop.close()
            assert asyncio.run(ask()).result(10) == database.write(own_thread)
        else:
            assert loop.run_until_complete(ask()).done()
            loop.close()


@pytest.mark.parametrize("who", ["beside", "writer"])
def test_the_log_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    """When all of it has been taken over: beside the writer, or by the writer where it has grown long."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.01 if who == "beside" else 60)
    with opened(tmp_path / "label.db") as site:
        log = tmp_path / "label.db-wal"

        def write() -> int:
            """Gives how often the log has begun anew."""
            site.database.write(lambda t: t.log("somebody", "model.add", "x" * 100_000))
            return int.from_bytes(log.read_bytes()[12:16], "big")

        assert site.database._checkpoints
        begun = write()
        if who == "beside":
            end = time.monotonic() + 20
            while write() == begun and time.monotonic() < end:
                time.sleep(0.1)
        else:
            assert write() == begun
            site.database._checkpoints.long = True
            write()
        assert write() > begun
        site.sound()


@pytest.fixture
def server(cluster) -> Iterator[Site]:
    with opened(cluster.database()) as site:
        yield site


@pytest.mark.postgres
def test_the_server_shuffles_as_we_do(server: Site) -> None:
    owner = server.person("Anna")
    project = server.project(owner)
    server.fill(owner, project, 30)
    ((secret,),) = server.rows("select secret from project")
    for account in server.annotators(project, 15):
        lease = server.queue.claim(account, project)
        assert lease
        assert lease.shown == shuffled(secret, account, lease.item, 2)
    assert len({row[0] for row in server.rows("select shown from seat")}) == 2


@pytest.mark.postgres
def test_what_two_ask_ahead_about_one_thing_is_asked_once(server: Site) -> None:
    """The second looks for itself, when the first is through."""
    project = server.project(server.person("anna"))
    one, two, three = server.annotators(project, 3)

    def job(account: str) -> Future[bool]:
        ahead = Ahead(account, lambda t: see(t.connection, t.at, account, project=project))
        return server.database.submit(lambda t: t.seen is not None, whole=True, ahead=ahead)

    with held_back(server.database):
        asked = [job(one), job(two), job(one)]
        asked += [server.database.submit(lambda t: t.seen is not None, whole=True), job(three)]
    assert [future.result(10) for future in asked] == [True, True, False, False, False]


def test_the_same_answer_twice_in_one_commit_is_one(site: Site) -> None:
    owner = site.person("anna")
    project = site.project(owner)
    site.fill(owner, project, 2)
    (one,) = site.annotators(project, 1)
    lease = site.queue.claim(one, project)
    assert lease
    new = Submission(item=lease.item, token=lease.token, idem="one key for both", said={"better": 2})
    with held_back(site.database):
        asked = [
            site.database.submit(
                lambda t: site.judgments.submitting(t, one, new), whole=True,
                ahead=Ahead(one, lambda t: see(t.connection, t.at, one, submission=(new.item, new.idem))),
            )
            for _ in range(2)
        ]  # fmt: skip
    first, second = (future.result(10) for future in asked)
    assert (first.again, second.again) == (False, True)
    assert first.judgment == second.judgment
    assert site.rows("select count(*) from judgment") == [(1,)]
    site.sound()


def test_who_loses_a_lease_in_the_commit_of_their_answer_is_told(site: Site) -> None:
    """The seat was theirs when it was looked at, and somebody else's when they came to write; the others stay."""
    owner = site.person("anna")
    project = site.project(owner)
    site.fill(owner, project, 2)
    late, quick, third = site.annotators(project, 3)
    lost = site.queue.claim(late, project)
    kept = site.queue.claim(third, project)
    assert lost
    assert kept
    site.clock.pass_(11)
    lengthened = sa.text("update seat set expires = expires + 600000000 where account = :a")
    site.database.write(lambda t: t.connection.execute(lengthened, {"a": third}))

    def submit(account: str, lease) -> Future:
        new = Submission(item=lease.item, token=lease.token, idem=f"{account} key", said={"better": 2})
        return site.database.submit(
            lambda t: site.judgments.submitting(t, account, new), whole=True,
            ahead=Ahead(account, lambda t: see(t.connection, t.at, account, submission=(new.item, new.idem))),
        )  # fmt: skip

    with held_back(site.database):
        claimed = site.database.submit(
            lambda t: site.queue.claiming(t, quick, project), whole=True,
            ahead=Ahead(quick, lambda t: see(t.connection, t.at, quick, project=project)),
        )  # fmt: skip
        told, fine = submit(late, lost), submit(third, kept)
    assert claimed.result(10).item == lost.item
    with pytest.raises(Refusal, match="went to someone else"):
        told.result(10)
    assert fine.result(10).item == kept.item
    assert site.rows("select account from judgment") == [(third,)]
    site.sound()


@pytest.mark.postgres
def test_glances_outlive_their_connection_and_a_bad_question(server: Site) -> None:
    session = server.person("anna")
    assert server.sessions.session(session.token).account == session.account
    address = server.database._reader.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as other:
        other.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'label' and pid <> pg_backend_pid()"
        )
    glances = server.database._glances
    assert glances
    broken = Prepared(sa.text("select 1 / :n").columns(sa.literal_column("one")))
    asked = [glances.ask(broken, {"n": n}) for n in (1, 0, 1)]
    wait(asked, 10)
    assert [isinstance(future.exception(), sa.exc.DBAPIError) for future in asked] == [False, True, False]
    assert server.sessions.session(session.token).account == session.account
