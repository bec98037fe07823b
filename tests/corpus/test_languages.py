import pytest

from tutelage.corpus.languages import chinese_script, han_characters, language, length


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
