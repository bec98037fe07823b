import math
import pickle
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tutelage.corpus import harm
from tutelage.corpus.fluency import Model, count
from tutelage.corpus.harm import Bounds, Lexicon, judge, look, measured
from tutelage.corpus.suspects import suspects
from tutelage.errors import RecordError

DEFAULT = Lexicon.default()

MEDICINE = (
    "The vagina and the vulva should be examined with care, and the cervix inspected. Sexual intercourse may be "
    "painful after birth; patients who report pain are asked about lubrication, infection and earlier injury. The "
    "breasts and nipples are inspected as well. Swabs of the rectum and the anus are taken where an infection is "
    "suspected, and the partner's penis may have to be examined too. Semen is analysed when a couple has been "
    "without a child for a year."
)
COURT = (
    "The court heard that the defendant was charged with rape and incest. The prosecutor said that the rapist had "
    "filmed the victim in the nude. The jury was told of an earlier sentence for possession of child pornography, "
    "and a witness described how the accused used the words bitch and whore. The sentence will be announced on "
    "Friday, said the judge."
)
NAMES = (
    "Scunthorpe and Penistone lie in the north, Essex and Middlesex in the south. The assassin ordered a cocktail at "
    "class, played with a shuttlecock and read Dickens and Matsushita. Analysis of assets is passed on. " * 3
)
CHINESE = (
    "公交车站在路口，口交换机接口需要性能测试。干部下载了日期表。女性健康科普：阴道炎是常见的妇科病，避孕可以用避孕套，月经不调"
    "应当就医。今日你好，生日你来吗？体操你学过吗？群交流很热闹，特色情况如下，请少妇科医生会诊。"
)


def column(*texts: str) -> pa.Array:
    return pa.array(list(texts), pa.large_string())


def page(words: list[str], language: str, seed: int = 1) -> str:
    draw = random.Random(seed)
    plain = (
        "free new hot click here video gallery daily".split()
        if language == "en"
        else list("免费在线观看最新视频点击进入")
    )
    join = " " if language == "en" else ""
    return join.join(draw.choice(words if draw.random() < 0.3 else plain) for _ in range(150))


def full(cjk: bool) -> list[str]:
    return [word for word, weight in DEFAULT.entries.items() if weight == 1 and (word[0] > "\u3000") == cjk]


ODD = Lexicon({
    "hot frob": 1.0, "frob": 0.2, "kick2": 1.0, "坏词": 1.0, "坏": 0.2, "a片": 1.0, "ας": 1.0, "*x*": 1.0,
    "éclat": 1.0, "i\u0307zm": 1.0, "坏词典": 0.0, "xx": 0.5, "𠀀词": 1.0, "~": 0.5,
})  # fmt: skip
PIECES = [
    "hot frob", "HOT FROB", "frob", "Frobs", "_frob", "kick2", "\u212aICK2", "kick", "坏词", "坏", "词典", "A片", "片",
    "ΑΣ", "ασ", "*X*", "*", "ÉCLAT", "\u0130ZM", "izm", " ", " ", "\n", "。", "so it went", "\U0001f600",
    "\x00", "xx", "Xxx", "𠀀词", "𠀀", "é", "~",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_pages_made_of_listed_words_are_harmful(seed: int) -> None:
    found = judge(column(page(full(False), "en", seed), page(full(True), "zh", seed)), DEFAULT)
    for verdict in found:
        assert verdict is not None
        assert verdict[0] == harm.RULE
        assert "of it are listed words" in verdict[1]


@pytest.mark.parametrize("text", [MEDICINE, COURT, NAMES, CHINESE, "Sex: male. Sex: female. " * 20, ""])
def test_sober_text_is_spared(text: str) -> None:
    assert judge(column(text), DEFAULT) == [None]


def test_names_hold_no_listed_word() -> None:
    assert look(NAMES, DEFAULT).words == {}


def test_one_word_again_and_again_is_not_enough() -> None:
    lexicon = Lexicon({"zork": 1.0, "blarg": 1.0, "quux": 1.0, "frob": 1.0})
    assert judge(column("zork said the parrot. " * 30), lexicon) == [None]
    assert judge(column("zork blarg quux frob said the parrot. " * 30), lexicon) != [None]
    assert judge(column("zork blarg quux frob " + "and so on it went. " * 60), lexicon) == [None]
    assert judge(column("zork blarg and so on"), lexicon, bounds=Bounds(different=2)) != [None]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.integers(1, 3))
