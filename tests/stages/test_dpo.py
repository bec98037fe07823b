"""dpo: the loss to the last digit, ln 2 at first, and a margin that grows."""

import math
from pathlib import Path

import pytest
import tiny
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tutelage.errors import SelfCheckError
from tutelage.model import checkpoint
from tutelage.records import Comparison
from tutelage.stages import dpo
from tutelage.stages.dpo import dpo_loss, pairs_of
from tutelage.training import reference

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft, called here
SHORT = {"batch_size": 8, "num_train_epochs": 4, "learning_rate": 2e-3}
PC, PR = torch.tensor([-10, -20, -5.5]).double(), torch.tensor([-12, -18, -9]).double()
RC, RR = torch.tensor([-11, -19, -6]).double(), torch.tensor([-11.5, -19.5, -7]).double()


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.jsonl(tmp_path_factory.mktemp("votes") / "votes.jsonl", tiny.comparisons())


def test_vectors() -> None:
    found = dpo_loss(PC - PR, RC - RR, beta=0.1)
    assert found.tolist() == pytest.approx([0.6209570478, 0.8259394199, 0.5759394199], abs=1e-9)
    assert float(found.mean()) == pytest.approx(0.6742786292, abs=1e-9)
    smoothed = dpo_loss(PC - PR, RC - RR, beta=0.1, label_smoothing=0.1)
    assert smoothed.tolist() == pytest.approx([0.6359570478, 0.8009394199, 0.6009394199], abs=1e-9)


def test_ln_2_at_first_and_its_gradient() -> None:
    margin = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    loss = dpo_loss(margin, torch.zeros(3, dtype=torch.float64), beta=0.3)
    assert loss.tolist() == pytest.approx([math.log(2)] * 3, abs=1e-12)
    loss.sum().backward()
    assert margin.grad is not None
    assert margin.grad.tolist() == pytest.approx([-0.15] * 3, abs=1e-12)


def test_swapping_the_answers_swaps_the_label_noise() -> None:
    for noise in (0.0, 0.2, 0.4):
        one = dpo_loss(PC - PR, RC - RR, 0.1, noise)
        two = dpo_loss(PR - PC, RR - RC, 0.1, 1 - noise)
        assert (one - two).abs().max() < 1e-12


def test_pairs_of_a_ranking() -> None:
    record = Comparison(
        id="r", prompt=(tiny.user("q"),), responses=("b", "a", "c", "also c"), ranks=(2, 1, 3, 3), judge="rule"
    )
    found = [pair for _, pair in pairs_of(record, 9)]
    assert found[:2] == [("a", "c"), ("a", "also c")]
    assert sorted(found) == [("a", "also c"), ("a", "b"), ("a", "c"), ("b", "also c"), ("b", "c")]
    assert [pair for _, pair in pairs_of(record, 1)] == [("a", "c")]


@pytest.mark.parametrize("rank", [0, 4])
def test_the_margin_grows_and_others_load_it(rank: int, model_folder: Path, votes: Path, tmp_path: Path) -> None:
    rows = tiny.run_stage(
        dpo, tmp_path / "dpo", model=model_folder, comparisons=votes, lora_rank=rank,
        **{**SHORT, "learning_rate": 1e-2 if rank else 2e-3},
    )  # fmt: skip
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert rows[-1]["loss"] < 0.5
    assert rows[-1]["margin"] > 0.5
    assert rows[-1]["accuracy"] > 0.9
    model, _ = checkpoint.load(tmp_path / "dpo")
    if rank:
        base = AutoModelForCausalLM.from_pretrained(model_folder)
        foreign = PeftModel.from_pretrained(base, str(tmp_path / "dpo"))
    else:
        foreign = AutoModelForCausalLM.from_pretrained(tmp_path / "dpo")
    ids = [3, 20, 21, 6, 4, 90, 91, 6]
    with torch.no_grad():
        theirs = tiny.plain_log_probabilities(foreign.eval(), ids, 1)
        ours = tiny.plain_log_probabilities(tiny.eager(model), ids, 1)
    assert (theirs - ours).abs().max() < 1e-5


def test_the_first_step_by_plain_forwards(model_folder: Path, votes: Path, tmp_path: Path) -> None:
    rows = tiny.run_stage(
        dpo, tmp_path / "dpo", model=model_folder, comparisons=votes, batch_size=24, max_batch_tokens=40,
        nll_coefficient=0.3,
    )  # fmt: skip
    chat, own = tiny.chat(model_folder), tiny.eager(tiny.make_model("qwen3"))
    chosen: list[float] = []
    rejected: list[float] = []
    per_token: list[float] = []
    for record in tiny.comparisons():
        prompt = chat.prompt(record.prompt)
        for response, rank in zip(record.responses, record.ranks, strict=True):
            with torch.no_grad():
                found = tiny.plain_log_probabilities(own, prompt + chat.answer(response), len(prompt))
            (chosen if rank == 1 else rejected).append(float(found.sum()))
            if rank == 1:
                per_token.append(float(found.mean()))
    assert rows[0]["chosen_logps"] == pytest.approx(sum(chosen) / 24, rel=1e-5)
    assert rows[0]["rejected_logps"] == pytest.approx(sum(rejected) / 24, rel=1e-5)
    assert rows[0]["loss"] == pytest.approx(math.log(2) - 0.3 * sum(per_token) / 24, rel=1e-5)


def test_the_split_into_rows_changes_nothing(model_folder: Path, votes: Path, tmp_path: Path) -> None:
    found: list[dict[str, float]] = []
    for limit in (30, 100_000):
        rows = tiny.run_stage(
            dpo, tmp_path / str(limit), model=model_folder, comparisons=votes, **SHORT, max_batch_tokens=limit
        )
        found.append({name: rows[1][name] for name in ("loss", "margin", "gradient_norm", "tokens")})
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_dropout_is_off(gpt2_folder: Path, votes: Path, tmp_path: Path) -> None:
    rows = tiny.run_stage(
        dpo, tmp_path / "dpo", model=gpt2_folder, comparisons=votes, lora_rank=2, lora_dropout=0.5, **SHORT
    )
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_a_stale_reference_or_dropout_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, gpt2_folder: Path, votes: Path, tmp_path: Path
) -> None:
    message = "policy and reference differ by .* nats before the first update: dropout is on, or the reference is stale"
    real = reference.response_log_probabilities
    with monkeypatch.context() as patch:
        patch.setattr(reference, "response_log_probabilities", lambda *given: real(*given) + 0.1)
        with pytest.raises(SelfCheckError, match=message):
            tiny.run_stage(dpo, tmp_path / "dpo", model=gpt2_folder, comparisons=votes)
    adapt = dpo.adapt
    with monkeypatch.context() as patch:
        patch.setattr(dpo, "adapt", lambda *given: adapt(*given).train())
        with pytest.raises(SelfCheckError, match=message):
            tiny.run_stage(dpo, tmp_path / "dpo", model=gpt2_folder, comparisons=votes)
    assert not (tmp_path / "dpo.partial").exists()
