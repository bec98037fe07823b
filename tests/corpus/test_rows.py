import gzip
import random
from pathlib import Path

import pytest

from tutelage.corpus import compression, rows

LONGEST = 40


def plainly(content: bytes) -> list[tuple[int, int, bytes | None]]:
    """(line, record, bytes) of each line that holds something; None for one that is too long."""
    found: list[tuple[int, int, bytes | None]] = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip() or len(line) > LONGEST:
            found.append((number, len(found) + 1, line if len(line) <= LONGEST else None))
    return found


def by_blocks(path: Path, blocks: list[rows.Block]) -> list[tuple[int, int, bytes | None]]:
    found: list[tuple[int, int, bytes | None]] = []
    for block in blocks:
        assert block.row == len(found) + 1
        assert len(block.content) == block.size
        for number, line in enumerate(block.content.split(b"\n"), block.number):
            if line.strip():
                found.append((number, len(found) + 1, line))
        if not block.size:
            found.append((block.number, len(found) + 1, None))
        assert block.row + block.records == len(found) + 1
        if block.start >= 0:
            assert path.read_bytes()[block.start : block.start + block.size] == block.content
    return found


@pytest.mark.parametrize("seed", range(60))
def test_blocks_have_all_lines_with_their_numbers_and_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(compression, "STEP", draw.choice((8, 30, LONGEST)))
    monkeypatch.setattr(rows.encodings, "name_of", lambda _: draw_name)
    draw_name = draw.choice(("utf-8", "utf-8-sig"))
    kinds = (b"", b" \t", b"\r", b'"a"', b'"' + b"b" * 20 + b'"', b"c" * 41, b"d" * 39, b"\v\f", "文".encode() * 9)
    content = b"\n".join(draw.choices(kinds, k=draw.randrange(1, 30)))
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" * (draw_name == "utf-8-sig") + content)
    blocks = list(rows.blocks(path, LONGEST))
    assert by_blocks(path, blocks) == plainly(content)
    assert all(block.start >= 0 for block in blocks if block.size)

    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    blocks = list(rows.blocks(packed, LONGEST))
    assert by_blocks(packed, blocks) == plainly(content)
    assert all(block.start == -1 for block in blocks)


def test_lines_in_another_encoding_come_in_utf_8_and_have_no_place(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "一行"}\n{"text": "二行"}\n'.encode("utf-16"))
    (block,) = rows.blocks(path, LONGEST)
    assert block.content.decode() == '{"text": "一行"}\n{"text": "二行"}\n'
    assert (block.start, block.records) == (-1, 2)