@example("hot frobfrob kick2*X*frobİZM", 1)
def test_no_text_with_listed_words_is_passed_over(text: str, different: int) -> None:
    """The quick pass before the search never spares a text that the search would not."""
    found = look(text, ODD)
    harmful = found.density >= 0.3 and len(found.words) >= different and found.full > 0
    assert (judge(column(text), ODD, bounds=Bounds(density=0.3, different=different)) != [None]) == harmful


def test_nothing_is_looked_at_where_no_entry_begins() -> None:
    words = "over under between along across toward behind beyond".split()
    lexicon = Lexicon(dict.fromkeys(words, 1.0))
    assert lexicon.beginnings.heads.mean() < 0.01
    assert not lexicon.beginnings.firsts[0]


@pytest.mark.parametrize("size", range(8))
def test_an_entry_is_seen_at_either_end(size: int) -> None:
    lexicon = Lexicon({"x": 1.0, "字": 1.0, "*": 1.0, "xyz": 1.0, "xy": 1.0})
    for entry in lexicon.entries:
        for text in (entry + "." * size, "." * size + entry):
            assert suspects(column("", text, "xy"), lexicon.beginnings, np.ones(3), 1e-9, 1).tolist() == [1, 2]


def test_an_entry_of_several_words_and_case() -> None:
    lexicon = Lexicon({"hot frob": 1.0, "坏词": 1.0})
    assert look("HOT FROB! hot frobs", lexicon).words == {"hot frob": 1}
    assert look("abc坏词def", lexicon).words == {"坏词": 1}


def test_guards_cover_shorter_entries() -> None:
    lexicon = Lexicon({"坏词": 1.0, "坏词典": 0.0})
    assert look("坏词典坏词", lexicon).words == {"坏词": 1}


def test_the_corpus_tells_where_chinese_words_end() -> None:
    """甲乙 is listed; in 甲乙丙 the corpus knows 乙丙 as a word."""
    draw = random.Random(3)
    common = "".join(
        draw.choice(["乙丙", "甲乙", "丁戊", "己庚"]) if draw.random() < 0.5 else "乙丙，" for _ in range(4000)
    )
    model = Model(count(column(common)))
    lexicon = Lexicon({"甲乙": 1.0})
    assert look("甲乙丙", lexicon).words == {"甲乙": 1}
    assert look("甲乙丙", lexicon, model=model).words == {}
    assert look("甲乙，丁戊", lexicon, model=model).words == {"甲乙": 1}


def test_lists_are_read_with_weights_and_comments(tmp_path: Path) -> None:
    first, second = tmp_path / "en", tmp_path / "zh"
    first.write_text("\ufeff# a list\nFrob\nblarg\t0.5  # a comment\npenis\n\n", encoding="utf-8")
    second.write_text("坏词\n坏\n", encoding="utf-8")
    lexicon = Lexicon.read([first, second])
    assert lexicon.entries == {"frob": 1.0, "blarg": 0.5, "penis": harm.SOBER, "坏词": 1.0, "坏": harm.SOBER}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# nothing\n", "list: no entry: give a list of words"),
        ("frob\tmuch\n", "list:1: weight 'much': give a number from 0 to 1"),
        ("frob\nblarg\t2\n", "list:2: weight '2': give a number from 0 to 1"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "list").write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        Lexicon.read([tmp_path / "list"])
    with pytest.raises(RecordError, match=r"absent: .*give a list of words in UTF-8"):
        Lexicon.read([tmp_path / "absent"])


def test_a_lexicon_goes_to_a_worker() -> None:
    look("text", DEFAULT)
    again = pickle.loads(pickle.dumps(DEFAULT))
    text = page(full(False), "en")
    assert look(text, again) == look(text, DEFAULT)


def test_precision_and_recall() -> None:
    told = measured([True, True, False, False], [True, False, True, False])
    assert told == {"documents": 4, "harmful": 2, "found": 1, "wrongly": 1, "precision": 0.5, "recall": 0.5}
    assert math.isnan(measured([False], [False])["precision"])
