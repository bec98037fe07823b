"""Steps, numbers and checkpoints: whatever stops a trainer, it ends with the same bits."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from tutelage.errors import SelfCheckError
from tutelage.run import Run, read_metrics
from tutelage.training.optimizer import Learning
from tutelage.training.trainer import Trainer


class Killed(Exception):
    pass


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))


def learn(
    path: Path, stop: int | None = None, late: bool = False, **settings: Any
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Ten steps of two rows each, with dropout and a memory; killed in step ``stop``, before its update or after."""
    torch.manual_seed(7)
    model = net().train()
    memory: dict[str, Any] = {"coefficient": 1.0}
    data = torch.randn(10, 6, 4, generator=torch.Generator().manual_seed(1))
    learning = Learning(**{"save_seconds": 0, "learning_rate": 0.05, "optimizer": "muon", **settings})
    with Run.begin(path, "sft", {}, quiet=True) as run:
        trainer = Trainer(run, model, learning, steps=10, memory=memory)
        for step in trainer.steps():
            for half in data[step].split(3):
                trainer.backward((model(half) ** 2).sum() / 6 * memory["coefficient"], tokens=3)
            if step == stop and not late:
                raise Killed
            memory["coefficient"] *= 0.9
            trainer.update(extra=step)
            if step == stop:  # its numbers are written, its state is not
                raise Killed
        (run.folder / "model.json").write_text(json.dumps({n: p.tolist() for n, p in model.named_parameters()}))
        run.finish()
    return tiny.tensors(model), memory


def test_a_killed_trainer_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, remembered = learn(tmp_path / "whole")
    for stop, late in ((1, False), (2, True), (6, False), (6, True), (9, True)):
        with pytest.raises(Killed):
            learn(tmp_path / "cut", stop, late)
    found, memory = learn(tmp_path / "cut")
    assert tiny.worst(found, whole) == 0
    assert memory == remembered == {"coefficient": pytest.approx(0.9**10)}
    one, two = read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "cut")
    assert [row["step"] for row in two] == list(range(10))
    for a, b in zip(one, two, strict=True):
        assert {**a, "tokens_per_second": 0} == {**b, "tokens_per_second": 0}
    assert not (tmp_path / "cut" / "checkpoint").exists()


def test_without_a_checkpoint_it_begins_again(tmp_path: Path) -> None:
    whole, _ = learn(tmp_path / "whole", save_seconds=1000)
    with pytest.raises(Killed):
        learn(tmp_path / "cut", 6, save_seconds=1000)
    assert not (tmp_path / "cut.partial" / "checkpoint").exists()
    found, _ = learn(tmp_path / "cut", save_seconds=1000)
    assert tiny.worst(found, whole) == 0
    assert [row["step"] for row in read_metrics(tmp_path / "cut")] == list(range(10))


def test_numbers_are_shares_of_the_step(tmp_path: Path) -> None:
    learn(tmp_path / "run", lr_scheduler_type="linear", warmup_ratio=0, final_learning_rate=0)
    rows = read_metrics(tmp_path / "run")
    assert [row["tokens"] for row in rows] == [6] * 10
    assert [row["extra"] for row in rows] == list(range(10))
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.05 * (1 - i / 9) for i in range(10)])
    assert all(row["gradient_norm"] > 0 and math.isfinite(row["loss"]) for row in rows)


def test_gradients_are_clipped_and_the_norm_before_is_told(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    with Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run:
        trainer = Trainer(run, model, Learning(max_grad_norm=0.5), steps=1)
        trainer.backward((model(torch.tensor([[3.0, 4.0]]))).sum())
        seen: list[torch.Tensor] = []
        real = trainer.optimizers.step
        trainer.optimizers.step = lambda factor: (seen.append(model[0].weight.grad.clone()), real(factor))[1]  # pyright: ignore
        assert trainer.apply() == pytest.approx(5)
        assert seen[0].tolist()[0] == pytest.approx([0.3, 0.4], abs=1e-5)
        assert model[0].weight.grad is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stops_the_run_before_it_harms(tmp_path: Path, bad: float) -> None:
    model = nn.Sequential(nn.Linear(2, 1))
    before = tiny.tensors(model)
    with Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run:
        trainer = Trainer(run, model, Learning(), steps=3)
        trainer.backward(model(torch.ones(1, 2)).sum() * bad)
        with pytest.raises(SelfCheckError, match=r"step 0: the loss \(.*\) or its gradient .* is not finite: lower"):
            trainer.update()
    assert tiny.worst(tiny.tensors(model), before) == 0


def test_a_gradient_that_is_not_finite_is_seen_behind_a_finite_loss(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    with Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run:
        trainer = Trainer(run, model, Learning(), steps=3)
        trainer.backward((model(torch.ones(1, 2)).sum() * 0 + 0).abs().sqrt())
        with pytest.raises(SelfCheckError, match=r"the loss \(0\) or its gradient \((nan|inf)\)"):
            trainer.update()


def test_frozen_weights_stay(tmp_path: Path) -> None:
    model = net()
    model[0].requires_grad_(False)  # pyright: ignore
    before = tiny.tensors(model)
    with Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run:
        trainer = Trainer(run, model, Learning(weight_decay=0.1), steps=1)
        for _ in trainer.steps():
            trainer.backward((model(torch.ones(3, 4)) ** 2).sum())
            trainer.update()
    after = tiny.tensors(model)
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["2.weight"], after["2.weight"])
