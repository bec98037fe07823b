"""reward: the losses to the last digit, an accuracy that can be reached, and a model that others load."""

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from tutelage.errors import SelfCheckError
from tutelage.model import checkpoint
from tutelage.records import Comparison
from tutelage.stages import reward
from tutelage.stages.reward import bradley_terry_loss, plackett_luce_loss, ranking_loss
from tutelage.training.batches import answers, flat
from tutelage.training.likelihood import reward_accuracy, scores

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft, called here
SHORT = {"batch_size": 8, "num_train_epochs": 6, "learning_rate": 0.01}
D = torch.float64


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.jsonl(tmp_path_factory.mktemp("votes") / "votes.jsonl", tiny.comparisons(32))


def test_vectors() -> None:
    def bt(better: float, worse: float, margin: float = 0.0) -> float:
        return float(bradley_terry_loss(torch.tensor(better, dtype=D), torch.tensor(worse, dtype=D), margin))

    assert bt(0.9, 0.0) == pytest.approx(0.3411538747, abs=1e-10)
    assert bt(1.2, 0.3, margin=1.0) == pytest.approx(0.7443966601, abs=1e-10)
    assert bt(5.9, 5.0) == pytest.approx(0.3411538747, abs=1e-10)  # a constant says nothing
    rewards = torch.tensor([2, 1, 0.5, -1], dtype=D)
    assert float(plackett_luce_loss(rewards)) == pytest.approx(1.2515520957, abs=1e-10)
    loss, right, pairs = ranking_loss(rewards, (1, 2, 3, 4), "bradley_terry")
    assert float(loss) == pytest.approx(0.2276134317, abs=1e-10)
    assert (right, pairs) == (6, 6)
    pair = torch.tensor([0.3, 1.2], dtype=D)
    assert float(plackett_luce_loss(pair.flip(0))) == pytest.approx(bt(1.2, 0.3), abs=1e-12)


def test_rankings_in_any_order_with_ties() -> None:
    rewards = torch.tensor([1, -1, 2, 0.5], dtype=D)
    for kind, expected in (("bradley_terry", 0.2276134317), ("plackett_luce", 1.2515520957)):
        loss, right, pairs = ranking_loss(rewards, (2, 4, 1, 3), kind)
        assert float(loss) == pytest.approx(expected, abs=1e-10)
        assert (right, pairs) == (6, 6)
    # 1 is better than the two others, which are equal: two pairs, one of them the wrong way round.
    tied = torch.tensor([0.0, -0.9, 0.9], dtype=D)
    low, high = math.log1p(math.exp(-0.9)), math.log1p(math.exp(0.9))
    for kind in ("bradley_terry", "plackett_luce"):
        loss, right, pairs = ranking_loss(tied, (1, 2, 2), kind)
        assert float(loss) == pytest.approx((low + high) / 2, abs=1e-12)
        assert (right, pairs) == (1, 2)


def test_the_plackett_luce_gradient_is_the_one_of_its_formula() -> None:
    rewards = torch.tensor([2, 1, 0.5, -1], dtype=D, requires_grad=True)
    formula = -sum(rewards[k] - torch.log(torch.exp(rewards[k:]).sum()) for k in range(3))
    (ours,) = torch.autograd.grad(plackett_luce_loss(rewards), rewards)
    (theirs,) = torch.autograd.grad(formula, rewards)  # pyright: ignore
    assert (ours - theirs).abs().max() < 1e-12


