import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.corpus import cleaning, languages, personal, treatment
from tutelage.corpus.signs import OTHER, PLAIN_FORMS, WORDS, Marks
from tutelage.corpus.traits import ADDRESS, MARKUP, NUMBER, SECRET, Traits, traits
from tutelage.corpus.treatment import looked_for, treat

PIECES = [
    "<kbd>&amp;</kbd>", '<a href="`x">', "`", "~~~", "</\tp>", "```cpp\nx;<br>\ny\n```", "212-555-0147", "010-62770000",
    "4111-1111-1111-1111", "\u212b",
    "plain words of the text", "<br/>", "</td>", "&nbsp;", "&#38;", "<!-- c -->", "a < b", "<T>", "`<p>`", "```", "]]>",
    "x@y.org", "13800138000", "(212) 555-0147",
    "(010) 6277 0000", "+4420794609", "+1 23456789", "&amp;lt;br&amp;gt;", "&#60;b&#62;",
    "\n\u3000Advertisement\n", "\n\xa0返回顶部\n",
    "138 0013 8000", "8.8.44.55", "9.9.99.99", "23.109.220.147", "AKIAJO2NY7JLHWFTGDSR",
    "2a00:1450:4001:830:0:0:0:200e", "sk-abcdefghijklmnopqrstuvwx", "(0755)86000000", "+44 20 7946 0958",
    "11010519491231002X", "4111 1111 1111 1111", "中文字符。", "國家", "\u200b", "\x00", "\r\n", "\u2028", "\x85", "\n",
    "\n\n\n\n", " \n", "\u3000\n", "\xa0\n", "\t", "e\u0301", "Skip to content", "返回顶部", "\nAdvertisement\n",
    "Ã©tÃ©", "trÃ¨s", "锛銆鐨", "日本語です", "한국어", "русский текст", "👩\u200d💻",
]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join), min_size=1, max_size=6))
def test_many_at_once_are_as_one_by_one(texts: list[str]) -> None:
    for text, found in zip(texts, treat(texts), strict=True):
        clean = cleaning.cleaned(text)
        masked, counts = personal.masked(clean.text)
        assert (found.text, found.changes, found.personal) == (masked, clean.changes, counts)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), min_size=1, max_size=6))
def test_without_spaces_too(texts: list[str]) -> None:
    for text, found in zip(texts, treat(texts), strict=True):
        clean = cleaning.cleaned(text)
        assert (found.text, found.changes, found.personal) == (*personal.masked(clean.text)[:1], clean.changes,
                                                               personal.masked(clean.text)[1])  # fmt: skip


def test_a_leftover_at_the_end_with_spaces_after_it() -> None:
    for text in ("Skip to content\t", "some words\nSkip to content  ", "返回顶部\u3000", "Skip to content"):
        assert treat([text])[0][:2] == cleaning.cleaned(text)
        assert treat([text])[0].changes == {"boilerplate": 1}


@pytest.mark.parametrize("text", ["+4420794609", "+1 23456789", "(212) 555-0147", "(010) 62770000", "8.8.44.55"])
def test_a_number_is_seen_in_the_first_pass(text: str) -> None:
    assert treat([f"say {text} twice"])[0][:3:2] == personal.masked(f"say {text} twice")
    assert treat([f"say {text} twice"])[0].personal


def test_what_markup_hid_is_cleaned_in_a_second_turn() -> None:
    for text in ("one\n<b>Advertisement</b>\ntwo", "one <i></i>\ntwo"):
        assert treat([text])[0][:2] == cleaning.cleaned(text)
    assert treat(["one\n<b>Advertisement</b>\ntwo"])[0].text == "one\ntwo"


@pytest.mark.parametrize("blank", ["\u3000", "\xa0", " \u3000\t"])
def test_a_leftover_that_is_indented(blank: str) -> None:
    assert treat([f"text\n{blank}返回顶部\nmore"])[0][:2] == ("text\nmore", {"boilerplate": 1})


def test_languages_are_those_that_one_text_alone_has() -> None:
    texts = [
        "The boats that lay in the harbour began to pull at their ropes, for the wind was rising.",
        "返回序列中最大的元素，国家", "雞聲茅店月，人跡板橋霜，國家", "これは日本語の文です。", "한국어 문장입니다.",
        "Это русский текст, и он не очень длинный.", "Décrit la fonction d'après son résumé, très court.", "1234", "",
        "调用 numpy.asarray 转换数组", "x = f(y)\nz = g(x)\n",
    ]  # fmt: skip
    found = treat(texts)
    assert [one.language for one in found] == [languages.language(text) for text in texts]
    assert [one.script for one in found[1:4]] == ["Hans", "Hant", ""]


@settings(deadline=None)
@given(st.lists(st.text(), max_size=4))
def test_any_text_goes_through(texts: list[str]) -> None:
    assert [one.text for one in treat(texts, mask=False)] == [cleaning.clean(text) for text in texts]


