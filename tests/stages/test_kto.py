"""kto: the loss to the last digit, the KL estimate from other prompts' answers, and classes that part."""

from pathlib import Path

import pytest
import tiny
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tutelage import settings
from tutelage.errors import RecordError, SelfCheckError
from tutelage.model import checkpoint
from tutelage.records import Verdict
from tutelage.stages import kto
from tutelage.stages.kto import kto_loss
from tutelage.training import reference
from tutelage.training.batches import answers

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft, called here
SHORT = {"batch_size": 8, "num_train_epochs": 4, "learning_rate": 2e-3}
GOOD = torch.tensor([-10, -20, -5.5]).double() - torch.tensor([-11, -19, -6]).double()
BAD = torch.tensor([-12, -18, -9]).double() - torch.tensor([-11.5, -19.5, -7]).double()


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.jsonl(tmp_path_factory.mktemp("verdicts") / "verdicts.jsonl", tiny.verdicts())


def test_vectors() -> None:
    z0 = torch.tensor([1.5, -0.5, 0.2, 0.4], dtype=torch.float64).mean().clamp(min=0)
    assert float(z0) == pytest.approx(0.4, abs=1e-12)
    ratios = torch.cat([GOOD, BAD])
    good = torch.tensor([True] * 3 + [False] * 3)
    found = kto_loss(ratios, good, z0, 0.1, (1.0, 1.0)).tolist()
    assert found[:3] == pytest.approx([0.4850044984, 0.5349429452, 0.4975000208], abs=1e-9)
    assert found[3:] == pytest.approx([0.4775151752, 0.5274723043, 0.4402863507], abs=1e-9)
    weighted = kto_loss(ratios, good, z0, 0.1, (1.0, 1.33))
    assert float(weighted.mean()) == pytest.approx(0.5732769431, abs=1e-9)


def test_classes_weigh_the_same_unless_told() -> None:
    def weights(good: int, bad: int, **values: float) -> tuple[float, float]:
        recipe = settings.check(kto.Recipe, {"model": "m", "verdicts": "v", **values}, "kto")
        return kto.class_weights(recipe, good, bad)

    assert weights(10, 100) == (10, 1)
    assert weights(100, 10) == (1, 10)
    assert weights(7, 7) == (1, 1)
    assert weights(10, 100, desirable_weight=13.3) == (13.3, 1)
    assert weights(100, 10, undesirable_weight=2) == (1, 2)


def test_half_at_first_and_no_gradient_through_the_kl() -> None:
    ratios = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    drift = torch.tensor([0.3, 0.5], dtype=torch.float64, requires_grad=True)
    good = torch.tensor([True, False])
    assert kto_loss(ratios, good, torch.zeros(()), 0.1, (1, 1)).tolist() == [0.5, 0.5]
    kto_loss(ratios, good, drift.mean(), 0.1, (1, 1)).sum().backward()
    assert drift.grad is None
    assert ratios.grad is not None
    assert ratios.grad[0] < 0 < ratios.grad[1]


@pytest.mark.parametrize("rank", [0, 4])
def test_good_and_bad_part_and_others_load_it(rank: int, model_folder: Path, marked: Path, tmp_path: Path) -> None:
    rows = tiny.run_stage(
        kto, tmp_path / "kto", model=model_folder, verdicts=marked, lora_rank=rank,
        **{**SHORT, "learning_rate": 1e-2 if rank else 2e-3},
    )  # fmt: skip
    assert rows[0]["loss"] == pytest.approx(0.5, abs=1e-5)
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["loss"] < 0.42
    assert rows[-1]["reward_desirable"] > rows[-1]["reward_undesirable"] + 0.3
    assert all(row["kl"] >= 0 for row in rows)
    model, _ = checkpoint.load(tmp_path / "kto")
    if rank:
        base = AutoModelForCausalLM.from_pretrained(model_folder)
        foreign = PeftModel.from_pretrained(base, str(tmp_path / "kto"))
    else:
        foreign = AutoModelForCausalLM.from_pretrained(tmp_path / "kto")
    ids = [3, 20, 21, 6, 4, 90, 91, 6]
    with torch.no_grad():
        theirs = tiny.plain_log_probabilities(foreign.eval(), ids, 1)
        ours = tiny.plain_log_probabilities(tiny.eager(model), ids, 1)
    assert (theirs - ours).abs().max() < 1e-5


def test_the_kl_is_over_the_step_whatever_the_rows(model_folder: Path, tmp_path: Path) -> None:
    # All but a few are good, and much alike: answers gain likelihood after other prompts, too.
    found = [
        Verdict(id=str(i), prompt=(tiny.user(f"q {i}"),), response="the cat" if i % 8 else "sun", good=i % 8 > 0,
                judge="rule")
        for i in range(24)
    ]  # fmt: skip
    marked = tiny.jsonl(tmp_path / "verdicts.jsonl", found)
    seen: list[dict[str, float]] = []
    for limit in (30, 100_000):
        rows = tiny.run_stage(
            kto, tmp_path / str(limit), model=model_folder, verdicts=marked, **SHORT, max_batch_tokens=limit
        )
        seen.append({name: rows[3][name] for name in ("loss", "kl", "gradient_norm", "reward_desirable")})
    assert seen[0]["kl"] > 0.1
    assert seen[0] == pytest.approx(seen[1], rel=0.02)


def test_answers_meet_prompts_that_are_not_their_own(tokenizer_folder: Path) -> None:
    chat = tiny.chat(tokenizer_folder)
    records = [
        Verdict(id=str(i), prompt=(tiny.user(f"q{i % 3}"),), response=f"answer {i}", good=i % 2 == 0, judge="rule")
        for i in range(9)
    ]
    recipe = settings.check(kto.Recipe, {"model": "m", "verdicts": "v.jsonl"}, "kto")
    examples = [one for r in records if (one := answers(r.prompt, [r.response], chat, 100))]
    found = kto._mismatched(recipe, records, examples, 100)
    by_answer = {tuple(e.branches[0].ids): r.prompt for e, r in zip(examples, records, strict=True)}
    for example, own, record in zip(found, examples, records, strict=True):
        assert example.prompt == own.prompt
        assert by_answer[tuple(example.branches[0].ids)] != record.prompt
    same = [Verdict(id=r.id, prompt=records[0].prompt, response=r.response, good=r.good, judge="rule") for r in records]
    with pytest.raises(RecordError, match=r"v.jsonl: all verdicts share one prompt: the KL estimate needs two"):
        kto._mismatched(recipe, same, examples, 100)
    short = kto._mismatched(recipe, records, examples, examples[0].tokens - 3)
    assert {example.tokens for example in short} == {examples[0].tokens - 3}


def test_a_stale_reference_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, model_folder: Path, marked: Path, tmp_path: Path
) -> None:
    real = reference.response_log_probabilities
    monkeypatch.setattr(reference, "response_log_probabilities", lambda *given: real(*given) - 0.1)
    with pytest.raises(SelfCheckError, match="policy and reference differ"):
        tiny.run_stage(kto, tmp_path / "kto", model=model_folder, verdicts=marked)


def test_steps_of_one_verdict_alone_are_refused(model_folder: Path, tmp_path: Path) -> None:
    few = tiny.jsonl(tmp_path / "few.jsonl", tiny.verdicts(3))
    with pytest.raises(RecordError, match=r"few.jsonl: no step has two verdicts"):
        tiny.run_stage(kto, tmp_path / "kto", model=model_folder, verdicts=few, num_train_epochs=0.3, batch_size=2)
