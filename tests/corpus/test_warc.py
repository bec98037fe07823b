import gzip
from pathlib import Path

import pytest

from tutelage.corpus import warc
from tutelage.errors import RecordError

LONGEST = 1 << 20


def record(
    number: int, body: bytes, more: int = 0, headers: bytes = b"", kind: bytes = b"text/html; charset=utf-8"
) -> bytes:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n" + headers + b"\r\n" + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://example.org/{number}\r\n"
        f"WARC-Record-ID: <urn:uuid:{number}>\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(http) + more}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def read(path: Path) -> list[str]:
    return [
        page.text if isinstance(page, warc.Page) else f"{page.offset}: {page.reason}"
        for page in warc.pages(path, LONGEST)
    ]


def test_pages_with_address_and_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    picture = record(3, b"\x89PNG", kind=b"image/png")
    coded = record(
        4, gzip.compress("四".encode("gbk")), headers=b"Content-Encoding: gzip\r\n", kind=b"text/html; charset=gbk"
    )
    robots = record(2, "中文".encode(), headers=b"X-Robots-Tag: noai\r\n")
    path.write_bytes(b"".join(gzip.compress(one) for one in (record(1, b"<p>one</p>"), robots, picture, coded)))
    found = [page for page in warc.pages(path, LONGEST) if isinstance(page, warc.Page)]
    assert [(page.url, page.text) for page in found] == [
        ("http://example.org/1", "<p>one</p>"), ("http://example.org/2", "中文"), ("http://example.org/4", "四"),
    ]  # fmt: skip
    assert found[1].headers == "X-Robots-Tag: noai"
    assert found[0].id == "urn:uuid:1"


@pytest.mark.parametrize("more", [-20, 7, 50, 300, 5000])
def test_a_wrong_length_costs_one_record(tmp_path: Path, more: int) -> None:
    path = tmp_path / "a.warc"
    first = record(1, b"<p>one</p>")
    path.write_bytes(
        first + record(2, b"<p>two two two</p>", more) + record(3, b"<p>three</p>") + record(4, b"<p>four</p>")
    )
    assert read(path) == [
        "<p>one</p>", next(text for text in read(path) if "its length" in text), "<p>three</p>", "<p>four</p>",
    ]  # fmt: skip
    assert read(path)[1].startswith(f"{len(first)}: its length is said to be")


def test_too_long_and_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(record(1, bytes(3 << 20)) + record(2, b"<p>two</p>")))
    assert read(path) == ["0: a record of 3 MiB: the most is 1", "<p>two</p>"]
    path.write_bytes(gzip.compress(record(1, b"<p>one</p>")) + gzip.compress(record(2, b"x" * 5000))[:-20])
    found: list[object] = []
    with pytest.raises(RecordError, match="gzip data that is cut off"):
        found.extend(warc.pages(path, LONGEST))
    assert read_some(path)[0] == "<p>one</p>"


def read_some(path: Path) -> list[str]:
    found: list[str] = []
    pages = warc.pages(path, LONGEST)
    try:
        found.extend(page.text for page in pages if isinstance(page, warc.Page))
    except RecordError:
        pass
    return found


def test_what_is_no_archive_has_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.warc"
    path.write_bytes(b"no archive" * 1000)
    assert read(path) == []
