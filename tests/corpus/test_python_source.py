from pathlib import Path

import pytest

from tutelage.corpus.python_source import Import, Thing, read, split_heading

SOURCE = '''
"""A module for shapes."""
from typing import overload
from ._inner import area as surface, _hidden
from .other import *
import os

__all__ = ["Shape", "surface"]
__all__ += ["turn"]


class Shape(object):
    """A line.

    Args:
        sides: how many.
    """

    def __init__(self, sides: int, /, *, name: str = "none", colours=("red", "green", "blue", "yellow", "cyan")):
        """Never shown."""

    def turn(self, angle: float, *more, unit="degree", **rest) -> "Shape":
        """Turn it by an angle."""

    @staticmethod
    def unit(a, b=-1):
        """Give the unit shape."""

    @classmethod
    async def load(cls, path):
        """Load one from a file."""

    @property
    def sides(self):
        """How many sides; no method to its user."""

    def _secret(self):
        """Not public."""

    def silent(self):
        pass


try:
    import numpy
except ImportError:
    def turn(shape, *, by):
        """Turn a shape."""

        def inner():
            """Not seen from outside."""
else:
    @overload
    def turn(shape):
        """One of the overloads."""


def sigma(x, n):
    """sigma(x, n) -> float

    The sum of powers.
    """
'''


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    path = tmp_path / "__init__.py"
    path.write_text(SOURCE)
    return path


def test_public_docstrings_with_plain_signatures(shapes: Path) -> None:
    module = read(shapes, "shapes")
    assert module is not None
    assert module.things == (
        Thing("module", "", "", "A module for shapes."),
        Thing("class", "Shape", "(sides, /, *, name='none', colours=...)", "A line.\n\nArgs:\n    sides: how many."),
        Thing("method", "Shape.turn", "(angle, *more, unit='degree', **rest)", "Turn it by an angle."),
        Thing("method", "Shape.unit", "(a, b=-1)", "Give the unit shape."),
        Thing("method", "Shape.load", "(path)", "Load one from a file."),
        Thing("function", "turn", "(shape, *, by)", "Turn a shape."),
        Thing("function", "sigma", "(x, n)", "The sum of powers."),
    )


def test_imports_and_offers(shapes: Path) -> None:
    module = read(shapes, "shapes")
    assert module is not None
    assert module.package
    assert module.imports == (
        Import("typing", "overload", "overload"),
        Import("shapes._inner", "area", "surface"),
        Import("shapes.other", "*", "*"),
    )
    assert module.offers == {"Shape", "surface", "turn"}


def test_relative_imports_of_a_plain_module(tmp_path: Path) -> None:
    path = tmp_path / "deep.py"
    path.write_text("from ..top import a\nfrom . import b\n__all__ = [name for name in dir()]\n")
    module = read(path, "one.two.deep")
    assert module is not None
    assert module.imports == (Import("one.top", "a", "a"), Import("one.two", "b", "b"))
    assert module.offers is None


@pytest.mark.parametrize("source", [b"def broken(:\n", b"\x00", b"\xff\xfe\x00 = 1"])
def test_what_is_not_python_is_none(tmp_path: Path, source: bytes) -> None:
    path = tmp_path / "broken.py"
    path.write_bytes(source)
    assert read(path, "broken") is None


def test_documentation_given_to_compiled_functions(tmp_path: Path) -> None:
    path = tmp_path / "_docs.py"
    path.write_text(
        r'''
add_docstr(torch.abs, r"""
abs(input: Tensor, *, out: Optional[Tensor] = None) -> Tensor

The absolute value :math:`x_{{i}}`.

Args:
    {input}

Example::

    >>> torch.abs(x)
""".format(**common))
add_docstr(torch.neg, r"""
neg(input) -> Tensor

Takes {input} and turns its sign.
""".format(**common))
add_docstr(torch.attribute, "Something that cannot be called.")
add_docstr(other.thing, "thing(x)\n\nOf another package.")
'''
    )
    module = read(path, "torch._docs")
    assert module is not None
    assert module.things == (
        Thing(
            "function",
            "torch:abs",
            "(input, *, out=None)",
            "The absolute value :math:`x_{i}`.\n\nExample::\n\n    >>> torch.abs(x)",
        ),
    )


def test_a_name_with_documented_attributes_is_no_function(tmp_path: Path) -> None:
    path = tmp_path / "_add.py"
    path.write_text(
        'add_newdoc("numpy._core", "flatiter", "flatiter(x)\\n\\nAn iterator over arrays.")\n'
        'add_newdoc("numpy._core", "flatiter", ("base", "The array."))\n'
        'add_newdoc("numpy._core", "array", "array(\\n    object,\\n    dtype=None,\\n)\\n--\\n\\n'
        'array(object)\\n\\nCreate an array.")\n'
    )
    module = read(path, "numpy._core._add")
    assert module is not None
    assert module.things == (Thing("function", "numpy._core:array", "(object, dtype=None)", "Create an array."),)


@pytest.mark.parametrize(
    ("name", "documentation", "expected"),
    [
        ("reduce", "reduce(function, it[, initial]) -> value\n\nApply.", ("(function, it[, initial])", "Apply.")),
        ("pop", "pop($self, index=-1, /)\n--\n\nRemove it.", ("(index=-1, /)", "Remove it.")),
        ("f", "f(a=(1, 2)) and more\nWhat it does.", ("(a=(1, 2))", "What it does.")),
        ("f", "f(x)", ("", "f(x)")),
        ("f", "f(x\n\nNever closed.", ("", "f(x\n\nNever closed.")),
        ("f", "What it does.", ("", "What it does.")),
    ],
)
def test_the_heading_of_compiled_documentation(name: str, documentation: str, expected: tuple[str, str]) -> None:
    assert split_heading(name, documentation) == expected
