from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tutelage.corpus import encoding
from tutelage.corpus.encoding import Encoder, pattern

LEARNED = [
    "The function returns the value of the array. It's here, isn't it? We've 1234567 numbers.",
    "函数返回数组的值，中文文本在这里。函数返回值。",
    "def f(x):\n    return x + 1\n\n\n    # comment\n",
    "naïve café 🙂🙂 mixed中文and英文 12月31日",
] * 8


def made(cuts: str, size: int = 420, model: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(model or models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(cuts), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(LEARNED, trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|end|>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    ))  # fmt: skip
    return tokenizer


ALL = list(product(("threes", "single", "runs"), ("words", "runs", "single"), ("runs", "single")))


@pytest.fixture(scope="module")
def pairs() -> dict[Any, tuple[Tokenizer, Encoder]]:
    found = {}
    for rules in ALL:
        tokenizer = made(pattern(*rules))
        tokenizer.encode_special_tokens = True
        found[rules] = (tokenizer, Encoder(tokenizer))
    return found


def same(tokenizer: Tokenizer, encoder: Encoder, texts: list[str]) -> None:
    ids, ends = encoder.encode(texts)
    for text, (start, stop) in zip(texts, pairwise(ends), strict=True):
        assert ids[start:stop].tolist() == tokenizer.encode(text, add_special_tokens=False).ids, repr(text)


ODD = list("aZé ſ'sStTdLl中文〇々ー한0٣½ \t\n\r\u00a0\u2028\u0085.,-=🙂\u0301\U00020000_")
ANY = st.sampled_from(ODD) | st.characters(exclude_categories=["Cs"])


@pytest.mark.parametrize("rules", ALL, ids="-".join)
def test_ids_are_the_library_s(pairs: dict[Any, tuple[Tokenizer, Encoder]], rules: Any) -> None:
    tokenizer, encoder = pairs[rules]
    assert encoder.fast, encoder.told

    @given(st.lists(st.text(ANY, max_size=24), max_size=6))
    @hypothesis_settings(deadline=None, max_examples=120)
    def check(texts: list[str]) -> None:
        same(tokenizer, encoder, texts)

    check()


@given(st.text(st.sampled_from("ab  中\n"), min_size=250, max_size=700))
@hypothesis_settings(deadline=None, max_examples=40)
def test_long_words_too(pairs: dict[Any, tuple[Tokenizer, Encoder]], text: str) -> None:
    tokenizer, encoder = pairs[ALL[0]]
    same(tokenizer, encoder, [text, text.replace(" ", "").replace("\n", ""), "=" * len(text)])


def test_every_character(pairs: dict[Any, tuple[Tokenizer, Encoder]]) -> None:
    tokenizer, encoder = pairs["threes", "single", "runs"]
    texts = [
        "".join(f" {chr(code)}a{chr(code)}" for code in range(first, first + 256))
        for first in range(0, 0x32000, 256)
        if not 0xD800 <= first < 0xE000
    ]
    same(tokenizer, encoder, texts)


def test_threads_give_the_same(pairs: dict[Any, tuple[Tokenizer, Encoder]]) -> None:
    _, encoder = pairs[ALL[0]]
    texts = pa.array([text * (i % 5) for i, text in enumerate(LEARNED)], pa.large_string())
    one, three = encoder.encode(texts), encoder.encode(texts, threads=3)
    assert np.array_equal(one[0], three[0])
    assert np.array_equal(one[1], three[1])
    ids, ends = encoder.encode([])
    assert len(ids) == 0
    assert ends.tolist() == [0]


def test_special_tokens_are_text(pairs: dict[Any, tuple[Tokenizer, Encoder]]) -> None:
    tokenizer, encoder = pairs[ALL[0]]
    ids, _ = encoder.encode(["a<|end|>b"])
    assert tokenizer.token_to_id("<|end|>") not in ids.tolist()


def normalized(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Lowercase()


def cut_otherwise(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)


def with_a_word(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens([AddedToken("function", special=False)])


@pytest.mark.parametrize("change", [normalized, cut_otherwise, with_a_word])
def test_what_the_fast_one_does_not_know_the_library_does(change: Callable[[Tokenizer], None]) -> None:
    tokenizer = made(pattern())
    change(tokenizer)
    encoder = Encoder(tokenizer, LEARNED)
    assert not encoder.fast
    assert encoder.told == "the library's encoder: text is cut in a way that the fast one does not know"
    tokenizer.encode_special_tokens = True
    same(tokenizer, encoder, [*LEARNED, "", "The FUNCTION <|end|>"])


def test_a_unigram_model_is_the_library_s() -> None:
    tokenizer = Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0)], unk_id=0))
    encoder = Encoder(tokenizer)
    assert encoder.told == "the library's encoder: the model is Unigram, the fast one knows BPE"
    assert encoder.encode(["ab", ""])[0].tolist() == [0, 1]


def test_a_difference_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = made(pattern())
    kinds, folded = encoding._character_kinds()
    wrong = kinds.copy()
    wrong[ord("e")] = 0
    monkeypatch.setattr(encoding, "_character_kinds", lambda: (wrong, folded))
    encoder = Encoder(tokenizer, ["the value"])
    assert not encoder.fast
    assert encoder.told.startswith("the library's encoder: the fast one differs on ")
    tokenizer.encode_special_tokens = True
    same(tokenizer, encoder, ["the value", "here"])


def test_from_a_file(tmp_path: Path) -> None:
    tokenizer = made(pattern())
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = Encoder.of(tmp_path / "tokenizer.json", LEARNED[:4])
    assert encoder.told == f"the fast encoder: its ids are the library's on {4 + len(encoding._DIFFICULT)} texts"
    assert encoder.vocabulary == tokenizer.get_vocab_size()


def test_bytes_have_letters() -> None:
    symbols = encoding.byte_symbols()
    assert sorted(symbols.values()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert symbols[ord(" ")] == "Ġ"
