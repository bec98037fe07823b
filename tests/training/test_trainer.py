"""Steps, numbers and checkpoints: whatever stops a trainer, it ends with the same bits."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tutelage.errors import RunError, SelfCheckError
from tutelage.run import Run, read_metrics, write_json
from tutelage.training.batches import Branch, Example
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
        match = r"step 0: the loss \(.*\) or its gradient .* is not finite: lower learning_rate; the state before"
        with pytest.raises(SelfCheckError, match=match):
            trainer.update()
    assert tiny.worst(tiny.tensors(model), before) == 0


def test_what_is_kept_of_a_step_that_failed_is_from_before_it(tmp_path: Path) -> None:
    def go(bad: bool) -> dict[str, Any]:
        memory = {"coefficient": 1.0}
        with Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run:
            trainer = Trainer(run, model := nn.Sequential(nn.Linear(2, 1)), Learning(), steps=2, memory=memory)
            for step in trainer.steps():
                memory["coefficient"] /= 2
                trainer.backward(model(torch.ones(1, 2)).sum() * (math.inf if bad and step else 1))
                trainer.update()
        return memory

    with pytest.raises(SelfCheckError, match="step 1"):
        go(bad=True)
    assert go(bad=False) == {"coefficient": 0.25}


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


def kept(path: Path) -> list[str]:
    return sorted(folder.name for folder in path.with_name(f"{path.name}.partial").glob("checkpoint/*"))


def test_records_that_are_not_finite_are_named_and_the_run_can_go_on(tmp_path: Path) -> None:
    """Four steps of two rows; in the third one row is bad, until it is mended."""
    examples = [Example([], [Branch([i + 1, 2, 3], [False, True, True])], f"record-{i}") for i in range(16)]

    def run(path: Path, bad: int | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(7)
        model = nn.ModuleDict({"table": nn.Embedding(20, 4), "drop": nn.Dropout(0.3)}).train()
        with Run.begin(path, "sft", {}, quiet=True) as run:
            trainer = Trainer(run, model, Learning(max_batch_tokens=6, save_seconds=1000), steps=4)
            for step in trainer.steps():
                for row, batch in trainer.rows(range(step * 4, step * 4 + 4), examples):
                    loss = model["drop"](model["table"](batch.ids)).square().sum() / 100
                    trainer.backward(loss * float("nan") if bad in row else loss, tokens=len(batch.ids))
                trainer.update()
        return tiny.tensors(model)

    message = r"^step 2: the loss \(nan\) or its gradient \(nan\) is not finite on record-10, record-11: look at these "
    with pytest.raises(SelfCheckError, match=message):
        run(tmp_path / "cut", bad=11)
    assert kept(tmp_path / "cut") == ["step-2"]
    whole = run(tmp_path / "whole", bad=None)
    assert tiny.worst(run(tmp_path / "cut", bad=None), whole) == 0


def test_what_was_half_written_goes_with_the_next_state(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        learn(tmp_path / "cut", 3)
    left = tmp_path / "cut.partial" / "checkpoint" / "step-99.tmp"
    left.mkdir()
    with pytest.raises(Killed):
        learn(tmp_path / "cut", 6)
    assert not left.exists()


def test_numbers_that_a_power_cut_took_are_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        learn(tmp_path / "cut", 6)
    metrics = tmp_path / "cut.partial" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[: metrics.stat().st_size // 2].rpartition(b"\n")[0] + b"\n")
    learn(tmp_path / "cut")
    assert b"\0" not in (tmp_path / "cut" / "metrics.jsonl").read_bytes()
    assert read_metrics(tmp_path / "cut")[-1]["step"] == 9


def test_a_gradient_that_is_not_finite_names_all_records_of_the_step(tmp_path: Path) -> None:
    examples = [Example([], [Branch([1, 2], [False, True])], f"r{i}" if i else "") for i in range(12)]
    model = nn.Sequential(nn.Linear(1, 1, bias=False))
    with Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run:
        trainer = Trainer(run, model, Learning(max_batch_tokens=4), steps=1)
        for _ in trainer.rows(range(12), examples):
            trainer.backward((model(torch.ones(1)).sum() * 0).abs().sqrt())
        with pytest.raises(SelfCheckError, match=r"on example 0, r1, r2, r3, r4, r5, r6, r7 and 4 more: look at these"):
            trainer.update()


def test_of_several_states_the_last_whole_one_is_taken(tmp_path: Path) -> None:
    whole, _ = learn(tmp_path / "whole")
    with pytest.raises(Killed):
        learn(tmp_path / "cut", 7, save_total_limit=3)
    assert kept(tmp_path / "cut") == ["step-5", "step-6", "step-7"]
    folder = tmp_path / "cut.partial" / "checkpoint"
    weights = folder / "step-7" / "0-of-1.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    (folder / "step-6" / "state.json").write_text('{"step": 6}')
    with pytest.raises(Killed):
        learn(tmp_path / "cut", 5, save_total_limit=3)
    log = (tmp_path / "cut.partial" / "log.txt").read_text()
    assert "step-7/0-of-1.safetensors: damaged or cut short" in log
    assert "step-6/state.json: missing or damaged" in log
    assert "goes on from step 5 of 10" in log
    assert kept(tmp_path / "cut") == ["step-5"]
    with pytest.raises(Killed):  # the damaged ones are not in the way of new ones
        learn(tmp_path / "cut", 7, save_total_limit=3)
    assert kept(tmp_path / "cut") == ["step-5", "step-6", "step-7"]
    for name in ("step-5", "step-6", "step-7"):
        (folder / name / "state.json").unlink()
    with pytest.raises(RunError, match=r"step-5/state.json: missing or damaged .*: delete .*step-5"):
        learn(tmp_path / "cut")
    for name in ("step-5", "step-6", "step-7"):
        (folder / name).rename(folder / f"{name}.tmp")
    found, _ = learn(tmp_path / "cut")  # what was being written is no state
    assert tiny.worst(found, whole) == 0


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        learn(tmp_path / "cut", 3)
    folder = tmp_path / "cut.partial" / "checkpoint" / "step-3"
    facts = json.loads((folder / "state.json").read_text())
    tensors = load_file(folder / "0-of-1.safetensors")
    for shape, found in (([8, 5], r"\[8, 5\]"), (None, "not there")):
        changed = {**facts["shapes"], "weights/0.weight": shape}
        tensors["weights/0.weight"] = torch.zeros(8, 5)
        if shape is None:
            del changed["weights/0.weight"], tensors["weights/0.weight"]
        save_file(tensors, folder / "0-of-1.safetensors")
        write_json(folder / "state.json", {**facts, "shapes": changed})
        message = (
            rf"step-3: the state of another model: 0.weight is {found}, here \[8, 4\]: delete .*checkpoint to begin"
        )
        with pytest.raises(RunError, match=message):
            learn(tmp_path / "cut")


def test_a_state_holds_no_pickle(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        learn(tmp_path / "cut", 3)
    files = [file for file in (tmp_path / "cut.partial" / "checkpoint").rglob("*") if file.is_file()]
    assert sorted(file.name for file in files) == ["0-of-1.safetensors", "state.json"]


def test_settings_of_memory_may_change_on_the_way(tmp_path: Path) -> None:
    def run(recipe: dict[str, Any], stop: bool) -> None:
        with Run.begin(tmp_path / "run", "sft", recipe, quiet=True) as run:
            trainer = Trainer(run, net(), Learning(save_seconds=0), steps=4)
            for step in trainer.steps():
                trainer.backward(trainer.model(torch.ones(1, 4)).sum())
                trainer.update()
                if stop and step == 2:
                    raise Killed

    with pytest.raises(Killed):
        run({"max_batch_tokens": 2048, "learning_rate": 1}, stop=True)
    run({"max_batch_tokens": 512, "gradient_checkpointing": True, "learning_rate": 1}, stop=False)
    assert "goes on from step 2" in (tmp_path / "run.partial" / "log.txt").read_text()
    run({"max_batch_tokens": 512, "learning_rate": 2}, stop=False)
    assert not (tmp_path / "run.partial" / "log.txt").exists()


def test_weights_of_low_precision_keep_small_updates_across_a_crash(tmp_path: Path) -> None:
    """One in 1000 a step is less than bfloat16 can add to 1."""

    def run(path: Path, stop: bool) -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 4, bias=False)).to(torch.bfloat16)
        nn.init.ones_(model[0].weight)  # pyright: ignore
        learning = Learning(learning_rate=1e-3, lr_scheduler_type="constant", save_seconds=0, warmup_ratio=0)
        with Run.begin(path, "sft", {}, quiet=True) as run:
            trainer = Trainer(run, model, learning, steps=40)
            for step in trainer.steps():
                for _ in range(2):
                    trainer.backward(model(torch.ones(1, 4, dtype=torch.bfloat16)).sum() / 2)
                trainer.update()
                if stop and step == 20:
                    raise Killed
        return model

    whole = run(tmp_path / "whole", stop=False)
    assert whole[0].weight.dtype == torch.bfloat16  # pyright: ignore
    assert whole[0].weight.detach().float().mean() == pytest.approx(1 - 40e-3, abs=4e-3)  # pyright: ignore
    with pytest.raises(Killed):
        run(tmp_path / "cut", stop=True)
    assert tiny.worst(tiny.tensors(run(tmp_path / "cut", stop=False)), tiny.tensors(whole)) == 0


def test_gradients_of_several_rows_add_up_in_float32(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False)).to(torch.bfloat16)
    with Run.begin(tmp_path / "run", "sft", {}, quiet=True) as run:
        trainer = Trainer(run, model, Learning(max_grad_norm=10), steps=1)
        for size in (1.0, 1 / 1024, 1 / 1024):
            trainer.backward(model(torch.full((1, 1), size, dtype=torch.bfloat16)).sum())
        assert trainer.optimizers.clip(10) == 1 + 2 / 1024
        assert model[0].weight.grad is None
