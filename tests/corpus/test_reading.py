import gzip
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tutelage.corpus import files, parts, reading, sources
from tutelage.errors import RecordError


def quiet(items: Any, description: str, total: int | None = None) -> Iterator[Any]:
    del description, total
    return iter(items)


def given(folder: Path, carry: bool) -> list[parts.Row]:
    listed = reading.listings([str(folder)], ())
    return list(reading.rows([str(folder)], listed, quiet, {}, carry))


def through_a_file(rows: Iterable[parts.Row], tmp_path: Path) -> list[parts.Row]:
    bench = parts.Bench(tmp_path / "bench")
    return [row for number in parts.cut(bench, rows, {}) for row in parts.raw_rows(bench.raw(number))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = b'{"text": "one", "id": "a"}\n\n{"text": "half a pair \\ud83d"}\nbroken\n{"text": "\xff"}\n"last"'
    (folder / "a.jsonl").write_bytes(lines)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (folder / "c.csv").write_text("text\nof a table\n")
    (folder / "d.txt").write_text("plain 文")
    return folder


@pytest.mark.parametrize("carry", [False, True])
def test_rows_hold_what_their_files_hold(tmp_path: Path, folder: Path, carry: bool) -> None:
    expected = [
        entry if isinstance(entry, sources.Entry) else (entry.place, entry.reason)
        for path, name in files.listing(str(folder)).read
        for entry in sources.entries(path, name)
    ]
    assert len(expected) == 12
    found: list[Any] = []
    for row in through_a_file(given(folder, carry), tmp_path):
        if row.form == parts.FAULT:
            found.append((row.source, row.content))
            continue
        for entry in reading.entries(row):
            found.append(entry if isinstance(entry, sources.Entry) else (entry.place, entry.reason))
    assert found == expected


def test_plain_lines_stay_where_they_are_unless_they_must_come_along(folder: Path) -> None:
    lines = [row for row in given(folder, carry=False) if row.form == parts.LINES]
    plain, packed = lines[:2], lines[2:]
    assert not any(row.content for row in plain)
    assert all(row.content for row in packed)
    assert sum(row.size for row in plain) == sum(row.size for row in packed) == (folder / "a.jsonl").stat().st_size
    assert sum(row.records for row in plain) == 5
    assert all(row.content for row in given(folder, carry=True))


def test_a_file_that_changes_meanwhile_is_told(folder: Path) -> None:
    row = given(folder, carry=False)[0]
    file = folder / "a.jsonl"
    changed = file.stat().st_mtime_ns
    os.utime(file, ns=(changed, changed + 1))
    with pytest.raises(RecordError, match=r"a\.jsonl: was changed while it was read: give the same command again"):
        list(reading.entries(row))
    file.unlink()
    with pytest.raises(RecordError, match="was changed"):
        list(reading.entries(row))
