import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.corpus.languages import (
    _counts,  # pyright: ignore[reportPrivateUsage]
    _without_code,  # pyright: ignore[reportPrivateUsage]
    chinese_script,
    han_characters,
    language,
    length,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Return the largest item.", "en"),
        ("返回序列中最大的元素。", "zh"),
        ("使用 numpy.sum 返回数组元素的总和", "zh"),
        ("The word 中 means middle, and this sentence is English.", "en"),
        ("调用 numpy.asarray 转换数组", "zh"),
        ("日本語版文書を読む", "ja"),
        ("これは日本語の文です。", "ja"),
        ("한국어 문장입니다.", "ko"),
        ("Это русский текст.", "ru"),
        ("Décrit la fonction d'après son résumé, qui est très court.", "fr"),
        ("Der schnelle braune Fuchs springt über den faulen Hund.", "de"),
        ("晨起動征鐸，客行悲故鄉。雞聲茅店月，人跡板橋霜。", "zh"),
        ("def f(x):\n    return x.sum(axis=0)\n", "en"),
        ("1234 5678 !!!", "und"),
        ("", "und"),
    ],
)
def test_language(text: str, expected: str) -> None:
    assert language(text) == expected


def test_a_manual_full_of_code_is_chinese() -> None:
    code = "\n".join(f"result_{n} = paddle.nn.functional.flash_attention(query, key, value)" for n in range(40))
    text = f"# flash_attention\n\n计算注意力的函数，参数说明如下。\n\n```python\n{code}\n```\n\n返回值是张量。"
    assert language(text) == "zh"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("返回序列中最大的元素，国家", "Hans"), ("雞聲茅店月，國家", "Hant"), ("人之初", ""), ("plain", "")],
)
def test_two_ways_of_writing_chinese(text: str, expected: str) -> None:
    assert chinese_script(text) == expected


def test_a_chinese_character_counts_as_two() -> None:
    assert length("ab 中文") == 3 + 4
    assert length("plain") == 5
    assert length("かな한글") == 8


def test_han_characters_leave_out_punctuation_and_kana() -> None:
    assert han_characters("你好,world。日本のこと") == "你好日本"


PIECES = [
    "the", "The", "of", "THIS", "thıs", "İs", "iſ", "the_", "the1", "thé", "the\u0301", "中the", "the😀", "·", ".",
    "\U0001d400the", "a", "numpy", "é", "中文字符", "国", "日本語の", "한국", "русский", "²", "Ⅳ", "\U00020000", "\0",
    "`", "```", "~~~", "\n", "\n    ", "\n\t", "ftp://the", "é://", "http://a中of", "x" * 50,
]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join) | st.text(), max_size=5))
def test_common_words_are_those_that_stand_alone(texts: list[str]) -> None:
    word = re.compile(r"\b(?:the|of|and|to|is|in|that|for|it|this|with|are|was|you|be)\b", re.IGNORECASE)
    assert [counts.common for counts in _counts(texts)] == [len(word.findall(text)) for text in texts]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=30).flatmap(
        lambda some: st.sampled_from(["".join(some), " ".join(some)])
    )
)
def test_code_and_addresses_are_taken_out(text: str) -> None:
    plain = re.sub(r"^(?:```|~~~).*?(?:^(?:```|~~~)|\Z)", " ", text, flags=re.DOTALL | re.MULTILINE)
    plain = re.sub(r"`[^`\n]+`|[A-Za-z]+://[\x21-\x7e]+|^(?: {4}|\t).*$", " ", plain, flags=re.MULTILINE)
    assert _without_code(text) == plain


def test_scripts_are_counted_by_character() -> None:
    latin, han, kana, hangul, letters, common = _counts(["", "the é 中国\U00020000 かな 한 русский 12 😀"])[1]
    assert (latin, han, kana, hangul, letters, common) == (4, 3, 2, 1, 7, 1)
