import inspect

import pytest

from tutelage.instruction.docstrings import clean, parse

NUMPY = inspect.cleandoc("""
    Say the sum. It is exact.

    More about it.

    Parameters
    ----------
    a, b : int
        Two numbers.
    axis : {int, None}, optional
        Along which axis
        to add. The default is all.
    *args
        The rest.

    Returns
    -------
    total : int
        The sum of all. Never negative.

    Raises
    ------
    ValueError
        If a is negative.
    OverflowError
        If the sum is too large.

    Notes
    -----
    Raises nothing else.
""")

GOOGLE = inspect.cleandoc("""
    Say the sum.

    Args:
        a (int, optional): The first number. More of it.
        b (Dict[str, Tuple[int, int]]):
            The second number,
            over two lines.

            A second paragraph.
        c: - a bullet

    Returns:
        int: The sum of both.

    Raises:
        ValueError: If a is negative.

    Example:
        >>> add(1, 2)
""")

SPHINX = inspect.cleandoc("""
    Say the sum.

    :param int a: The first number.
    :param b: The second number,
        over two lines.
    :type b: int
    :returns: The sum of both.
    :raises ~errors.SumError: If a is negative.
""")


def test_numpy_style_is_read() -> None:
    read = parse(NUMPY)
    assert read.paragraphs == ("Say the sum. It is exact.", "More about it.")
    assert read.parameters is not None
    assert read.returns is not None
    assert read.raises is not None
    assert [entry.name for entry in read.parameters.entries] == ["", "axis", "*args"]
    assert read.parameters.entries[1].meaning == ("Along which axis to add.", "The default is all.")
    assert read.parameters.header == ("Parameters", "----------")
    assert read.returns.entries[0].meaning == ("The sum of all.", "Never negative.")
    assert [(e.name, e.meaning) for e in read.raises.entries] == [
        ("ValueError", ("If a is negative.",)),
        ("OverflowError", ("If the sum is too large.",)),
    ]


def test_google_style_is_read() -> None:
    read = parse(GOOGLE)
    assert read.paragraphs == ("Say the sum.",)
    assert read.parameters is not None
    assert read.returns is not None
    assert read.raises is not None
    assert [(e.name, e.meaning) for e in read.parameters.entries] == [
        ("a", ("The first number.", "More of it.")),
        ("b", ("The second number, over two lines.",)),
        ("c", ()),
    ]
    assert read.returns.entries[0].meaning == ("The sum of both.",)
    assert read.raises.entries[0].name == "ValueError"


def test_transformers_dialect_is_read() -> None:
    read = parse(
        clean("Do it.\n\nArgs:\n    size (`int`, *optional*, defaults to 5):\n        How many [`~x.Token`] there are.")
    )
    assert read.parameters is not None
    entry = read.parameters.entries[0]
    assert (entry.name, entry.meaning) == ("size", ("How many `Token` there are.",))
    assert entry.lines[0].strip() == "size (`int`, optional, defaults to 5):"


def test_sphinx_style_is_read() -> None:
    read = parse(SPHINX)
    assert read.paragraphs == ("Say the sum.",)
    assert read.parameters is not None
    assert read.returns is not None
    assert read.raises is not None
    assert [(e.name, e.meaning) for e in read.parameters.entries] == [
        ("a", ("The first number.",)),
        ("b", ("The second number, over two lines.",)),
    ]
    assert read.returns.entries[0].meaning == ("The sum of both.",)
    assert read.raises.entries[0].name == "errors.SumError"


def test_code_and_signatures_are_no_prose() -> None:
    text = "f(x, y) -> z\n\nReal prose.\n\n>>> f(1)\n2\n\n    indented\n\n- a list\n\nsize (`int`): a parameter."
    assert parse(text).paragraphs == ("Real prose.",)


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("See :class:`~x.y.Name` and :func:`x.go`.", "See `Name` and `x.go`."),
        ("A :ref:`title words <target>` here.", "A title words here."),
        ("Give ``None`` or ``a`b``.", "Give `None` or `a`b`."),
        ("A [`Name`] and [`~a.b.Name`](./x).", "A `Name` and `Name`."),
        ("Look at `the page <https://a.b/c>`_ now.", "Look at the page now."),
        ("A [page](https://a.b/c) here.", "A page here."),
        (
            "**Bold** and *lean* but *args and **kwargs stay, 2*3*4.",
            "Bold and lean but *args and **kwargs stay, 2*3*4.",
        ),
        ("Known [1]_ fact.", "Known fact."),
        ("Before.\n\n.. note::\n    Hidden.\n\nAfter.", "Before.\n\nAfter."),
        ("Code::\n\n    x = 1", "Code:\n\n    x = 1"),
        ("Text\n```python\nx = 1\n```\nafter", "Text\nafter"),
    ],
)
def test_markup_is_cleaned(marked: str, plain: str) -> None:
    assert clean(marked) == plain


def test_the_rest_of_an_endless_docstring_is_not_read() -> None:
    assert len(clean("word " * 100_000)) == 20_000
