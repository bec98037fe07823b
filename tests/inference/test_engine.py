"""Our engine against transformers, against itself in other batches, and against what training says."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM

from tutelage.errors import SettingsError
from tutelage.inference import engine as engines
from tutelage.inference.engine import Engine, Rollout, sample
from tutelage.inference.language_model import Sampling
from tutelage.model.chat import Chat
from tutelage.training.batches import Branch, Example, flat
from tutelage.training.likelihood import token_log_probabilities

PROMPTS = [[tiny.USER, *range(20, 20 + n), tiny.END, tiny.ASSISTANT] for n in (1, 9, 4, 17, 2)]


def make(architecture: str = "qwen3", slots: int = 64, seed: int = 0) -> Engine:
    chat = Chat(tiny.make_tokenizer(), "here")
    return Engine(tiny.make_model(architecture, seed), chat, "tiny", slots)


def by_training(engine: Engine, prompt: list[int], ids: list[int], temperature: float = 1.0) -> torch.Tensor:
    with torch.no_grad():
        batch = flat([Example(prompt, [Branch(ids, [True] * len(ids))])])
        return token_log_probabilities(engine.model, batch, temperature)


@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
def test_greedy_is_transformers_generate(architecture: str, tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = tiny.write_model(tmp_path / "model", tokenizer_folder, architecture, seed=3)
    engine = Engine.load(folder)
    found = engine.generate(PROMPTS, Sampling(temperature=0, max_new_tokens=24))
    way = "eager" if architecture == "gemma2" else "sdpa"
    foreign = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=way)
    for prompt, rollout in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([prompt])
        expected = foreign.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, eos_token_id=tiny.END,
            pad_token_id=tiny.PAD,
        )[0, len(prompt) :].tolist()  # fmt: skip
        assert rollout.ids == expected
        assert rollout.stopped == (expected[-1] == tiny.END)
        assert len(rollout.ids) <= 24


@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
def test_recorded_log_probabilities_are_those_of_training(architecture: str) -> None:
    engine = make(architecture)
    for temperature in (1.0, 0.6):
        sampling = Sampling(temperature=temperature, max_new_tokens=40, seed=4)
        for rollout in engine.generate(PROMPTS, sampling, samples=2):
            expected = by_training(engine, PROMPTS[rollout.prompt], rollout.ids, temperature)
            assert (torch.tensor(rollout.log_probabilities) - expected).abs().max() < 1e-5


def test_the_cache_gives_the_whole_pass_for_64_steps() -> None:
    engine = make()
    engine.chat = SimpleNamespace(stops=frozenset())  # pyright: ignore  nothing ends it
    (rollout,) = engine.generate([PROMPTS[0]], Sampling(max_new_tokens=64, seed=1))
    assert len(rollout.ids) == 64
    plain = tiny.plain_log_probabilities(tiny.eager(engine.model), PROMPTS[0] + rollout.ids, len(PROMPTS[0]))  # pyright: ignore
    assert (torch.tensor(rollout.log_probabilities) - plain).abs().max() < 1e-5


def test_the_same_in_any_batch_and_in_any_number_of_slots() -> None:
    sampling = Sampling(max_new_tokens=30, seed=9)
    whole = make(slots=64).generate(PROMPTS * 3, sampling)
    assert len({len(rollout.ids) for rollout in whole}) >= 4  # they end at different times, so slots are refilled
    assert any(rollout.stopped for rollout in whole)
    for slots in (1, 2, 5):
        again = make(slots=slots).generate(PROMPTS * 3, sampling)
        assert [rollout.ids for rollout in again] == [rollout.ids for rollout in whole]
        for one, other in zip(again, whole, strict=True):
            assert one.log_probabilities == pytest.approx(other.log_probabilities, abs=2e-6)
        assert [rollout.stopped for rollout in again] == [rollout.stopped for rollout in whole]
        assert [rollout.prompt for rollout in again] == list(range(15))
    # Other neighbours change nothing: only the seed and its place matter to an answer.
    others = make().generate([PROMPTS[1], *PROMPTS[1:2] * 6, *PROMPTS[2:]], sampling)
    assert others[1].ids == whole[1].ids
    alone = make().generate(PROMPTS[:1], sampling)
    assert alone[0].ids == whole[0].ids
    other = make().generate(PROMPTS * 3, Sampling(max_new_tokens=30, seed=10))
    assert [rollout.ids for rollout in other] != [rollout.ids for rollout in whole]


def test_alone_is_among_others_to_the_last_bit() -> None:
    """Where each head of keys has one of queries: the sums of a row do not depend on the rows beside it."""
    chat = Chat(tiny.make_tokenizer(), "here")
    model = tiny.make_model("llama", 1, num_key_value_heads=4, vocab_size=320)
    sampling = Sampling(max_new_tokens=40, seed=6)
    among = Engine(model, chat, "tiny").generate(PROMPTS, sampling, samples=2)
    assert len({len(rollout.ids) for rollout in among}) > 2
    for slots in (1, 3):
        again = Engine(model, chat, "tiny", slots).generate(PROMPTS, sampling, samples=2)
        assert [rollout.ids for rollout in again] == [rollout.ids for rollout in among]
        assert [rollout.log_probabilities for rollout in again] == [rollout.log_probabilities for rollout in among]


def test_samples_of_one_prompt_differ_and_stand_prompt_by_prompt() -> None:
    found = make(slots=3).generate(PROMPTS[:2], Sampling(max_new_tokens=12, seed=2), samples=4)
    assert [rollout.prompt for rollout in found] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len({tuple(rollout.ids) for rollout in found}) > 4
    engine = make()
    for rollout in found:
        expected = by_training(engine, PROMPTS[rollout.prompt], rollout.ids)
        assert (torch.tensor(rollout.log_probabilities) - expected).abs().max() < 1e-5


def test_an_answer_ends_with_the_context() -> None:
    engine = make("gpt2")  # a context of 64
    engine.chat = SimpleNamespace(stops=frozenset())  # pyright: ignore
    long = list(range(10, 60))
    found = engine.generate([long, PROMPTS[0]], Sampling(max_new_tokens=40, seed=1))
    assert [len(rollout.ids) for rollout in found] == [14, 40]
    assert not found[0].stopped
    (one,) = engine.generate([list(range(10, 73))], Sampling(max_new_tokens=40))
    assert len(one.ids) == 1
    with pytest.raises(SettingsError, match="tiny: a prompt of 64 tokens does not fit the context of 64"):
        engine.generate([PROMPTS[0], list(range(10, 74))], Sampling(max_new_tokens=4))


def test_finished_gives_each_as_it_is_done() -> None:
    sampling = Sampling(max_new_tokens=30, seed=9)
    whole = make().generate(PROMPTS * 3, sampling, samples=2)
    given = list(make(slots=4).finished(PROMPTS * 3, sampling, samples=2))
    assert [number for number, _ in given] != sorted(number for number, _ in given)  # short ones come first
    found = dict(given)
    assert [found[place].ids for place in range(30)] == [rollout.ids for rollout in whole]
    prompts = [[tiny.user(text)] for text in ("hi", "the cat", "a")]
    replies = dict(make().answering(prompts, sampling))
    assert [replies[place] for place in range(3)] == make().replies(prompts, sampling)


def test_slots_are_as_many_as_wanted_and_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny.make_model("qwen3"), Chat(tiny.make_tokenizer(), "here"), "tiny")
    each = 2 * 2 * 2 * 8 * 100 * 4  # keys and values, layers, heads, size, capacity, bytes
    assert engine._slots(7, 100) == 7
    assert engine._slots(10_000, 100) == 192
    monkeypatch.setattr(engines, "cache_bytes", lambda: 5 * each + each // 2)
    assert engine._slots(7, 100) == 5
    assert engine._slots(7, 100_000) == 1
    assert make(slots=3)._slots(7, 100) == 3


def test_prompts_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines._pieces([0, 1, 2, 3], [[1] * n for n in (3, 3, 9, 1)], 6) == [[0, 1], [2], [3]]
    whole = make().generate(PROMPTS, Sampling(max_new_tokens=9), samples=2)
    monkeypatch.setattr(engines, "READ_AT_ONCE", (7, 7))
    assert [r.ids for r in make().generate(PROMPTS, Sampling(max_new_tokens=9), samples=2)] == [r.ids for r in whole]


def test_nothing_asked_nothing_answered() -> None:
    assert make().generate([], Sampling()) == []
    assert list(make().finished([], Sampling())) == []
    assert make().replies([], Sampling()) == []


def test_frequencies_are_the_distribution() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0, 0.5, -3.0]])
    count = 40_000
    uniform = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for temperature in (1.0, 0.5, 2.0):
        tokens, chosen = sample(logits.expand(count, -1), uniform, Sampling(temperature=temperature))
        expected = torch.softmax(logits[0] / temperature, -1)
        seen = torch.bincount(tokens, minlength=6)
        statistic = float(((seen - count * expected) ** 2 / (count * expected)).sum())
        assert statistic < tiny.chi_square_limit(5)
        assert (chosen - expected.log()[tokens]).abs().max() < 1e-6


def test_a_model_is_sampled_as_its_softmax_says() -> None:
    engine = make(slots=256)
    prompt = PROMPTS[0]
    found = engine.generate([prompt], Sampling(max_new_tokens=1, seed=5), samples=6000)
    with torch.no_grad():
        logits = tiny.eager(engine.model)(input_ids=torch.tensor([prompt])).logits[0, -1]  # pyright: ignore
    expected = torch.softmax(logits, -1) * 6000
    seen = Counter(rollout.ids[0] for rollout in found)
    # Tokens that are too rare for the test are counted together.
    often = [i for i in range(300) if expected[i] >= 10]
    cells = [(seen[i], float(expected[i])) for i in often]
    cells.append((6000 - sum(seen[i] for i in often), 6000 - sum(e for _, e in cells)))
    statistic = sum((s - e) ** 2 / e for s, e in cells)
    assert len(cells) > 50
    assert statistic < tiny.chi_square_limit(len(cells) - 1)


def draws(sampling: Sampling, probabilities: list[float], count: int = 4000) -> tuple[Counter[int], torch.Tensor]:
    logits = torch.tensor(probabilities).log().expand(count, -1)
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count  # evenly spread: frequencies are exact
    tokens, chosen = sample(logits, uniform, sampling)
    return Counter(tokens.tolist()), chosen


def test_top_k_and_top_p_keep_what_they_should() -> None:
    chances = [0.1, 0.4, 0.05, 0.3, 0.15]
    seen, chosen = draws(Sampling(top_k=2), chances)
    assert set(seen) == {1, 3}
    assert seen[1] == pytest.approx(4000 * 4 / 7, abs=2)
    # What is recorded is the whole distribution's.
    assert sorted({round(float(v), 5) for v in chosen.exp()}) == pytest.approx([0.3, 0.4], abs=1e-5)
    assert set(draws(Sampling(top_p=0.65), chances)[0]) == {1, 3}
    assert set(draws(Sampling(top_p=0.71), chances)[0]) == {1, 3, 4}  # the one that crosses is still in
    assert set(draws(Sampling(top_p=0.01), chances)[0]) == {1}
    assert set(draws(Sampling(top_k=1, temperature=5), chances)[0]) == {1}
    assert set(draws(Sampling(top_k=3, top_p=0.6), chances)[0]) == {1, 3}
    assert set(draws(Sampling(), chances)[0]) == {0, 1, 2, 3, 4}
    assert set(draws(Sampling(top_k=99), chances)[0]) == {0, 1, 2, 3, 4}
    assert set(draws(Sampling(temperature=0), chances)[0]) == {1}


@pytest.mark.parametrize("size", [5, 64, 65, 300, 1000])
@pytest.mark.parametrize("limits", [(0, 1.0), (7, 1.0), (0, 0.9), (40, 0.5), (0, 0.999999)])
def test_the_drawn_token_is_that_of_whole_double_sums(size: int, limits: tuple[int, float]) -> None:
    """By blocks, and without sorting, as by sorting all and adding all up in double precision."""
    top_k, top_p = limits
    torch.manual_seed(size)
    logits = (torch.randn(200, size) * 3).round(decimals=1)  # many are equal
    uniform = torch.rand(200, dtype=torch.float64)
    chances = torch.softmax(logits.double() / 0.7, -1)
    ranked, order = chances.sort(dim=-1, descending=True, stable=True)
    ranked[:, top_k or size :] = 0
    total = ranked.cumsum(-1)
    ranked[total - ranked >= top_p * total[:, -1:]] = 0
    left = torch.zeros_like(chances).scatter(1, order, ranked).cumsum(-1)
    expected = torch.searchsorted(left, uniform[:, None] * left[:, -1:], right=True)[:, 0]
    tokens, chosen = sample(logits, uniform, Sampling(temperature=0.7, top_k=top_k, top_p=top_p))
    assert (tokens == expected).float().mean() > 0.99  # a number may fall where float32 rounds
    assert (chosen - chances.log().gather(1, tokens[:, None])[:, 0]).abs().max() < 1e-5


def test_a_tail_beyond_the_first_candidates_is_found() -> None:
    logits = torch.zeros(1, 3 * engines.CANDIDATES)
    uniform = torch.tensor([0.999999], dtype=torch.float64)
    tokens, _ = sample(logits, uniform, Sampling(top_p=0.75))
    assert tokens.item() == 3 * engines.CANDIDATES * 3 // 4 - 1


def test_equal_chances_are_taken_in_the_order_of_their_ids() -> None:
    assert set(draws(Sampling(top_k=2), [0.25] * 4)[0]) == {0, 1}
    assert set(draws(Sampling(top_p=0.4), [0.25] * 4)[0]) == {0, 1}


def test_the_ends_of_the_unit_interval_draw_something_possible() -> None:
    logits = torch.tensor([[-float("inf"), 0.0, 0.0, -float("inf")]]).expand(2, -1)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for sampling in (Sampling(), Sampling(top_k=3), Sampling(top_p=0.99)):
        assert sample(logits, ends, sampling)[0].tolist() == [1, 2]


def test_streams_depend_on_seed_and_place_alone() -> None:
    one, two, other, place = (engines._uniform(*key) for key in ((1, 0, 5), (1, 0, 9), (2, 0, 5), (1, 1, 5)))
    assert torch.equal(one, two[:5])
    assert not torch.equal(one, other)
    assert not torch.equal(one, place)
    assert engines._uniform(-1, 0, 2).min() >= 0


def scripted(monkeypatch: pytest.MonkeyPatch, text: str, ends: bool = True) -> Engine:
    """An engine that says one text, token by token."""
    engine = make()
    ids = engine.chat.text(text) + ([tiny.END] if ends else [])

    def steps(_: Any, sampling: Sampling, rollouts: list[Rollout], **__: Any) -> Any:
        (rollout,) = rollouts
        for token in ids[: sampling.max_new_tokens]:
            rollout.ids.append(token)
            rollout.stopped = token in engine.chat.stops or engine._stopped_by_text(rollout, sampling)
            yield
            if rollout.stopped:
                return

    monkeypatch.setattr(engine, "_steps", steps)
    return engine


@pytest.mark.parametrize("text", ["the cat", "你好，世界 🙂 done", "naïve", "", "ends in �", "  two\n\nlines "])
@pytest.mark.parametrize("stop", [(), ("ca",), ("世界", "世"), ("zzzzz",), ("ïve",), ("one",)])
@pytest.mark.parametrize("ends", [True, False])
def test_a_streamed_answer_is_the_whole_one(
    monkeypatch: pytest.MonkeyPatch, text: str, stop: tuple[str, ...], ends: bool
) -> None:
    engine = scripted(monkeypatch, text, ends)
    sampling = Sampling(stop=stop)
    pieces = list(engine.reply([tiny.user("hi")], sampling))
    expected = text
    for one in stop:
        expected = expected.split(one)[0]
    assert "".join(pieces) == expected
    assert all(pieces)
    (reply,) = engine.replies([[tiny.user("hi")]], sampling) if text or ends else (None,)
    if reply:
        assert reply.text == expected
        assert reply.finish_reason == ("stop" if ends or expected != text else "length")


def test_streaming_gives_whole_characters_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = scripted(monkeypatch, "你好 cat")
    pieces = list(engine.reply([tiny.user("hi")], Sampling()))
    assert pieces[:2] == ["你", "好"]  # each is three tokens
    assert "".join(pieces[2:]) == " cat"
    engine = scripted(monkeypatch, "you say")
    pieces = list(engine.reply([tiny.user("hi")], Sampling(stop=("say!!",))))
    assert len(pieces[0]) <= 2  # the four last characters may begin the stop text
    assert "".join(pieces) == "you say"


def test_a_real_stream_is_the_real_reply() -> None:
    engine = make()
    sampling = Sampling(max_new_tokens=40, seed=3)
    prompt = [tiny.user("hi")]
    (reply,) = engine.replies([prompt], sampling)
    assert "".join(engine.reply(prompt, sampling)) == reply.text
    assert reply.prompt_tokens == len(engine.chat.prompt(prompt))
    assert 0 < reply.completion_tokens <= 40


def test_what_stops_an_answer_is_not_part_of_it() -> None:
    engine = make()
    assert engine.text(Rollout(0, [*engine.chat.text("a cat"), tiny.END], stopped=True), Sampling()) == "a cat"
    assert engine.text(Rollout(0, engine.chat.text("a cat")), Sampling(stop=("at", "c"))) == "a "


@pytest.mark.parametrize("architecture", ["qwen3", "gemma2", "gpt2"])
def test_loglikelihood_is_the_sum_of_trainings(architecture: str) -> None:
    engine = make(architecture)
    prompt, text = [tiny.user("the cat")], "sat on 你"
    ids = engine.chat.text(text)
    expected = by_training(engine, engine.chat.prompt(prompt), ids).sum()
    assert engine.loglikelihood(prompt, text) == pytest.approx(float(expected), abs=1e-4)
    assert engine.loglikelihood(prompt, "") == 0


def test_a_continuation_that_does_not_fit_is_refused() -> None:
    engine = make("gpt2")
    with pytest.raises(SettingsError, match="does not fit the context of 64"):
        engine.loglikelihood([tiny.user("hi")], "x" * 64)
    assert engine.loglikelihood([tiny.user("hi")], "x" * 59) < 0
