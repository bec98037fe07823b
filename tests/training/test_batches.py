"""Rows, steps and pieces, by hand and by law."""

import itertools
import random
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import RecordError
from tutelage.instruction import formats
from tutelage.model.attention import Tree
from tutelage.model.chat import Chat
from tutelage.records import Conversation
from tutelage.run import Run
from tutelage.training import batches
from tutelage.training.batches import Branch, Example, Reading, flat, micro, pack, plan
from tutelage.training.likelihood import likelihoods

DATA = Path(__file__).parents[3] / "shared/data"
TOKENS = st.lists(st.integers(7, 285), min_size=1, max_size=9)


@pytest.fixture(scope="module")
def chat(tokenizer_folder: Path) -> Chat:
    return Chat.load(tokenizer_folder)


def test_a_row_by_hand() -> None:
    row = flat([
        Example([10, 11], [Branch([12, 13], [True, True]), Branch([14], [True])]),
        Example([], [Branch([20, 21, 22, 23], [False, False, True, True])]),
    ])  # fmt: skip
    assert row.ids.tolist() == [10, 11, 12, 13, 14, 20, 21, 22, 23]
    assert row.positions.tolist() == [0, 1, 2, 3, 2, 0, 1, 2, 3]
    assert row.layout.trees == (Tree(0, 2, (2, 1)), Tree(5, 0, (4,)))
    assert row.sources.tolist() == [1, 2, 1, 6, 7]
    assert row.targets.tolist() == [12, 13, 14, 22, 23]
    assert row.branch.tolist() == [0, 0, 1, 2, 2]
    assert row.ends.tolist() == [3, 4, 8]
    assert row.example.tolist() == [0, 0, 1]
    assert row.branches == 3
    assert row.per_branch(torch.tensor([1.0, 2, 4, 8, 16])).tolist() == [3, 4, 24]


def test_a_first_token_without_a_prompt_cannot_be_trained() -> None:
    with pytest.raises(AssertionError, match="cannot be predicted"):
        flat([Example([], [Branch([20, 21], [True, True])])])


def test_the_order_of_examples_does_not_matter() -> None:
    model = tiny.make_model("qwen3").double()
    found = [tiny.example([9, 8], [30, 31, 6], [40, 6]), tiny.example([], [7, 60, 61]), tiny.example([5], [70, 6])]
    one = flat(found)
    two = flat(found[::-1])
    ours, theirs = (batch.per_branch(likelihoods(model, batch).chosen) for batch in (one, two))
    assert (ours - theirs[[2, 3, 1, 0]]).abs().max() < 1e-9


@pytest.mark.parametrize("architecture", ["qwen3", "gemma2", "gpt2"])
def test_rows_of_any_size_give_the_gradient_of_the_whole(architecture: str) -> None:
    """Whatever the packing: it only decides in which order numbers are added up."""
    model = tiny.make_model(architecture).double()
    found = [tiny.example([9, 8], [30 + i] * (i + 1), [40, 6]) for i in range(5)]
    supervised = sum(example.supervised for example in found)
    expected = tiny.gradients(-likelihoods(model, flat(found)).chosen.sum() / supervised, model)
    laid: set[tuple[tuple[int, ...], ...]] = set()
    for limit, packed in itertools.product((1, 12, 25), (False, True)):
        model.zero_grad()
        groups: list[tuple[int, ...]] = []
        for row, batch in batches.rows(range(5), found, limit, torch.device("cpu"), packed):
            (-likelihoods(model, batch).chosen.sum() / supervised).backward()
            groups.append(tuple(row))
        assert len(groups) > 1
        assert sorted(i for row in groups for i in row) == list(range(5))
        laid.add(tuple(groups))
        got = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        assert tiny.worst(got, expected) < 1e-7  # of what is float32 inside: norms, capped scores
    assert len(laid) > 4


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 120), st.integers(0, 3))
def test_a_plan_takes_every_example_once_an_epoch(sizes: list[int], budget: int, seed: int) -> None:
    steps = plan(sizes, budget, 2, seed)
    taken = [i for step in steps for i in step]
    half = len(sizes)
    assert sorted(taken[:half]) == sorted(taken[half:]) == list(range(half))
    for step in steps:
        assert step
        assert len(step) == 1 or sum(sizes[i] for i in step) <= budget
    assert steps == plan(sizes, budget, 2, seed)
    counted = plan(sizes, 4, 1, seed, by_count=True)
    assert [len(step) for step in counted][:-1] == [4] * (len(counted) - 1)


