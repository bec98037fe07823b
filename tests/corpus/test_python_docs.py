"""A small environment is made, with packages that are laid out as the real ones are."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tutelage.corpus import python_docs
from tutelage.records import Document

T = TypeVar("T")

FILES = {
    "shapes/__init__.py": (
        '"""Shapes of all kinds."""\n'
        "from ._core import area, Circle\nfrom ._core.measure import *\nfrom .lines import Line\n"
    ),
    "shapes/_core/__init__.py": "from .measure import *\nfrom .measure import Circle\n",
    "shapes/_core/measure.py": (
        '__all__ = ["area"]\n'
        'def area(shape, unit="m"):\n    """The area of a shape."""\n'
        'def hidden(x):\n    """Offered by nobody."""\n'
        'class Circle:\n    """A round line."""\n    def turn(self):\n        """Nothing happens."""\n'
    ),
    "shapes/lines/__init__.py": 'from .straight import Line\nfrom ._tools import saw\n__all__ = ["Line"]\n',
    "shapes/lines/straight.py": 'class Line:\n    """The shortest way."""\n',
    "shapes/tests/test_area.py": 'def check():\n    """A test is no documentation."""\n',
    "shapes/test_more.py": 'def check():\n    """Nor is this one."""\n',
    "shapes/lines/_tools.py": 'def saw():\n    """Imported for its own use."""\n',
    "shapes/broken.py": "def broken(:\n",
    "circle.py": (
        'from shapes import *\nfrom shapes._core import area\ndef 面积(r):\n    """返回圆的面积,半径为参数。"""\n'
    ),
}


def no_progress(items: Iterable[T], description: str, total: object = None) -> Iterator[T]:  # noqa: ARG001
    yield from items


def install(folder: Path, name: str, metadata: str, files: dict[str, str]) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{metadata}")
    for file, text in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site-packages"
    install(folder, "shapes", "License: MIT\n", {name: text for name, text in FILES.items() if "/" in name})
    install(folder, "circle", "", {name: text for name, text in FILES.items() if "/" not in name})
    monkeypatch.setattr(python_docs, "_folders", lambda: [str(folder)])
    monkeypatch.setattr(python_docs, "_stdlib_files", list)
    return folder


def of(environment: Path, workers: int = 1) -> list[Document]:
    assert environment.exists()
    documents, _ = python_docs.documents(no_progress, workers)
    return [found for found in documents if "stdlib" not in found.source]


@pytest.fixture(scope="module")
def standard_library() -> dict[str, Document]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(python_docs, "_folders", list)
        documents, packages = python_docs.documents(no_progress, 2)
    assert [package.name for package in packages] == ["stdlib"]
    found = {document.metadata["name"]: document for document in documents if document.metadata["kind"] != "topic"}
    found |= {"topic " + one.metadata["name"]: one for one in documents if one.metadata["kind"] == "topic"}
    assert len(found) == len(documents)
    return found


def test_objects_go_by_the_name_that_users_import(environment: Path) -> None:
    assert [(found.metadata["kind"], found.metadata["name"]) for found in of(environment)] == [
        ("function", "circle.面积"),
        ("module", "shapes"),
        ("class", "shapes.Circle"),
        ("method", "shapes.Circle.turn"),
        ("function", "shapes.area"),
        ("class", "shapes.lines.Line"),
    ]


def test_a_document_is_whole(environment: Path) -> None:
    area = of(environment)[4]
    assert area.text == "shapes.area(shape, unit='m')\n\nThe area of a shape."
    assert python_docs.body(area) == "The area of a shape."
    assert (area.source, area.licence, area.language) == ("python:shapes==1.0", "MIT", "en")
    assert area.metadata == {
        "kind": "function",
        "name": "shapes.area",
        "module": "shapes",
        "package": "shapes",
        "signature": "(shape, unit='m')",
    }


def test_chinese_and_an_unknown_licence(environment: Path) -> None:
    circle = of(environment)[0]
    assert circle.language == "zh"
    assert circle.licence == "unknown"


def test_two_workers_give_the_same(environment: Path) -> None:
    assert of(environment, 2) == of(environment, 1)


def test_the_standard_library(standard_library: dict[str, Document]) -> None:
    dumps = standard_library["json.dumps"]
    assert dumps.text.startswith("json.dumps(obj, *, skipkeys=False,")
    assert dumps.licence == "PSF-2.0"
    assert dumps.source == f"python:stdlib=={'.'.join(map(str, sys.version_info[:3]))}"
    assert not any(name.startswith(("test.", "idlelib.")) or "._" in name for name in standard_library)
    assert len(standard_library) > 5000


@pytest.mark.parametrize(
    ("name", "kind", "start"),
    [
        ("len", "function", "len(obj, /)\n\nReturn the number of items"),
        ("str.split", "method", "str.split(sep=None, maxsplit=-1)\n\nReturn a list"),
        ("math.sin", "function", "math.sin(x, /)\n\nReturn the sine"),
        ("itertools.chain", "class", "itertools.chain(*iterables)\n\nReturn a chain object"),
        ("collections.deque", "class", "collections.deque([iterable[, maxlen]])\n\nA list-like sequence"),
        ("functools.reduce", "function", "functools.reduce("),
        ("topic with", "topic", 'with\n\nThe "with" statement'),
    ],
)
def test_compiled_modules_and_topics(standard_library: dict[str, Document], name: str, kind: str, start: str) -> None:
    assert standard_library[name].metadata["kind"] == kind
    assert standard_library[name].text.startswith(start)


def test_a_file_of_the_user_does_not_pass_for_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "array.py").write_text("raise SystemExit('imported the wrong one')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "array", raising=False)
    names = {module.name for module in python_docs._compiled_modules()}
    assert "array" in names
    assert sys.path[0] == str(tmp_path)
