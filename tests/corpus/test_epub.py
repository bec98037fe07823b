import zipfile
from pathlib import Path

import pytest

from tutelage.corpus import epub
from tutelage.errors import RecordError

CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
PACKAGE = """<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:title>A Book</dc:title><dc:rights>https://creativecommons.org/licenses/by/4.0/</dc:rights></metadata>
<manifest><item id="b" href="two.xhtml"/><item id="a" href="one%20.xhtml"/><item id="c" href="gone.xhtml"/></manifest>
<spine><itemref idref="a"/><itemref idref="b"/><itemref idref="c"/></spine></package>"""


def book(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("META-INF/container.xml", files.get("container", CONTAINER))
        made.writestr("OEBPS/book.opf", files.get("package", PACKAGE))
        made.writestr("OEBPS/one .xhtml", files.get("one", "<p>first</p>"))
        made.writestr("OEBPS/two.xhtml", "<p>第二</p>")
    return path


def test_chapters_in_reading_order(tmp_path: Path) -> None:
    found = list(epub.chapters(book(tmp_path / "a.epub"), 1 << 20))
    assert [chapter.page for chapter in found if isinstance(chapter, epub.Chapter)] == ["<p>first</p>", "<p>第二</p>"]
    assert found[0] == epub.Chapter(
        "OEBPS/one .xhtml", "<p>first</p>", "A Book", "https://creativecommons.org/licenses/by/4.0/"
    )
    assert found[2] == epub.Missing("OEBPS/gone.xhtml", "OEBPS/gone.xhtml is not in it")


def test_a_chapter_that_is_a_bomb(tmp_path: Path) -> None:
    found = list(epub.chapters(book(tmp_path / "a.epub", one="x" * (3 << 20)), 1 << 20))
    assert found[0] == epub.Missing("OEBPS/one .xhtml", "OEBPS/one .xhtml unpacks to more than 1 MiB")
    assert isinstance(found[1], epub.Chapter)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"container": "<container/>"}, "names no package"),
        ({"package": "<package"}, "is no XML"),
        ({"package": '<!DOCTYPE x [<!ENTITY a "b">]><package/>'}, "defines entities"),
    ],
)
def test_what_is_no_book_is_said(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(RecordError, match=f"not an EPUB book: .*{message}"):
        list(epub.chapters(book(tmp_path / "a.epub", **files), 1 << 20))
    (tmp_path / "b.epub").write_bytes(b"no archive")
    with pytest.raises(RecordError, match=r"b\.epub: not an EPUB book"):
        list(epub.chapters(tmp_path / "b.epub", 1 << 20))