def test_epochs_are_shuffled_afresh_and_may_be_parts() -> None:
    steps = plan([1] * 50, 1, 2, seed=1)
    assert steps[:50] != steps[50:]
    assert plan([1] * 50, 1, 1, seed=2) != steps[:50]
    assert len(plan([1] * 50, 1, 0.5, seed=1)) == 25
    assert len(plan([1] * 50, 1, 1.5, seed=1)) == 75


@given(st.lists(st.integers(1, 20), min_size=1, max_size=20), st.integers(1, 40))
def test_rows_keep_to_the_limit_and_the_order(sizes: list[int], limit: int) -> None:
    chosen = list(range(100, 100 + len(sizes)))
    groups = micro(chosen, sizes, limit)
    assert [i for group in groups for i in group] == chosen
    known = dict(zip(chosen, sizes, strict=True))
    for group in groups:
        assert group
        assert len(group) == 1 or sum(known[i] for i in group) <= limit


def test_packing_by_hand() -> None:
    assert pack([7, 8, 9, 10, 11], [3, 6, 4, 3, 1], 7) == [[8, 11], [9, 7], [10]]
    assert pack([7, 8, 9], [3, 20, 4], 7) == [[8], [9, 7]]
    assert pack([], [], 7) == []


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30), st.integers(1, 40))
def test_packed_rows_keep_to_the_limit(sizes: list[int], limit: int) -> None:
    chosen = list(range(100, 100 + len(sizes)))
    known = dict(zip(chosen, sizes, strict=True))
    groups = pack(chosen, sizes, limit)
    assert sorted(i for group in groups for i in group) == chosen
    loads = [sum(known[i] for i in group) for group in groups]
    for group, load in zip(groups, loads, strict=True):
        assert len(group) == 1 or load <= limit
        assert [known[i] for i in group] == sorted((known[i] for i in group), reverse=True)
    # No two rows could have been one.
    assert len(loads) == 1 or sum(sorted(loads)[:2]) > limit
    assert groups == pack(chosen, sizes, limit)


def test_the_rows_of_many_examples_are_full() -> None:
    rng = random.Random(0)
    sizes = [min(1024, round(rng.lognormvariate(5, 0.7))) for _ in range(600)]
    in_order, packed = (sum(sizes) / 2048 / len(lay(range(600), sizes, 2048)) for lay in (micro, pack))
    assert in_order < 0.94
    assert packed > 0.97


@pytest.mark.real_data
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_long_steps_of_real_examples_are_full(chat: Chat) -> None:
    imitated = formats.conversations(DATA / "instruct/llamafactory/alpaca_en_demo.json.gz")
    compared = formats.comparisons(DATA / "preference/hh-rlhf_harmless-base_test.jsonl.gz", max_dropped=1)
    made = {
        "imitated": [batches.conversation(record, chat, 2048) for record in imitated[:600]],
        "compared": [batches.answers(record.prompt, record.responses, chat, 2048) for record in compared[:400]],
    }
    for name, examples in made.items():
        sizes = [example.tokens for example in examples if example is not None]
        steps = plan(sizes, 1 << 18, 1, seed=1)
        assert len(sizes) > 300
        for limit in (4096, 8192):
            line = batches.fullness(steps, sizes, limit)
            assert float(line.split()[-2].rstrip("%")) >= 97, f"{name}: {line}"


