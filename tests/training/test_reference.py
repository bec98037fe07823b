"""The reference: known once, and the policy's own before the first step."""

import json
from pathlib import Path

import pytest
import tiny
import torch

from tutelage.errors import SelfCheckError
from tutelage.model import checkpoint
from tutelage.run import Run
from tutelage.training import reference, samples

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
