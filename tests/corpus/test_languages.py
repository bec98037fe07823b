import pytest

from tutelage.corpus.languages import han_characters, language, length


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Return the largest item.", "en"),
        ("返回序列中最大的元素。", "zh"),
        ("使用 numpy.sum 返回数组元素的总和", "zh"),
        ("The word 中 means middle, and this sentence is English.", "en"),
        ("调用 numpy.asarray 转换数组", "zh"),
        ("日本語版文書を読む", "und"),
        ("これは日本語の文です。", "und"),
        ("한국어 문장입니다.", "und"),
        ("Это русский текст.", "und"),
        ("Décrit la fonction d'après son résumé.", "en"),
        ("1234 5678 !!!", "und"),
        ("", "und"),
    ],
)
def test_language_is_told_by_script(text: str, expected: str) -> None:
    assert language(text) == expected


def test_a_chinese_character_counts_as_two() -> None:
    assert length("ab 中文") == 3 + 4
    assert length("plain") == 5
    assert length("かな한글") == 8


def test_han_characters_leave_out_punctuation_and_kana() -> None:
    assert han_characters("你好,world。日本のこと") == "你好日本"
