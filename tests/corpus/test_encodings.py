import pytest

from tutelage.corpus.encodings import decode, decode_page

SIMPLIFIED = "卷积神经网络是一类包含卷积计算的前馈神经网络，是深度学习的代表算法之一。它具有表征学习的能力。"
TRADITIONAL = "卷積神經網路是一類包含卷積計算的前饋神經網路，是深度學習的代表演算法之一。它具有學習的能力。"
JAPANESE = "これは日本語の文です。機械学習の分野では、ニューラルネットワークが広く使われている。"
KOREAN = "한국어 문장입니다. 기계 학습은 인공지능의 한 분야이다. 오늘 날씨가 좋습니다."
RUSSIAN = "Это русский текст. Машинное обучение изучает методы построения алгоритмов, способных обучаться."
FRENCH = "Décrit la fonction d\u2019après son résumé, à côté de l\u2019été où les élèves étaient fatigués."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((SIMPLIFIED, name) for name in ("utf-8", "utf-8-sig", "gb18030", "gbk", "utf-16", "utf-16-le", "utf-32")),
        *((TRADITIONAL, name) for name in ("big5", "gb18030", "utf-16")),
        *((JAPANESE, name) for name in ("shift_jis", "euc_jp", "utf-8")),
        (KOREAN, "euc_kr"),
        *((RUSSIAN, name) for name in ("cp1251", "koi8-r")),
        (FRENCH, "cp1252"),
        ("plain ASCII", "ascii"),
    ],
)
def test_encodings_are_told_from_the_bytes(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)).text == text


def test_a_page_says_what_it_is() -> None:
    page = b"<meta charset=gb2312><p>" + "短".encode("gbk")
    assert decode_page(page).text.endswith("短")
    assert decode_page("<p>é".encode("latin-1"), "iso-8859-1").text == "<p>é"
    assert decode_page(b"<meta charset=nonsense><p>a").text == "<meta charset=nonsense><p>a"


def test_utf8_goes_before_what_a_page_says() -> None:
    assert decode_page("<meta charset=gb2312><p>中文".encode()).text.endswith("中文")


def test_a_broken_byte_in_utf8_is_only_that_byte() -> None:
    content = (SIMPLIFIED * 20).encode()
    assert decode(content[:-1]).text == (SIMPLIFIED * 20)[:-1] + "\ufffd"
    assert decode(b"").text == ""
