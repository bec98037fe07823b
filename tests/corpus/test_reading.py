import gzip
import itertools
import json
import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.corpus import files, parts, reading, sources
from tutelage.errors import RecordError


def quiet(items: Any, description: str, total: object = None) -> Iterator[Any]:
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


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "parquet", "warc.gz", "txt"])
def test_how_far_reading_is(tmp_path: Path, kind: str) -> None:
    """At each row some more of all bytes, as they lie, and in the end all of them."""
    folder, draw = tmp_path / "texts", random.Random(2)
    folder.mkdir()
    texts = [draw.randbytes(3000).hex() for _ in range(400)]
    for name, some in (("a", texts[:250]), ("b", texts[250:])):
        write(folder, name, kind, some)
    listed = reading.listings([str(folder)], ())
    meter = reading.Meter(listed)
    seen = [0]
    seen += [meter.read() for _ in reading.rows([str(folder)], listed, quiet, {}, meter=meter)]
    assert meter.read() == meter.total == sum(file.stat().st_size for file in folder.iterdir())
    assert seen == sorted(seen)
    assert max(after - before for before, after in itertools.pairwise([*seen, meter.total])) < meter.total / 3


def write(folder: Path, name: str, kind: str, texts: list[str]) -> None:
    """Texts in files of a kind."""
    if kind == "txt":
        for number, text in enumerate(texts):
            (folder / f"{name}{number:03d}.txt").write_text(text)
        return
    if kind == "parquet":
        pq.write_table(pa.table({"text": texts}), folder / f"{name}.parquet")
        return
    if kind == "csv":
        content = "\n".join(["text", *texts])
    elif kind == "warc.gz":
        page = "WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{}\r\n\r\n"
        content = "".join(page.format(len(text), text) for text in texts)
    else:
        content = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    packed = gzip.compress(content.encode()) if kind.endswith(".gz") else content.encode()
    (folder / f"{name}.{kind}").write_bytes(packed)


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
