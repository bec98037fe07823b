"""The reference: known once, and the policy's own before the first step."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors import safe_open

from tutelage.errors import SelfCheckError
from tutelage.model import checkpoint
from tutelage.run import Run
from tutelage.stages import dpo, kto
from tutelage.training import reference, samples
from tutelage.training.batches import Batch, Branch, Example

EXAMPLES = [tiny.example([9, 8, i], [30 + i] * (i + 1) + [6], [40, 6]) for i in range(7, 12)]


def known(path: Path, model: torch.nn.Module, limit: int) -> torch.Tensor:
    with Run.begin(path, "dpo", {}, quiet=True) as run:
        return reference.response_log_probabilities(run, model, EXAMPLES, limit)


def test_sums_over_each_answer(tmp_path: Path) -> None:
    model = tiny.make_model("qwen3")
    own = tiny.eager(model)
    found = known(tmp_path / "run", model, 1000)
    assert found.shape == (5, 2)
    with torch.no_grad():
        for example, row in zip(EXAMPLES, found, strict=True):
            for branch, one in zip(example.branches, row, strict=True):
                plain = tiny.plain_log_probabilities(own, example.prompt + branch.ids, len(example.prompt)).sum()
                assert abs(float(plain - one)) < 1e-4
    assert (known(tmp_path / "run", model, 1) - found).abs().max() < 1e-4
    assert not found.requires_grad


def test_the_policy_must_be_the_reference_at_first(tmp_path: Path) -> None:
    model = tiny.make_model("gpt2")
    found = known(tmp_path / "run", model, 1000)
    reference.self_check(model, EXAMPLES[0], found[0])
    message = "policy and reference differ by .* nats before the first update: dropout is on, or the reference is stale"
    with pytest.raises(SelfCheckError, match=message):
        reference.self_check(model.train(), EXAMPLES[0], found[0])
    with pytest.raises(SelfCheckError, match=message):
        reference.self_check(model.eval(), EXAMPLES[0], found[1])
    with pytest.raises(SelfCheckError, match=message):
        reference.self_check(model, EXAMPLES[0], found[0] * float("nan"))


def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that go through a model from now on."""
    seen: list[int] = []
    real = reference.token_log_probabilities

    def counted(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        seen.append(len(batch.ids))
        return real(model, batch)

    monkeypatch.setattr(reference, "token_log_probabilities", counted)
    return seen


def test_they_are_computed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = tiny.make_model("qwen3")
    seen = passes(monkeypatch)
    first = known(tmp_path / "first", model, 30)
    rows = len(seen)
    assert rows > 1
    for name in ("first", "second"):
        assert torch.equal(known(tmp_path / name, tiny.make_model("qwen3"), 30), first)
    assert len(seen) == rows
    assert len(list((tmp_path / ".reference").iterdir())) == 1
    with Run.begin(tmp_path / "third", "dpo", {}, quiet=True) as run:
        reference.response_log_probabilities(run, model, EXAMPLES, 30)
        assert "log-probabilities of the reference read from .reference/" in (run.folder / "log.txt").read_text()


def changed_weight(model: torch.nn.Module) -> None:
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-3


def changed_config(model: torch.nn.Module) -> None:
    model.config.rms_norm_eps = 0.1  # pyright: ignore
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 0.1  # pyright: ignore


@pytest.mark.parametrize("change", [changed_weight, changed_config])
def test_another_model_is_not_taken_for_it(
    change: Callable[[torch.nn.Module], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = tiny.make_model("qwen3")
    first = known(tmp_path / "run", model, 1000)
    seen = passes(monkeypatch)
    change(model)
    assert not torch.equal(known(tmp_path / "run", model, 1000), first)
    assert seen


def test_other_tokens_or_rows_are_not_taken_for_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = tiny.make_model("qwen3")
    known(tmp_path / "run", model, 1000)
    seen = passes(monkeypatch)
    one = EXAMPLES[0]
    untrained = Branch(one.branches[0].ids, [False, *one.branches[0].trained[1:]])
    others = [
        [*EXAMPLES[1:], one],  # in another order
        EXAMPLES[:4],
        [Example([*one.prompt, 9], one.branches), *EXAMPLES[1:]],
        [Example(one.prompt, [untrained, one.branches[1]]), *EXAMPLES[1:]],
        [Example(one.prompt[:2], [tiny.branch([one.prompt[2], *b.ids]) for b in one.branches]), *EXAMPLES[1:]],
    ]
    with Run.begin(tmp_path / "run", "dpo", {}, quiet=True) as run:
        for number, examples in enumerate(others, start=1):
            reference.response_log_probabilities(run, model, examples, 1000)
            assert len(seen) == number
    known(tmp_path / "run", model, 999)
    assert len(seen) == len(others) + 1


def test_a_damaged_file_is_computed_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = tiny.make_model("qwen3")
    first = known(tmp_path / "run", model, 1000)
    (file,) = (tmp_path / ".reference").iterdir()
    whole = file.read_bytes()
    seen = passes(monkeypatch)
    for number, damaged in enumerate((whole[:-4], whole[:-1] + bytes([whole[-1] ^ 1]), b""), start=1):
        file.write_bytes(damaged)
        assert torch.equal(known(tmp_path / "run", model, 1000), first)
        assert len(seen) == number
        assert torch.equal(known(tmp_path / "run", model, 1000), first)
        assert len(seen) == number
    key = json.loads(safe_open(file, "pt").metadata()["key"])
    assert key["row"] == 1000


@pytest.mark.parametrize(("stage", "field"), [(dpo, "comparisons"), (kto, "verdicts")])
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_another_beta_or_adapter_needs_no_second_look(
    stage: Any, field: str, monkeypatch: pytest.MonkeyPatch, model_folder: Path, tmp_path: Path
) -> None:
    records = tiny.comparisons(8) if stage is dpo else tiny.verdicts(8)
    values = {"model": model_folder, field: tiny.jsonl(tmp_path / "records.jsonl", records), "batch_size": 4}
    seen = passes(monkeypatch)
    tiny.run_stage(stage, tmp_path / "one", **values)
    rows = len(seen)
    tiny.run_stage(stage, tmp_path / "two", **values, beta=0.3, lora_rank=2)
    assert len(seen) == rows + 1  # the look whether policy and reference agree
    assert rows > 1


def test_samples_before_and_after(model_folder: Path, tmp_path: Path) -> None:
    model, chat = checkpoint.load(model_folder, trainable=True)
    with torch.no_grad():
        model.get_input_embeddings().weight += 1.0  # pyright: ignore
    prompts = [(tiny.user(f"q{i}"),) for i in range(9)]
    with Run.begin(tmp_path / "run", "dpo", {}, quiet=True) as run:
        samples.keep(run, model, chat, model_folder, prompts)
        rows = json.loads((run.folder / "samples.json").read_text())
        assert [row["prompt"][0]["content"] for row in rows] == ["q0", "q2", "q4", "q6"]
        assert [[one["name"] for one in row["answers"]] for row in rows] == [["model", "run"]] * 4
        assert any(row["answers"][0]["text"] != row["answers"][1]["text"] for row in rows)
        assert tiny.worst(tiny.tensors(checkpoint.load(run.folder)[0]), tiny.tensors(model)) == 0
        samples.keep(run, model, chat, model_folder, prompts[:1])
        assert len(json.loads((run.folder / "samples.json").read_text())) == 1
