import pytest

from tutelage.sentences import balanced, content_words, counted, is_chinese, join, sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Use e.g. json, i.e. text, cf. Fig. 3. Done.", ["Use e.g. json, i.e. text, cf. Fig. 3.", "Done."]),
        ("Call json.dumps at 3.5 times. Then stop.", ["Call json.dumps at 3.5 times.", "Then stop."]),
        ("1. First thing. 2. Second thing.", ["1. First thing.", "2. Second thing."]),
        ("Broken\nlines join.\n\nA blank line ends", ["Broken lines join.", "A blank line ends"]),
        ("Lists, tuples, etc. are joined. Right.", ["Lists, tuples, etc. are joined.", "Right."]),
        ("It prints with `print!` and ends.", ["It prints with `print!` and ends."]),
        ("It raises `ValueError`. (See below.)", ["It raises `ValueError`.", "(See below.)"]),
        ("今天天气好。我们去公园！你呢？", ["今天天气好。", "我们去公园！", "你呢？"]),
        ("标题没有句号\n第一行。", ["标题没有句号", "第一行。"]),
        ("按下“开始！”按钮就可以了。完", ["按下“开始！”按钮就可以了。", "完"]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_join_puts_no_space_between_chinese_lines() -> None:
    assert join("a\n  b\nc") == "a b c"
    assert join("今天\n很好，\n真的") == "今天很好，真的"


def test_content_words_are_lower_case_and_leave_out_what_says_nothing() -> None:
    assert content_words("The size of THE buffer, in bytes_read") == ["size", "buffer", "bytes_read"]
    assert content_words("返回文件的大小") == ["返", "回", "文", "件", "大", "小"]


def test_is_chinese_looks_at_the_share() -> None:
    assert is_chinese("这是 json 模块的说明")
    assert not is_chinese("The character 中 is one of many in this long English text")
    assert not is_chinese("")


@pytest.mark.parametrize("text", ["`a", "(a", "a)", 'say "a', "《书", "[a}"])
def test_balanced_sees_what_is_open(text: str) -> None:
    assert not balanced(text)
    assert balanced("`a` (b) [c] “d” 《书》")


def test_one_of_a_thing_is_told_as_one() -> None:
    assert [counted(count, "document") for count in (0, 1, 2)] == ["0 documents", "1 document", "2 documents"]
    assert (counted(1, "copy", "copies"), counted(1234, "copy", "copies")) == ("1 copy", "1,234 copies")
