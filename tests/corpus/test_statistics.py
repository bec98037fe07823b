import collections
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tutelage.corpus import counting
from tutelage.corpus.statistics import measure


def column(*texts: str) -> pa.Array:
    return pa.array(list(texts), pa.large_string())


def one(text: str, *names: str) -> list[float]:
    known = measure(column(text))
    return [float(known[name][0]) for name in names]


def test_characters_and_words() -> None:
    text = "The Cat sat, 42 times.\n人们读书。"
    assert one(text, "bytes", "characters", "visible") == [len(text.encode()), len(text), len("".join(text.split()))]
    assert one(text, "letters", "upper", "digits", "cjk") == [14, 2, 2, 4]
    assert one(text, "words", "plain_words", "letter_words", "number_words") == [9, 5, 4, 1]
    assert one(text, "word_characters", "plain_characters") == [20, 16]
    assert one(text, "sentences") == [2]


def test_lines() -> None:
    text = "- a bullet point here\n\nHOME PAGE\nHOME PAGE\nThis line ends well.\nThis one not…\n    x = {1};\n"
    assert one(text, "lines", "newlines", "bullet_lines", "ellipsis_lines") == [6, 7, 1, 1]
    assert one(text, "punctuated_lines", "repeated_lines", "repeated_line_characters") == [2, 1, 8]
    assert one(text, "brief_lines", "upper_lines", "code_lines", "indented_lines", "braces") == [2, 2, 1, 1, 2]
    assert one(text, "short_lines") == [6]
    assert one("中" * 16 + "\n" + "中" * 15, "short_lines") == [1]


def test_paragraphs_that_come_again() -> None:
    text = "one two\nthree\n\nfour five\n\none two\nthree"
    assert one(text, "paragraphs", "repeated_paragraphs", "repeated_paragraph_characters") == [3, 1, 11]


def test_text_in_the_wrong_encoding() -> None:
    good = "naïve café, déjà vu: l'été où créée fut l'œuvre"
    chinese = "这是一段很长的中文，要读错了才好看。"
    assert one(good, "broken")[0] <= 2
    for wrong in (chinese.encode().decode("latin-1"), chinese.encode().decode("cp1252", "ignore")):
        broken, visible = one(wrong, "broken", "visible")
        assert broken > 0.2 * visible
    stripped = re.sub("[\x80-\x9f]", "", chinese.encode().decode("latin-1"))
    broken, visible = one(stripped, "broken", "visible")
    assert broken > 0.1 * visible
    assert one("a\ufffdb\ue000c", "broken") == [2]


def test_stop_words_and_function_characters() -> None:
    assert one("The end of THE story, and that is it", "stop_words") == [4]
    assert one("theory ofcourse Andes", "stop_words") == [0]
    assert one("我的书在这里,有的人不读", "function_characters") == [5]
    assert one("Lorem Ipsum dolor", "lorem") == [1]
    assert one("lorem only", "lorem") == [0]


def words_of(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "dddd"]), max_size=60))
@hypothesis_settings(deadline=None, max_examples=60)
def test_n_grams_are_counted_as_in_a_plain_program(words: list[str]) -> None:
    known = measure(column(" ".join(words)))
    counts = collections.Counter(words)
    assert known["distinct_words"][0] == len(counts)
    most = max(counts.values(), default=0)
    assert known["top_word"][0] == (most if most > 1 else 0)
    for order, name in ((2, "top_2"), (3, "top_3"), (4, "top_4")):
        grams = collections.Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))
        sizes = [count * sum(map(len, gram)) for gram, count in grams.items() if count > 1]
        assert known[name][0] == max(sizes, default=0)
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for i in range(len(words) - 4):
        gram = tuple(words[i : i + 5])
        covered |= set(range(i, i + 5)) if gram in seen else set()
        seen.add(gram)
    assert known["repeated_5"][0] == sum(len(words[i]) for i in covered)


def test_long_repeats_are_followed() -> None:
    phrase = [f"word{letter}" for letter in "abcdefghijklmnop"]
    text = " ".join([*phrase, "between", "them", *phrase])
    known = measure(column(text))
    size = sum(map(len, phrase))
    for name in ("repeated_5", "repeated_7", "repeated_10", "repeated_13"):
        assert known[name][0] == size


def test_a_long_text_is_read_in_stretches() -> None:
    words = [f"w{i}" for i in range(40_000)]
    known = measure(column(" ".join(words)))
    assert known["words"][0] == 40_000
    assert known["distinct_words"][0] == 40_000
    assert measure(column("x y " * 40_000))["distinct_words"][0] == 2 * -(-80_000 // counting.STRETCH)


def test_a_stretch_may_end_between_a_word_and_a_character_behind_it() -> None:
    known = measure(column("中" + "a中" * 40_000))
    assert known["words"][0] == 80_001
    assert known["distinct_words"][0] == 2 * -(-80_001 // counting.STRETCH)
    assert known["top_word"][0] == counting.STRETCH // 2


@given(st.lists(st.text(max_size=40), max_size=8))
@hypothesis_settings(deadline=None, max_examples=80)
def test_any_text_can_be_measured_and_neighbours_do_not_matter(texts: list[str]) -> None:
    together = measure(pa.array(texts, pa.large_string()))
    assert len(together) == len(texts)
    for place, text in enumerate(texts):
        assert np.array_equal(together.table[place], measure(column(text)).table[0])
        assert together["characters"][place] == len(text)


def test_a_long_text_is_prose_or_not_from_its_first_stretch_on() -> None:
    long = "one two three four five six. " * (counting.STRETCH // 3)
    texts = column(long, "{" + long, long, "{" + long)
    known = measure(texts, np.array([-1, -1, 0, 1]))
    assert np.isnan(known["top_2"]).tolist() == np.isnan(known["repeated_13"]).tolist() == [False, True, True, False]
    every = measure(texts)
    for row in (0, 3):
        assert known.table[row].tolist() == every.table[row].tolist()


def test_a_slice_of_a_column_and_small_strings() -> None:
    texts = pa.array(["zero zero", "one", "two words here", ""], pa.string())
    assert measure(texts[1:3])["words"].tolist() == [1, 3]
    assert measure(texts[3:])["words"].tolist() == [0]
    assert len(measure(texts[:0])) == 0
    with pytest.raises(ValueError, match="1 texts are null"):
        measure(pa.array(["a", None]))
