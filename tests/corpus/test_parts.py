from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tutelage.corpus import parts
from tutelage.corpus.parts import Bench, Row, beside, cut, raw_rows, read_table, strings, write_table


def rows(count: int) -> Iterator[Row]:
    for number in range(count):
        yield Row(
            f"文 {number} " * 20, "text", f"id{number}", "source", "MIT", metadata={"row": str(number)}, card=number % 2
        )


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART", 1000)


def test_rows_are_cut_into_parts_and_read_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    told: dict[str, Any] = {}
    numbers = list(cut(bench, rows(50), told))
    assert numbers == list(range(told["parts"]))
    assert len(numbers) > 5
    found = [row for number in numbers for row in raw_rows(bench.raw(number))]
    assert found == list(rows(50))


def test_the_first_parts_are_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART", 4000)
    monkeypatch.setattr(parts, "FIRST", 1000)
    bench = Bench(tmp_path)
    numbers = list(cut(bench, (Row("x" * 100, "text", f"id{number}") for number in range(400)), {}))
    assert [len(list(raw_rows(bench.raw(number)))) for number in numbers] == [10] * 4 + [20] * 4 + [40] * 7


def test_what_is_judged_is_not_written_again_and_after_all_is_read_nothing_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    reading = cut(bench, rows(50), {})
    assert [next(reading), next(reading), next(reading)] == [0, 1, 2]
    # Part 0 is judged, part 1 is not, and then the process is killed.
    bench.raw(0).unlink()
    bench.judged(0).mkdir(parents=True)
    before = bench.raw(1).stat().st_ino
    told: dict[str, Any] = {"unread": {".png": 1}}
    numbers = list(cut(bench, rows(50), told))
    assert not bench.raw(0).exists()
    assert bench.raw(1).stat().st_ino == before
    again: dict[str, Any] = {}
    assert list(cut(bench, iter(()), again)) == numbers
    assert again == told


def stop_halfway(target: Path) -> None:
    with beside(target) as folder:
        (folder / "half").write_text("")
        _ = 1 / 0


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        stop_halfway(tmp_path / "part")
    assert not (tmp_path / "part").exists()
    with beside(tmp_path / "part") as folder:
        (folder / "file").write_text("")
        assert not (tmp_path / "part").exists()
    assert [file.name for file in (tmp_path / "part").iterdir()] == ["file"]


def test_single_columns_are_read(tmp_path: Path) -> None:
    import pyarrow as pa

    write_table(tmp_path / "table.arrow", pa.table({"a": [1, 2], "b": ["x", "y"]}))
    assert read_table(tmp_path / "table.arrow", ["b"]).to_pydict() == {"b": ["x", "y"]}


def test_half_a_pair_of_surrogates_does_not_stop_a_part() -> None:
    assert strings(["a", "\ud800b"]).to_pylist() == ["a", "?b"]