def test_code_and_markup_in_each_other() -> None:
    for text in (
        "see `<b>` and <b>this</b>", 'a <a href="`x">b</a> <i>c</i> ` d', "<!-- ``` --> <b>one</b> ``` <b>two</b>",
        "~~~\n<b>\n~~~ <i>now</i>", "press <kbd>&amp;</kbd> <b>twice</b>", "end</\tp> of it",
    ):  # fmt: skip
        assert treat([text])[0][:2] == cleaning.cleaned(text)
        assert treat([text])[0].changes


def test_places_of_markup_are_characters() -> None:
    text = "中文😀é `<b>` <b>文</b> ]]> &lt;b&gt; x"
    found = traits([text, "", text], looked_for())
    places = found.places[found.begins[2] : found.begins[3]].tolist()
    assert [text[place] for place in places] == ["<", "<", "]", "&", "&"]
    assert found.begins.tolist() == [0, 5, 5, 10]


def test_an_element_in_code_is_no_trait() -> None:
    assert not traits(["`<b>` and\n```html\n<b>\n```"], looked_for()).flags[0] & MARKUP
    assert traits(["```cpp\nx;<br>\n```"], looked_for()).flags[0] & MARKUP


@pytest.mark.parametrize(
    "text", ["2024-01-01 00", "400-820-8820", "0.1234567890", "a13800138000", "1 2 3 4 5 6 7 8 9 10"]
)
def test_a_number_that_is_nobodys_is_no_trait(text: str) -> None:
    assert not traits([f"say {text} twice"], looked_for()).flags[0] & NUMBER


@pytest.mark.parametrize(
    "text",
    ["AKIAJO2NY7JLHWFTGDSR", f"hf_{'aB' * 16}", f"-----BEGIN RSA PRIVATE KEY-----\n{'a' * 50}\n-----END RSA KEY-----"],
)
def test_a_key_is_seen_in_the_first_pass(text: str) -> None:
    assert treat([f"say {text} twice"])[0].personal == {"SECRET": 1}
    assert not traits(["say git, npm, hf and AKI"], looked_for()).flags[0] & SECRET


def test_forms_that_are_taken_for_plain_are() -> None:
    pairs = (unicodedata.decomposition(chr(code)).split() for code in range(0x110000))
    seconds = {int(pair[1], 16) for pair in pairs if len(pair) == 2 and not pair[0].startswith("<")}
    for start, end in PLAIN_FORMS:
        assert unicodedata.is_normalized("NFC", "".join(map(chr, range(start, end))))
        assert not any(code in seconds or unicodedata.combining(chr(code)) for code in range(start, end))


def test_the_size_of_what_was_given_is_told() -> None:
    texts = ["", "a\x00b  ", "é中😀<b>x</b>", "\ud800"]
    assert [one.given for one in treat(texts)] == [0, 5, 17, 1]


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from([*PIECES, "the", "\u1680", "x<b></b>@y.org", "<!--\n-->"])).map("".join)))
def test_lines_that_are_looked_at_again_say_what_the_whole_does(texts: list[str]) -> None:
    cleaned = treatment._cleaned(texts)  # pyright: ignore[reportPrivateUsage]
    whole = traits(cleaned.texts, looked_for())
    assert cleaned.counts[:, :OTHER].tolist() == whole.counts[:, :OTHER].tolist()
    assert cleaned.counts[:, WORDS:].tolist() == whole.counts[:, WORDS:].tolist()
    assert not (whole.flags & ~cleaned.flags & (NUMBER | ADDRESS | SECRET)).any()


def test_only_lines_that_lost_markup_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[list[str]] = []

    def noted(texts: list[str], look_for: Marks) -> Traits:
        looked.append(list(texts))
        return traits(texts, look_for)

    monkeypatch.setattr(treatment, "traits", noted)
    texts = ["a line\n<b>one</b> <i>two</i>\nmore\n&nbsp;<u>end</u>", "<b>three</b>\u200b\nmore", "four"]
    assert [one.text for one in treat(texts)] == ["a line\none two\nmore\n end", "three\nmore", "four"]
    assert looked[1:] == [["one two\n end", "three\nmore", "<b>one</b> <i>two</i>\n&nbsp;<u>end</u>"]]


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([], ("", "")),
        ([(0, 1, "")], ("abc\n", "bc\n")),
        ([(2, 3, "x"), (4, 5, "")], ("abc\ndef\n", "abx\nef\n")),
        ([(0, 4, ""), (9, 10, "yy")], ("abc\ndef\nghi", "def\nyyhi")),
        ([(3, 11, "")], ("abc\ndef\n\nghi", "abci")),
    ],
)
def test_lines_with_edits(edits: list[tuple[int, int, str]], expected: tuple[str, str]) -> None:
    assert cleaning.touched("abc\ndef\n\nghi", edits) == expected
