"""Pairs of segments and hidden tokens, by the rules of BERT."""

import random
from array import array
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from tutelage.model import encoder
from tutelage.model.chat import Chat
from tutelage.model.encoder import Marks
from tutelage.training import masking
from tutelage.training.masking import Pair, Sentence

MARKS = Marks(cls=300, sep=301, mask=302, vocabulary=303)
CPU = torch.device("cpu")


def sentence(*ids: int) -> Sentence:
    return Sentence(array("i", ids), array("i", ids))


def library(count: int, each: int = 12, words: int = 4) -> list[list[Sentence]]:
    """Documents whose tokens tell document and sentence: 1000 * document + sentence."""
    return [[sentence(*[1000 * d + s] * words) for s in range(each)] for d in range(count)]


def pair(tokens: int, first: int | None = None) -> Pair:
    rng = random.Random(tokens)
    ids = array("i", [rng.randrange(7, 300) for _ in range(tokens - 3)])
    cut = (tokens - 3) // 2 if first is None else first
    return Pair(ids[:cut], ids[cut:], True)


def test_a_hundred_thousand_places_are_replaced_as_the_paper_says() -> None:
    rng = random.Random(0)
    some = [pair(rng.randrange(6, 129)) for _ in range(10_500)]
    row = masking.row(some, MARKS, rng, CPU)
    plain = torch.tensor([i for p in some for i in (300, *p.first, 301, *p.second, 301)])
    assert torch.equal(plain[row.places], row.targets)
    now = row.ids[row.places]
    count = len(now)
    assert count == sum(p.masked for p in some) > 100_000
    assert count / len(plain) == pytest.approx(0.15, abs=0.005)
    for share, found in (
        (0.8, now == 302),
        (0.1 + 0.1 / 303, now == row.targets),
        (0.1 * 301 / 303, (now != 302) & (now != row.targets)),  # a random token may be the mask or the right one
    ):
        sigma = (share * (1 - share) / count) ** 0.5
        assert float(found.double().mean()) == pytest.approx(share, abs=3 * sigma + 0.1 / 303)
    untouched = torch.ones(len(plain), dtype=torch.bool).index_fill(0, row.places, False)
    assert torch.equal(row.ids[untouched], plain[untouched])
    assert not bool((row.targets >= 300).any())
    assert int(now[now != row.targets].max()) >= 300  # any token of the vocabulary stands in, marks too


@given(st.integers(2, 60), st.integers(1, 60))
def test_places_are_counted_and_never_a_mark(first: int, second: int) -> None:
    tokens = first + second + 3
    one = pair(tokens, first)
    found = masking.hidden(one, random.Random(first))
    assert len(found) == len(set(found)) == max(1, round(0.15 * tokens)) == one.masked
    assert found == sorted(found)
    assert not {0, first + 1, tokens - 1} & set(found)


def test_the_counts_of_one_seed() -> None:
    rng = random.Random(7)
    row = masking.row([pair(40), pair(9)], MARKS, rng, CPU)
    assert row.places.tolist() == [4, 5, 7, 10, 22, 27, 41]  # 6 of 40 and 1 of 9
    assert row.ids[row.places].tolist() == [302] * 7
    assert row.targets.tolist() == [132, 151, 72, 232, 135, 56, 244]
    assert row.labels.tolist() == [0, 0]
    assert row.positions.tolist() == [*range(40), *range(9)]
    assert row.segments.tolist() == [0] * 20 + [1] * 20 + [0] * 5 + [1] * 4


