"""Who does the work: this process, several on this machine, or a cluster. The jobs are the same, and so is the result.

A job is a small description of a part, and what comes back is small too: texts go from the worker to the disk and never
through here. Each job writes its part beside and renames it, so one that was cut short is done again and one that is
done is never redone, whoever did it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver, get_all_start_methods, get_context, parent_process
from typing import Protocol, TypeVar

from tutelage.errors import MissingExtraError, RoomError, SettingsError, TutelageError

J = TypeVar("J")
R = TypeVar("R")

AHEAD = 2
"""Jobs that wait for each process: enough to keep it busy, few enough to hold little."""

ALONE = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
"""One thread in each of several processes: more would only stand in each other's way."""

REHEARSAL = "tutelage.corpus.rehearsal"


class Engine(Protocol):
    """Gives the results of a task for each job, in the order of the jobs."""

    elsewhere: bool
    """Whether jobs are done on machines that may not see the files of this one, but for the run's folder."""

    def map(self, task: Callable[[J], R], jobs: Iterable[J]) -> Iterator[R]: ...

    def close(self) -> None: ...


class Here:
    """This process alone."""

    elsewhere = False

    def map(self, task: Callable[[J], R], jobs: Iterable[J]) -> Iterator[R]:
        for job in jobs:
            yield task(job)

    def close(self) -> None:
        return


class Processes:
    """Processes of this machine, beside this one. Jobs are drawn as they are needed: whoever makes them is not asked
    ahead.

    Workers are forked from a process of their own, which begins at once to load what all of them need
    (`tutelage.corpus.rehearsal`); where a system has no such, each is a fresh one. This one is never forked: it may
    have threads.
    """

    elsewhere = False

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool = None
        forks = "forkserver" in get_all_start_methods()
        self._context = get_context("forkserver" if forks else "spawn")
        if forks:
            self._context.set_forkserver_preload([REHEARSAL])
            forkserver.ensure_running()

    def map(self, task: Callable[[J], R], jobs: Iterable[J]) -> Iterator[R]:
        waiting: deque[Future[R]] = deque()
        try:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self._count, self._context, initializer=begin_worker)
            for job in jobs:
                waiting.append(self._pool.submit(task, job))
                while len(waiting) > self._count * AHEAD or (waiting and waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise RoomError(
                f"prepare: one of {self._count} processes was killed, mostly for want of memory: "
                "set processes to fewer, then give the same command: it goes on from where it stopped"
            ) from None

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class Cluster:
    """Daft on Ray: a table of jobs, one row each, worked through by whatever machines the cluster has.

    The run's folder must be one that all of them see. What goes over the network is a row of JSON for each part.
    """

    elsewhere = True

    def __init__(self, address: str) -> None:
        try:
            import daft  # pyright: ignore[reportMissingImports]
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtraError(error.name or "daft", "distributed", "prepare with engine: ray") from None
        self._ray, self._daft = ray, daft
        if not ray.is_initialized():
            ray.init(address=address or None, log_to_driver=False, include_dashboard=False)
        daft.set_runner_ray(noop_if_initialized=True)

    def map(self, task: Callable[[J], R], jobs: Iterable[J]) -> Iterator[R]:
        import pickle

        daft = self._daft
        rows = [pickle.dumps((task, job)) for job in jobs]
        if not rows:
            return
        # One row a partition: a part is what one worker takes at a time.
        table = daft.from_pydict({"place": list(range(len(rows))), "job": rows}).into_partitions(len(rows))
        done = table.with_column("result", daft.func(_job, return_dtype=daft.DataType.binary())(table["job"]))
        found = done.select("place", "result").sort("place").to_pydict()
        for packed in found["result"]:
            result = pickle.loads(packed)
            if isinstance(result, TutelageError):
                raise result
            yield result

    def close(self) -> None:
        return


def engine(name: str, processes: int, address: str = "") -> Engine:
    """By name: "processes" with their number, 1 for this process alone; or "ray", a cluster by its address ("" starts
    one here).

    Raises:
        SettingsError: there is no engine of that name.
        MissingExtraError: Daft or Ray is not installed.
    """
    if name == "ray":
        return Cluster(address)
    if name != "processes":
        raise SettingsError(f"prepare: engine: found {name!r}: write processes or ray")
    return Here() if processes == 1 else Processes(processes)


def alone() -> None:
    """Keeps this process to one thread, if it has loaded no library yet and the user says nothing else."""
    for name, value in ALONE.items():
        os.environ.setdefault(name, value)


def begin_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with it: a worker whose parent was killed would wait for work for ever."""
    alone()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _job(packed: bytes) -> bytes:
    """Does a job; what the user can mend comes back as it is, for the engine would wrap it in words of its own."""
    import pickle

    task, job = pickle.loads(packed)
    try:
        return pickle.dumps(task(job))
    except TutelageError as error:
        return pickle.dumps(error)
