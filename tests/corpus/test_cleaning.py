from hypothesis import given
from hypothesis import strategies as st

from tutelage.corpus.cleaning import clean, html_text, pieces


def test_clean_makes_text_plain() -> None:
    assert clean("\ufeffcafe\u0301 \x00ok  \r\n\tkept\u200b\r\n") == "caf\u00e9 ok\n\tkept"
    assert clean("a\n\n\n\n\n\nb") == "a\n\n\nb"
    assert clean("中文,标点。\u3000\n第二行") == "中文,标点。\n第二行"
    assert clean("    indented\n        code") == "    indented\n        code"


@given(st.text())
def test_clean_is_done_once(text: str) -> None:
    once = clean(text)
    assert clean(once) == once


def test_html_becomes_text() -> None:
    page = (
        "<html><head><title>T</title><style>p {}</style></head><body><nav><a>menu</a></nav>"
        "<h1>Title</h1><p>One &amp;\n  <b>two</b>.</p><ul><li>first<li>second</ul>"
        "<pre>a  b\n  c</pre><script>var x = 1;</script><p>中文</p><footer>end</footer></body></html>"
    )
    text = html_text(page)
    assert text.split("\n\n") == ["Title", "One & two.", "first\nsecond", "a  b\n  c", "中文"]


def test_an_unclosed_element_does_not_hide_the_rest() -> None:
    assert html_text("<nav><form>menu</nav><p>kept</p>") == "kept"


def test_pieces_are_cut_at_blank_lines() -> None:
    assert pieces("one one\n\ntwo two\n\nthree", 18) == ["one one\n\ntwo two", "three"]
    assert pieces("short", 18) == ["short"]
    assert pieces("一二三四五。六七八九十。", 8) == ["一二三四五。", "六七八九十。"]
    assert pieces("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


@given(st.text(alphabet="ab \n。.", max_size=200), st.integers(min_value=4, max_value=40))
def test_pieces_lose_no_word(text: str, longest: int) -> None:
    found = pieces(text, longest)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(0 < len(piece) <= longest for piece in found)
