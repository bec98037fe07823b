import pytest

from tutelage.corpus import quality

PROSE = "Return the largest item in an iterable, or the largest of two or more arguments."
CHINESE = "返回可迭代对象中最大的元素,或者返回两个及以上参数中最大的一个。"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("too_short", "Return the item."),
        ("too_short", "返回最大的元素。"),
        ("not_text", "The caf\ufffd and the r\ufffdsum\ufffd were read in the wrong encoding, badly."),
        ("not_text", "è¿™æ˜¯ä¸€æ®µ this is â€œquotedâ€\u009d text that was read as Latin-1, as it seems."),
        ("mostly_symbols", "+-----+-----+-----+ | 1.0 | 2.0 | 3.0 | +-----+-----+-----+ ok"),
        ("mostly_symbols", "│││││││││││││││││││││ 中文 │││││││││││││││││││││││││"),
        ("unbroken", "Here is the picture, encoded: " + "aGVsbG8" * 60),
        ("repeated_lines", "Home page of the site\nAbout this site\n" * 6),
        ("generated", "This file was automatically generated, there is nothing to read in it at all."),
        ("generated", "Ask for it.\n\nAuto-generated from TGI specs. For more details, see the page there."),
        ("generated", "TODO: missing docstring. TODO: missing docstring. TODO"),
    ],
)
def test_a_rule_refuses_with_a_reason(rule: str, text: str) -> None:
    refused = quality.refusal(text, quality.rules())
    assert refused is not None
    assert refused[0] == rule
    assert refused[1]


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        CHINESE,
        "Parser for options.\n\nprog: the name of the program\nadd_help: adds an auto-generated help option",
        "Naïve café, 中文 and emoji 🙂 stay in this text, for they are good text.",
        "\n".join(f"item {number}: a line of its own" for number in range(20)),
        "Example::\n\n    >>> numpy.add([1, 2], [3, 4])\n    array([4, 6])\n\nAdds two arrays, item by item.",
    ],
)
def test_good_text_passes(text: str) -> None:
    assert quality.refusal(text, quality.rules()) is None


def test_the_least_length_can_be_set() -> None:
    assert quality.refusal("Return the item.", quality.rules(10)) is None
    assert quality.too_short(CHINESE, 60) is None
    assert quality.too_short(CHINESE, 70) == "62 characters, at least 70 are wanted"
