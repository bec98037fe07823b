"""Rows side by side: the gradients of rows one after the other, the same bits every time, and only where it may be."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tutelage.errors import SelfCheckError
from tutelage.model.adapters import Adapting, adapt
from tutelage.run import Run, read_done, read_metrics
from tutelage.stages import dpo, kto, ppo, pretrain, reward, sft
from tutelage.training import footprint, lanes
from tutelage.training.batches import Batch, flat
from tutelage.training.lanes import Lanes, even
from tutelage.training.likelihood import likelihoods
from tutelage.training.optimizer import Learning
from tutelage.training.trainer import Trainer


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TUTELAGE_THREADS", "2")
    yield
    torch.set_num_threads(1)


def examples_of(count: int) -> list[Any]:
    return [tiny.example([9, 8 + i], [30 + i] * (i + 1), [40, 6]) for i in range(count)]


@pytest.mark.usefixtures("two_threads")
def test_two_lanes_give_the_gradients_of_one() -> None:
    model = tiny.make_model("qwen3").double()
    found = examples_of(7)
    weights = list(model.parameters())
    seen: set[str] = set()

    def losses(row: list[int]) -> Iterator[tuple[Tensor, dict[str, float | Tensor]]]:
        seen.add(threading.current_thread().name)
        batch = flat([found[i] for i in row])
        yield -likelihoods(model, batch).chosen.sum(), {"count": float(len(row))}
        yield likelihoods(model, batch).chosen.square().sum() / 9, {}

    rows = even(range(7), [example.tokens for example in found], 4)
    expected: Tensor = sum((sum(loss for loss, _ in losses(row)) for row in rows), torch.zeros(()))  # pyright: ignore
    whole = tiny.gradients(expected, model)
    model.zero_grad()
    seen.clear()
    told = Lanes(2).backward(losses, rows, weights)
    assert len(seen) == 2
    got = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert tiny.worst(got, whole) < 1e-7
    assert [[len(one) for one in row] for row in told] == [[2, 2]] * 4
    assert [row[0][1] for row in told] == [{"count": float(len(row))} for row in rows]
    assert sum(loss for row in told for loss, _ in row) == pytest.approx(float(expected.detach()))
    # Added to what is there, and what takes no part has none.
    Lanes(2).backward(losses, rows, weights)
    again = {n: p.grad / 2 for n, p in model.named_parameters() if p.grad is not None}
    assert tiny.worst(again, whole) < 1e-7


@pytest.mark.usefixtures("two_threads")
def test_weights_that_are_given_one_tensor_keep_their_own() -> None:
    one, two, idle = (nn.Parameter(torch.ones(3)) for _ in range(3))

    def losses(row: float) -> Iterator[tuple[Tensor, dict[str, float | Tensor]]]:
        yield ((one + two) * row).sum(), {}

    Lanes(2).backward(losses, [1.0, 2.0, 4.0, 8.0], [one, two, idle])
    assert one.grad is not None
    assert two.grad is not None
    assert one.grad.tolist() == two.grad.tolist() == [15.0] * 3
    assert idle.grad is None


def test_an_error_in_a_lane_comes_out() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        return item * item

    assert Lanes(2).each(work, [0, 1, 2]) == [0, 1, 4]
    with pytest.raises(ValueError, match="three"):
        Lanes(2).each(work, [0, 1, 2, 3, 4])


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 6))
def test_rows_are_even(sizes: list[int], count: int) -> None:
    groups = even(range(len(sizes)), sizes, count)
    assert sorted(i for group in groups for i in group) == list(range(len(sizes)))
    assert all(groups)
    loads = [sum(sizes[i] for i in group) for group in groups]
    assert max(loads) <= 4 / 3 * max(sum(sizes) / count, max(sizes)) + max(sizes) / 3


@pytest.mark.usefixtures("two_threads")
def test_how_many_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.make_model("qwen3").train()
    assert lanes.count(model) == 2
    assert lanes.count(adapt(tiny.make_model("qwen3"), Adapting(lora_rank=2), "causal", 1)) == 2
    assert lanes.count(model.to(torch.bfloat16)) == 1  # its updates are made in float32, by a hook
    model.to(torch.float32)
    monkeypatch.setattr(lanes, "LARGEST", 100)
    assert lanes.count(model) == 1
    monkeypatch.undo()
    monkeypatch.setenv("TUTELAGE_THREADS", "16")
    assert lanes.count(model) == lanes.MOST
    footprint.checkpoint_activations(model)
    assert lanes.count(model) == 1
    monkeypatch.setenv("TUTELAGE_THREADS", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert lanes.count(tiny.make_model("qwen3")) == 1


def test_what_draws_random_numbers_is_told() -> None:
    assert not lanes.draws(tiny.make_model("qwen3").train())
    dropping = tiny.make_model("gpt2").train()
    assert lanes.draws(dropping)
    assert not lanes.draws(dropping.eval())
    assert lanes.draws(tiny.make_model("qwen3", attention_dropout=0.1).train())
    assert lanes.draws(adapt(tiny.make_model("qwen3"), Adapting(lora_rank=2, lora_dropout=0.1), "causal", 1).train())


@pytest.mark.usefixtures("two_threads")
def test_as_many_tokens_at_a_time_as_one_row_has(tmp_path: Path) -> None:
    found = examples_of(9)
    alive: list[int] = []
    lock, barrier = threading.Lock(), threading.Barrier(2, timeout=10)

    def losses(_: list[int], batch: Batch, chosen: Any) -> Iterator[tuple[Tensor, dict[str, float | Tensor]]]:
        with lock:
            alive.append(len(batch.ids))
        if threading.current_thread().name.startswith("lane"):
            barrier.wait()  # none comes through alone
        yield -likelihoods(model, batch).chosen.sum() / len(chosen), {}

    def steps(limit: int, chosen: range) -> list[list[int]]:
        settings = Learning(max_batch_tokens=limit)
        with Run.begin(tmp_path / f"run{limit}{len(chosen)}", "sft", {}, quiet=True) as run:
            trainer = Trainer(run, model, settings, steps=1)
            laid = trainer._side_by_side(chosen, found)
            for _ in trainer.steps():
                trainer.learn(chosen, found, losses)
                trainer.update()
        return laid

    model = tiny.make_model("qwen3").train()
    rows = steps(40, range(8))
    assert len(rows) % 2 == 0
    assert len(alive) == len(rows) > 2
    assert max(alive) <= 20
    assert sorted(i for row in rows for i in row) == list(range(8))
    for limit, chosen in ((24, range(9)), (40, range(1))):  # one is longer than a lane's share; there is but one
        alive.clear()
        assert steps(limit, chosen) == []
        assert max(alive) <= limit


@pytest.mark.usefixtures("two_threads")
def test_a_bad_record_is_named(tmp_path: Path) -> None:
    model = tiny.make_model("qwen3").train()
    found = [tiny.example([9, 8], [30 + i, 6], [40, 6]) for i in range(8)]

    def losses(row: list[int], batch: Batch, chosen: Any) -> Iterator[tuple[Tensor, dict[str, float | Tensor]]]:
        loss = -likelihoods(model, batch).chosen.sum() / len(chosen)
        yield loss * float("nan") if 5 in row else loss, {}

    with Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run:
        trainer = Trainer(run, model, Learning(max_batch_tokens=12), steps=1)
        trainer.learn(range(8), found, losses)
        with pytest.raises(SelfCheckError, match=r"step 0: the loss \(nan\) .* on example 5: look"):
            trainer.update()


@pytest.mark.parametrize("stage", [pretrain, sft, reward, dpo, kto, ppo])
def test_every_stage_learns_the_same_side_by_side(
    stage: Any, model_folder: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread and two: the same losses to rounding; two and two: the same bytes."""
    values: dict[str, Any] = {"max_length": 60, "max_batch_tokens": 130, "model": model_folder}
    if stage is pretrain:
        texts = tiny.jsonl(tmp_path / "texts.jsonl", tiny.documents(24))
        values = {
            "documents": texts, "tokenizer": tokenizer_folder, "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_length": 40, "batch_tokens": 200, "max_batch_tokens": 100,
        }  # fmt: skip
    elif stage is ppo:
        (tmp_path / "reward.py").write_text(
            "def length(prompts, responses): return [len(set(r)) / 9 for r in responses]\n"
        )
        values |= {
            "prompts": tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations(24)), "iterations": 3, "batch_size": 16,
            "reward_function": f"{tmp_path / 'reward.py'}:length", "mini_batch_size": 8, "max_new_tokens": 6,
            "samples_per_prompt": 2,
        }  # fmt: skip
    else:
        records = {
            sft: ("conversations", tiny.conversations), kto: ("verdicts", tiny.verdicts)
        }.get(stage, ("comparisons", tiny.comparisons))  # fmt: skip
        values[records[0]] = tiny.jsonl(tmp_path / "records.jsonl", records[1](24))
        values |= {"batch_tokens": 250, "num_train_epochs": 3} if stage is sft else {"batch_size": 8}
    sizes: list[int] = []
    backward = Lanes.backward

    def counted(self: Lanes, *given: Any) -> Any:
        sizes.append(len(given[1]))
        return backward(self, *given)

    monkeypatch.setattr(Lanes, "backward", counted)
    found: list[list[dict[str, Any]]] = []
    for name, threads in (("one", "1"), ("two", "2"), ("again", "2")):
        monkeypatch.setenv("TUTELAGE_THREADS", threads)
        tiny.run_stage(stage, tmp_path / name, **values)
        torch.set_num_threads(1)
        found.append(read_metrics(tmp_path / name))
        assert bool(sizes) == (threads == "2")
    assert min(sizes) >= 2
    learned = [[row for row in rows if "loss" in row] for rows in found]
    assert len(learned[0]) > 2
    for one, two in zip(learned[0], learned[1], strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=2e-3, abs=1e-5)
    assert (
        read_done(tmp_path / "two")["files"]["model.safetensors"]
        == read_done(tmp_path / "again")["files"]["model.safetensors"]
    )
