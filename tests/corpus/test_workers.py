import functools
import os
import signal
from collections.abc import Iterator

import pytest

from tutelage.corpus.engine import Here, Processes, engine
from tutelage.errors import RecordError, RoomError, SettingsError


def square(number: int) -> int:
    return number * number


def process(_: int) -> int:
    return os.getpid()


def refuse(limit: int, number: int) -> int:
    if number >= limit:
        raise RecordError(f"{number}: too large")
    return number


def test_results_come_in_the_order_of_the_jobs() -> None:
    assert list(Here().map(square, range(20))) == [number**2 for number in range(20)]
    several = Processes(2)
    try:
        assert list(several.map(square, range(20))) == [number**2 for number in range(20)]
        assert os.getpid() not in set(several.map(process, range(4)))
        with pytest.raises(RecordError, match="3: too large"):
            list(several.map(functools.partial(refuse, 3), range(9)))
    finally:
        several.close()


def test_jobs_are_drawn_as_they_are_needed() -> None:
    drawn: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = Here().map(square, jobs())
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert drawn == [0, 1, 2]


def test_there_are_two_engines() -> None:
    assert isinstance(engine("processes", 1), Here)
    assert isinstance(engine("processes", 3), Processes)
    with pytest.raises(SettingsError, match="write processes or ray"):
        engine("spark", 1)


def die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_a_process_that_is_killed_is_told() -> None:
    several = Processes(2)
    try:
        with pytest.raises(RoomError, match="one of 2 processes was killed"):
            list(several.map(die, range(3)))
    finally:
        several.close()