@pytest.mark.parametrize(("rank", "loss"), [(0, "bradley_terry"), (4, "bradley_terry"), (0, "plackett_luce")])
def test_it_learns_what_is_preferred_and_others_load_it(
    rank: int, loss: str, model_folder: Path, votes: Path, tmp_path: Path
) -> None:
    rows = tiny.run_stage(
        reward, tmp_path / "reward", model=model_folder, comparisons=votes, lora_rank=rank, loss=loss, **SHORT
    )
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
    assert rows[-1]["accuracy"] > 0.9
    fresh = tiny.comparisons(48)[32:]
    right, pairs = reward_accuracy(tmp_path / "reward", fresh)
    assert pairs == 16
    assert right / pairs > 0.9

    scorer, chat = checkpoint.load_scorer(tmp_path / "reward")
    seen = tiny.comparisons(32)
    examples = [answers(c.prompt, c.responses, chat, 100) for c in seen]
    with torch.no_grad():
        given = scores(scorer, flat([e for e in examples if e]))
    assert scorer.config.reward_mean == pytest.approx(float(given.mean()), abs=1e-4)
    assert scorer.config.reward_std == pytest.approx(float(given.std()), abs=1e-4)

    if rank:
        base = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=1)
        foreign: Any = PeftModel.from_pretrained(base, str(tmp_path / "reward"))
    else:
        foreign = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward")
    for place, comparison in enumerate(seen[:4]):
        ids = [*chat.prompt(comparison.prompt), *chat.answer(comparison.responses[1])]
        with torch.no_grad():
            found = float(foreign.eval()(input_ids=torch.tensor([ids])).logits)
        assert found == pytest.approx(float(given[2 * place + 1]), abs=1e-5)


def rankings(path: Path) -> Path:
    """Two to four answers to a prompt."""
    words = ["the a", "the b", "sun c", "sun d e f"]
    return tiny.jsonl(path, [
        Comparison(id=f"r{i}", prompt=(tiny.user(f"q{i}"),), responses=tuple(words[: 2 + i % 3]),
                   ranks=tuple(range(1, 3 + i % 3)), judge="rule")
        for i in range(9)
    ])  # fmt: skip


def test_the_split_into_rows_changes_nothing(model_folder: Path, tmp_path: Path) -> None:
    found = rankings(tmp_path / "rankings.jsonl")
    losses: list[list[float]] = []
    for limit in (20, 100_000):
        rows = tiny.run_stage(
            reward, tmp_path / str(limit), model=model_folder, comparisons=found, max_batch_tokens=limit,
            center_rewards_coefficient=0.5, batch_size=9, num_train_epochs=1,
        )  # fmt: skip
        losses.append([rows[0]["loss"], rows[0]["gradient_norm"], rows[0]["accuracy"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_ties_are_left_out_and_told(model_folder: Path, tmp_path: Path) -> None:
    tied = Comparison(id="t", prompt=(tiny.user("q"),), responses=("a", "b"), ranks=(1, 1), judge="rule")
    found = tiny.jsonl(tmp_path / "votes.jsonl", [tied, *tiny.comparisons(8)])
    tiny.run_stage(reward, tmp_path / "reward", model=model_folder, comparisons=found)
    assert "8 pairs; all ties: 1" in (tmp_path / "reward" / "log.txt").read_text()


def test_the_last_look_has_rows_no_longer_than_the_others(
    monkeypatch: pytest.MonkeyPatch, model_folder: Path, votes: Path, tmp_path: Path
) -> None:
    longest: list[int] = []
    real = reward.scores
    monkeypatch.setattr(
        reward, "scores", lambda scorer, batch: (longest.append(len(batch.ids)), real(scorer, batch))[1]
    )
    tiny.run_stage(reward, tmp_path / "reward", model=model_folder, comparisons=votes, max_batch_tokens=60)
    assert max(longest) <= 60


def test_the_self_check_finds_answers_that_see_each_other(
    monkeypatch: pytest.MonkeyPatch, model_folder: Path, votes: Path, tmp_path: Path
) -> None:
    real = reward.scores
    monkeypatch.setattr(reward, "scores", lambda scorer, batch: real(scorer, batch) + 0.1 * batch.branches)
    with pytest.raises(SelfCheckError, match=r"rewards of branches differ by .* from rewards computed alone"):
        tiny.run_stage(reward, tmp_path / "reward", model=model_folder, comparisons=votes)