def test_fullness_by_hand() -> None:
    assert (
        batches.fullness([[0, 1], [2, 3, 4]], [3, 5, 2, 7, 7], 8)
        == "2 steps of 12 tokens (deviation 4), in 2.0 rows, 75.0% full"
    )


@given(st.lists(TOKENS, min_size=1, max_size=6), st.integers(2, 7))
def test_each_token_of_a_document_is_predicted_once(texts: list[list[int]], length: int) -> None:
    pieces = batches.documents(texts, tiny.END_OF_TEXT, length)
    predicted: list[int] = []
    for piece in pieces:
        (branch,) = piece.branches
        assert 2 <= len(branch.ids) <= length
        assert branch.trained == [False] + [True] * (len(branch.ids) - 1)
        predicted += branch.ids[1:]
    assert predicted == [i for text in texts for i in [*text, tiny.END_OF_TEXT][1:]]


def talk(*contents: str, system: bool = False) -> Conversation:
    turns = [tiny.user(text) if place % 2 == 0 else tiny.assistant(text) for place, text in enumerate(contents)]
    first = (tiny.Message(role="system", content="s"),) if system else ()
    return Conversation(id="c", messages=(*first, *turns))


def test_a_conversation_that_is_too_long_loses_its_oldest_turns(chat: Chat) -> None:
    whole = batches.conversation(talk("1", "2", "3", "4", system=True), chat, 100)
    assert whole is not None
    assert whole.tokens == 2 + 1 + 4 * 3
    cut = batches.conversation(talk("1", "2", "3", "4", system=True), chat, 14)
    assert cut is not None
    assert chat.decode(cut.branches[0].ids) == "s34"
    assert cut.supervised == 2
    assert batches.conversation(talk("1", "2", "3", "4", system=True), chat, 8) is None
    with pytest.raises(RecordError, match="conversation c: no answer to learn from"):
        batches.conversation(talk("1"), chat, 100)


def test_answers_share_their_prompt_and_end(chat: Chat) -> None:
    found = batches.answers([tiny.user("hi")], ["a", "bc"], chat, 10)
    assert found is not None
    assert found.prompt == chat.prompt([tiny.user("hi")])
    assert [branch.ids[-1] for branch in found.branches] == [tiny.END] * 2
    assert all(all(branch.trained) for branch in found.branches)
    longest = len(found.prompt) + 3
    assert batches.answers([tiny.user("hi")], ["a", "bc"], chat, longest) is not None
    assert batches.answers([tiny.user("hi")], ["a", "bc"], chat, longest - 1) is None


def test_too_many_long_examples_stop_the_run(chat: Chat, tmp_path: Path) -> None:
    texts = ["a" * 40, *("b" for _ in range(9))]

    def make(text: str, length: int) -> Example | None:
        return batches.answers([tiny.user("hi")], [text], chat, length)

    with Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run:
        where = Path("x.jsonl")
        kept, examples = batches.fitting(texts, make, Reading(max_length=20, max_dropped=0.1), 256, where, run)
        assert kept == ["b"] * 9
        assert len(examples) == 9
        assert "9 examples, 1 too long" in (run.folder / "log.txt").read_text()
        with pytest.raises(RecordError, match=r"x.jsonl: 1 of 10 examples are longer than max_length 20 tokens"):
            batches.fitting(texts, make, Reading(max_length=20, max_dropped=0.09), 256, where, run)
        with pytest.raises(RecordError, match=r"x.jsonl: 1 of 10 examples are longer than the model's context of 15"):
            batches.fitting(texts, make, Reading(max_length=20), 15, where, run)
        with pytest.raises(RecordError, match=r"x.jsonl: 1 of 1 examples are longer"):
            batches.fitting(texts[:1], make, Reading(max_length=20, max_dropped=1), 256, where, run)