def test_pairs_follow_or_are_from_another_document() -> None:
    documents = library(300)
    found = masking.pairs(documents, 43, random.Random(1))
    assert 0.5 <= sum(not p.follows for p in found) / len(found) <= 0.6
    for one in found:
        assert one.tokens <= 43
        (home,) = {i // 1000 for i in one.first}
        (other,) = {i // 1000 for i in one.second}
        assert (home == other) == one.follows
        if one.follows:
            assert one.second[0] - one.first[-1] in (0, 1)  # the same sentence, cut, or the next
    said = Counter(i for one in found for i in {*one.first, *(one.second if one.follows else ())})
    assert len(said) == 300 * 12  # every sentence of every document


def test_pairs_of_the_same_document_do_not_follow() -> None:
    documents = library(60)
    found = masking.pairs(documents, 43, random.Random(1), same_document=True)
    for one in found:
        assert one.first[0] // 1000 == one.second[0] // 1000
        if not one.follows:
            assert not set(one.first) & set(one.second)
            assert one.second[0] != one.first[-1] + 1
    assert {one.follows for one in found} == {True, False}
    assert masking.pairs(library(2, 1), 43, random.Random(1), same_document=True) == []


def test_one_long_sentence_is_cut_at_both_ends() -> None:
    documents = [[sentence(*range(1000))], [sentence(*range(1000, 2000))]]
    for seed in range(20):
        one, two = masking.pairs(documents, 43, random.Random(seed))
        assert (one.follows, two.follows) == (False, False)
        assert abs(len(one.first) - len(one.second)) <= 1
        assert list(one.first) == list(range(one.first[0], one.first[0] + len(one.first)))
        assert one.tokens == 43
        assert one.first[0] > 0
        assert one.first[-1] < 999


def test_segments_read_as_their_text_does(tokenizer_folder: str) -> None:
    """In English with a space between sentences, in Chinese without: as the saved tokenizer reads the same text."""
    chat = Chat.load(tokenizer_folder)
    for text, joined in (
        ("The cat sat. A dog ran!", "The cat sat. A dog ran!"),
        ("猫坐着。\n\n狗跑了！", "猫坐着。狗跑了！"),
    ):
        assert list(masking.joined(masking.split(text, chat))) == chat.text(joined)
    assert masking.split("  \n", chat) == []


def test_only_masked_places_and_first_tokens_have_gradients() -> None:
    config = AutoConfig.for_model("bert", vocab_size=303, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
                                  intermediate_size=64, max_position_embeddings=64)  # fmt: skip
    model = encoder.create(config, 0)
    row = masking.row([pair(30), pair(20)], MARKS, random.Random(3), CPU)
    kept: list[torch.Tensor] = []

    def keep(_: object, __: object, output: torch.Tensor) -> torch.Tensor:
        output.retain_grad()
        kept.append(output)
        return output

    model.bert.encoder.layer[-1].register_forward_hook(keep)
    guesses = masking.guesses(model, row)
    guesses.tokens.sum().backward(retain_graph=True)
    assert kept[0].grad is not None
    assert kept[0].grad[0].abs().sum(-1).nonzero()[:, 0].tolist() == row.places.tolist()
    kept[0].grad = None
    guesses.follows.sum().backward()
    assert kept[0].grad is not None
    assert kept[0].grad[0].abs().sum(-1).nonzero()[:, 0].tolist() == [0, 30]


def test_guesses_are_those_of_transformers_own_loss() -> None:
    config = AutoConfig.for_model("bert", vocab_size=303, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                  intermediate_size=64, max_position_embeddings=64, initializer_range=0.2)  # fmt: skip
    model = encoder.create(config, 0)
    some = [pair(24), pair(24)._replace(follows=False)]
    row = masking.row(some, MARKS, random.Random(3), CPU)
    guesses = masking.guesses(model, row)
    labels = torch.full_like(row.ids, -100).index_copy(0, row.places, row.targets)
    model.set_attn_implementation("eager")
    own = model(
        input_ids=row.ids.view(2, 24), token_type_ids=row.segments.view(2, 24), labels=labels.view(2, 24),
        next_sentence_label=row.labels,
    )  # fmt: skip
    assert -float(guesses.tokens.detach().mean() + guesses.follows.detach().mean()) == pytest.approx(
        float(own.loss.detach()), abs=1e-5
    )
    assert row.labels.tolist() == [0, 1]


def test_rows_of_few_tokens_and_of_many_guess_the_same() -> None:
    config = AutoConfig.for_model("bert", vocab_size=303, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
                                  intermediate_size=64, max_position_embeddings=64)  # fmt: skip
    model = encoder.create(config, 0)
    some = [pair(n) for n in (20, 31, 12, 40)]
    targets, whole = masking.answers(model, some, MARKS, random.Random(1), 1000)
    again, parts = masking.answers(model, some, MARKS, random.Random(1), 40)
    assert torch.equal(targets, again)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_guessing_always_the_same_gives_one_half() -> None:
    some = [pair(10)] * 3 + [pair(10)._replace(follows=False)]
    assert masking.balanced(some, torch.tensor([1.0, 1.0, 1.0, 0.0])) == 0.5
    assert masking.balanced(some, torch.tensor([1.0, 1.0, 0.0, 1.0])) == pytest.approx(5 / 6)
