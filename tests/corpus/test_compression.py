import bz2
import gzip
import lzma
from pathlib import Path

import pytest
import zstandard

from tutelage.corpus import compression
from tutelage.errors import RecordError

PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
TEXT = bytes(range(256)) * 4000


def read(path: Path) -> tuple[bytes, str]:
    """What can be read, and what was wrong at the end."""
    found = b""
    try:
        for piece in compression.chunks(path):
            found += piece
    except RecordError as error:
        return found, str(error)
    return found, ""


@pytest.mark.parametrize("suffix", PACK)
def test_packed_files_are_unpacked_member_by_member(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(PACK[suffix](TEXT) + PACK[suffix](b"more"))
    assert read(path) == (TEXT + b"more", "")
    assert compression.whole(path, len(TEXT) + 4) == TEXT + b"more"
    with compression.stream(path) as file:
        assert file.read() == TEXT + b"more"


@pytest.mark.parametrize("suffix", PACK)
def test_a_file_that_is_cut_off_gives_what_can_be_read(tmp_path: Path, suffix: str) -> None:
    import random

    noise = random.Random(1).randbytes(1_000_000)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(PACK[suffix](noise)[:-5000])
    found, fault = read(path)
    assert noise.startswith(found)
    assert len(found) >= (0 if suffix == ".bz2" else 500_000)
    assert "cut off: fetch it again" in fault


@pytest.mark.parametrize("suffix", PACK)
def test_what_is_not_packed_is_damaged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"plain text, and more of it")
    found, fault = read(path)
    assert found == b""
    assert "damaged" in fault
    assert "\n" not in fault


@pytest.mark.parametrize("suffix", PACK)
def test_a_bomb_is_unpacked_a_little_at_a_time(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(PACK[suffix](bytes(16 << 20)))
    largest = max(len(piece) for piece in compression.chunks(path))
    assert largest <= (16 << 20 if suffix == ".zst" else compression.STEP)
    with pytest.raises(RecordError, match="unpacks to more than 1 MiB"):
        compression.whole(path, 1 << 20)
