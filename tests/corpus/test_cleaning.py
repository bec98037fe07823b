import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.corpus.cleaning import clean, cleaned, pieces


def test_clean_makes_text_plain() -> None:
    assert clean("\ufeffcafe\u0301 \x00ok  \r\n\tkept\u200b\r\n") == "caf\u00e9 ok\n\tkept"
    assert clean("a\n\n\n\n\n\nb") == "a\n\n\nb"
    assert clean("中文,标点。\u3000\n第二行") == "中文,标点。\n第二行"
    assert clean("    indented\n        code") == "    indented\n        code"


@settings(deadline=None)
@given(st.text())
def test_clean_is_done_once(text: str) -> None:
    once = clean(text)
    assert clean(once) == once


@settings(deadline=None)
@given(st.text(alphabet="<>/abrp &;ltg#x=\"'`~\n!-", max_size=60))
def test_clean_is_done_once_with_markup(text: str) -> None:
    once = clean(text)
    assert clean(once) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one</p></td></tr></table>", "one"),
        ("two&nbsp;&nbsp;&amp;nbsp;", "two"),
        ("three&lt;br/&gt;", "three"),
        ("four<script>var a=1<2;</script>", "four"),
        ('five<div class="nav"><a href="/home">', "five"),
        ("six<!-- ad slot -->", "six"),
        ("seven<br>eight", "seven eight"),
        ("Tom &amp; Jerry &copy; 2020", "Tom & Jerry © 2020"),
        ('## <a name="x"></a> Title', "## Title"),
        ("| a<br/>b | c |", "| a b | c |"),
        ("一。<span style='color:red'>二</span>", "一。二"),
    ],
)
def test_leftovers_of_markup_go(text: str, expected: str) -> None:
    assert clean(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "if a < b and c > d: a <- b",
        "std::vector<int> and T: Trait<Item> and <T>",
        "R&D; AT&T and x &y",
        "the `<div>` element and `&nbsp;`",
        "```html\n<div>\n<!-- kept -->\n</div>\n```",
        "~~~\n<p>\n~~~",
        "10<sup>6</sup> and H<sub>2</sub>O",
        "write &lt;T&gt; for a type",
        "    <div>\n        <p>indented code</p>\n    </div>",
        "<Intro>\n\nJSX stays\n\n</Intro>",
        "👩\u200d💻🇨🇳👍🏽❤️",
        "ｆｕｌｌ　width Ⅳ ① ﬁ stay: no NFKC",
        "<EMAIL> and <PHONE>",
        '```jsx\nreturn <ul className="a">\n  <li key={x}>\n</ul>\n```',
    ],
)
def test_what_has_meaning_stays(text: str) -> None:
    assert cleaned(text) == (text.strip("\n").rstrip(), {})


def test_an_element_that_hangs_at_a_line_of_code_goes() -> None:
    code = '```cpp\nvoid f();{}\nint g = a < b; // see <b class="x"> there\n```'
    assert clean(code.format('<img src="ad.gif" width=1/>')) == code.format("")
    assert clean(code.format("<!-- ad -->")) == code.format("")
    page = '```html\n<p>text</p><img src="ad.gif"/>\n```'
    assert clean(page) == page


def test_text_read_in_a_wrong_encoding_is_mended() -> None:
    text = "元数据锁：本文介绍了“元数据锁”的概念。"
    assert clean(text.encode().decode("latin-1")) == text
    assert clean("il est trÃ¨s tÃ´t, c’est l’Ã©tÃ©") == "il est très tôt, c’est l’été"
    assert clean(("的中文网页是什么" * 4).encode().decode("gb18030", "ignore")) != ""
    assert cleaned("Ça, c'est l'Île-de-France; où?").changes == {}


def test_lines_that_pages_have_around_their_text_go() -> None:
    assert cleaned("Skip to content\n\nText.\n\n返回顶部\n") == ("Text.", {"boilerplate": 2})
    assert clean("Do not skip to content.") == "Do not skip to content."


def test_what_was_changed_is_counted() -> None:
    assert cleaned("a<b>c</b>\x00").changes == {"markup": 2, "control": 1}


def test_pieces_are_cut_at_blank_lines() -> None:
    assert pieces("one one\n\ntwo two\n\nthree", 18) == ["one one\n\ntwo two", "three"]
    assert pieces("short", 18) == ["short"]
    assert pieces("一二三四五。六七八九十。", 8) == ["一二三四五。", "六七八九十。"]
    assert pieces("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


@settings(deadline=None)
@given(st.text(alphabet="ab \n。.", max_size=200), st.integers(min_value=4, max_value=40))
def test_pieces_lose_no_word(text: str, longest: int) -> None:
    found = pieces(text, longest)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(0 < len(piece) <= longest for piece in found)
