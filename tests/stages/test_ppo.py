"""ppo: its arithmetic by hand, its first look at itself, and scores that rise."""

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tutelage import settings
from tutelage.errors import RecordError, SelfCheckError, SettingsError
from tutelage.model import checkpoint
from tutelage.stages import ppo, reward, sft
from tutelage.stages.ppo import adapted_kl_coef, generalized_advantages, policy_loss, value_loss, whiten
from tutelage.training.rewards import by_model, grouped

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft, called here
D = torch.float64
SHORT: dict[str, Any] = {
    "iterations": 8, "batch_size": 32, "mini_batch_size": 16, "max_new_tokens": 6, "learning_rate": 3e-3,
    "missing_eos_penalty": 0.0,
}  # fmt: skip
REWARDS = '''
import math
def vowels(prompts, responses):
    """The share of vowels: what a random model can learn to say more of."""
    assert len(prompts) == len(responses)
    assert all(prompt[-1].role == "user" for prompt in prompts)
    return [sum(c in "aeiou" for c in text) / (1 + len(text)) for text in responses]
def half(prompts, responses):
    return [0.5 for _ in responses]
def torn(prompts, responses):
    return [math.nan if i == 0 else math.inf if i == 1 else float(len(text)) for i, text in enumerate(responses)]
def lost(prompts, responses):
    return [math.nan for _ in responses]
def few(prompts, responses):
    return [1.0]
def words(prompts, responses):
    return ["good" for _ in responses]
number = 3
'''


@pytest.fixture(scope="module")
def rewards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rewards") / "rewards.py"
    file.write_text(REWARDS)
    return file


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.jsonl(tmp_path_factory.mktemp("prompts") / "prompts.jsonl", tiny.conversations())


def run(folder: Path, **values: Any) -> list[dict[str, Any]]:
    return tiny.run_stage(ppo, folder, **{**SHORT, **values})


# The arithmetic


def advantages(lam: float, padding: int = 0) -> tuple[list[float], list[float]]:
    rows = [[-0.1, 0, -0.2, 1], [0.5, 0.4, 0.3, 0.2], [1, 1, 1, 1]]
    given = [torch.tensor([row + [9.0 * (place < 2)] * padding], dtype=D) for place, row in enumerate(rows)]
    found, returns = generalized_advantages(*given, gamma=1, lam=lam)
    assert found[0, 4:].eq(0).all()
    assert returns[0, 4:].eq(0).all()
    return found[0, :4].tolist(), returns[0, :4].tolist()


@pytest.mark.parametrize("padding", [0, 3])
def test_advantage_vectors(padding: int) -> None:
    found, returns = advantages(0.95, padding)
    assert found == pytest.approx([0.12015, 0.337, 0.46, 0.8], abs=1e-9)
    assert returns == pytest.approx([0.62015, 0.737, 0.76, 1], abs=1e-9)
    assert advantages(1, padding)[0] == pytest.approx([0.2, 0.4, 0.5, 0.8], abs=1e-9)
    assert advantages(0, padding)[0] == pytest.approx([-0.2, -0.1, -0.3, 0.8], abs=1e-9)


def test_advantages_are_the_discounted_sums_of_their_definition() -> None:
    torch.manual_seed(1)
    r, v, gamma, lam = torch.randn(3, 5, dtype=D), torch.randn(3, 5, dtype=D), 0.9, 0.7
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=D)
    found, returns = generalized_advantages(r, v, mask, gamma, lam)
    for row, length in enumerate((5, 2, 1)):
        deltas = [r[row, t] + gamma * (v[row, t + 1] if t + 1 < length else 0) - v[row, t] for t in range(length)]
        for t in range(length):
            expected = sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, length))
            assert float(found[row, t] - expected) == pytest.approx(0, abs=1e-12)
            assert float(returns[row, t] - expected - v[row, t]) == pytest.approx(0, abs=1e-12)
    assert found.mul(1 - mask).abs().max() == 0


def test_whitening_divides_by_the_biased_deviation() -> None:
    assert whiten(torch.tensor([1, 2, 3], dtype=D)).tolist() == pytest.approx([-1.22474, 0, 1.22474], abs=1e-5)
    assert whiten(torch.full((4,), 7.0)).tolist() == [0] * 4


def test_adaptive_kl_vectors() -> None:
    found = [adapted_kl_coef(0.2, kl, 6, 256, 10_000) for kl in (12, 3, 6, 6.6)]
    assert found == pytest.approx([0.201024, 0.198976, 0.2, 0.2 * (1 + 0.1 * 0.0256)], abs=1e-9)


def test_the_clipped_losses_by_hand() -> None:
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1], dtype=D, requires_grad=True)
    gain = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0], dtype=D)
    found = policy_loss(ratio, gain, 0.2)
    assert found.tolist() == pytest.approx([-1.2, 1.5, -0.5, 0.8, -2.2], abs=1e-12)
    found.sum().backward()
    assert ratio.grad is not None
    assert ratio.grad.tolist() == [0, 1, -1, 0, -2]  # what has moved far enough no longer counts
    values = torch.tensor([0.5, 0.5, 1.0, -1.0], dtype=D)
    old, returns = torch.tensor([0.0, 0.4, 0.0, 0.0], dtype=D), torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=D)
    # Clipped to 0.2, 0.5, 0.2 and -0.2; the worse of the two errors counts.
    assert value_loss(values, old, returns, 0.2).tolist() == pytest.approx([0.32, 0.125, 0.32, 0.32], abs=1e-12)


def test_at_ratio_1_the_gradient_is_reinforce() -> None:
    torch.manual_seed(1)
    logits = torch.randn(5, 7, dtype=D, requires_grad=True)
    tokens, gain = torch.tensor([0, 3, 6, 2, 2]), torch.randn(5, dtype=D)
    chosen = torch.log_softmax(logits, -1)[range(5), tokens]
    (ours,) = torch.autograd.grad(policy_loss((chosen - chosen.detach()).exp(), gain, 0.2).sum(), logits)
    chosen = torch.log_softmax(logits, -1)[range(5), tokens]
    (theirs,) = torch.autograd.grad(-(gain * chosen).sum(), logits)
    assert (ours - theirs).abs().max() < 1e-12


def test_answers_to_one_prompt_share_it() -> None:
    prompts = [[3, 9, 4], [3, 8, 4]]
    rollouts = [ppo.Rollout(0, [10, 6], stopped=True), ppo.Rollout(0, [11]), ppo.Rollout(1, [12, 13])]
    examples = grouped(prompts, rollouts)
    assert [(e.prompt, [b.ids for b in e.branches]) for e in examples] == [
        ([3, 9, 4], [[10, 6], [11]]), ([3, 8, 4], [[12, 13]]),
    ]  # fmt: skip
    assert all(all(branch.trained) for example in examples for branch in example.branches)
    ended = grouped(prompts, rollouts, end=6)
    assert [[b.ids for b in e.branches] for e in ended] == [[[10, 6], [11, 6]], [[12, 13, 6]]]
    assert ppo.places_of(examples) == [[0, 1], [2]]


# The stage


@pytest.mark.parametrize("rank", [0, 4])
def test_a_python_reward_rises_and_others_load_it(
    rank: int, model_folder: Path, asked: Path, rewards: Path, tmp_path: Path
) -> None:
    rows = run(
        tmp_path / "ppo", model=model_folder, prompts=asked, reward_function=f"{rewards}:vowels", lora_rank=rank,
        init_kl_coef=0.001, iterations=18, **({"learning_rate": 0.01} if rank else {}),
    )  # fmt: skip
    assert [row["step"] for row in rows] == list(range(18))
    assert rows[0]["ratio_error"] < 1e-4
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-3)
    first, last = (sum(row["score"] for row in part) / 3 for part in (rows[:3], rows[-3:]))
    assert last > 1.7 * first
    assert rows[-1]["kl"] > 0.1
    assert all(0 <= row["clip_fraction"] <= 1 and row["entropy"] > 0 and row["dropped"] == 0 for row in rows)
    model, _ = checkpoint.load(tmp_path / "ppo")
    if rank:
        base = AutoModelForCausalLM.from_pretrained(model_folder)
        foreign = PeftModel.from_pretrained(base, str(tmp_path / "ppo"))
    else:
        foreign = AutoModelForCausalLM.from_pretrained(tmp_path / "ppo")
    ids = [3, 20, 21, 6, 4, 90, 91, 6]
    with torch.no_grad():
        theirs = tiny.plain_log_probabilities(foreign.eval(), ids, 1)
        ours = tiny.plain_log_probabilities(tiny.eager(model), ids, 1)
        start = tiny.plain_log_probabilities(tiny.eager(tiny.make_model("qwen3")), ids, 1)
    assert (theirs - ours).abs().max() < 1e-5
    assert (ours - start).abs().max() > 0.01
    assert (tmp_path / "ppo" / "samples.json").exists()
    assert not any("value" in file.name for file in (tmp_path / "ppo").iterdir())


@pytest.fixture(scope="module")
def speaker(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that gives the better and the worse answers of `tiny.comparisons` alike."""
    folder = tmp_path_factory.mktemp("speaker")
    talks = [
        tiny.Conversation(id=f"{c.id}{i}", messages=(*c.prompt, tiny.assistant(response)))
        for c in tiny.comparisons(32)
        for i, response in enumerate(c.responses)
    ]
    tiny.run_stage(
        sft, folder / "sft", model=model_folder, conversations=tiny.jsonl(folder / "talks.jsonl", talks),
        num_train_epochs=5, batch_tokens=200, learning_rate=0.01,
    )  # fmt: skip
    return folder / "sft"


@pytest.mark.parametrize(("reward_rank", "rank"), [(0, 0), (2, 4)])
def test_a_reward_models_score_rises(reward_rank: int, rank: int, speaker: Path, tmp_path: Path) -> None:
    votes = tiny.jsonl(tmp_path / "votes.jsonl", tiny.comparisons(32))
    tiny.run_stage(
        reward, tmp_path / "reward", model=speaker, comparisons=votes, num_train_epochs=6, learning_rate=0.01,
        batch_size=8, lora_rank=reward_rank,
    )  # fmt: skip
    scorer, _ = checkpoint.load_scorer(tmp_path / "reward")
    assert scorer.config.reward_std > 1.0
    rows = run(
        tmp_path / "ppo", model=speaker, prompts=votes, reward=tmp_path / "reward", init_kl_coef=0.01,
        iterations=10, samples_per_prompt=2, lora_rank=rank, learning_rate=0.01 if rank else 3e-3,
    )  # fmt: skip
    first, last = (sum(row["score"] for row in part) / 2 for part in (rows[:2], rows[-2:]))
    assert abs(first) < 0.6  # on the scale of the training responses
    assert last > first + 0.4


def test_the_reward_models_score_is_normalised(model_folder: Path, tmp_path: Path) -> None:
    votes = tiny.jsonl(tmp_path / "votes.jsonl", tiny.comparisons(16))
    tiny.run_stage(reward, tmp_path / "reward", model=model_folder, comparisons=votes, num_train_epochs=3)
    chat = tiny.chat(model_folder)
    recipe = settings.check(ppo.Recipe, {"model": model_folder, "prompts": "p", "reward": tmp_path / "reward"}, "ppo")
    score = by_model(checkpoint.load_scorer(tmp_path / "reward")[0], chat, recipe.max_batch_tokens)
    found: list[float] = []
    for record in tiny.comparisons(16):
        for response in record.responses:
            ids = chat.answer(response)
            whole = score([chat.prompt(record.prompt)], [record.prompt], [ppo.Rollout(0, ids, stopped=True)], [""])
            cut = score([chat.prompt(record.prompt)], [record.prompt], [ppo.Rollout(0, ids[:-1])], [""])
            assert whole == pytest.approx(cut, abs=1e-5)  # what was cut is scored with its end put on
            found += whole
    values = torch.tensor(found)
    assert float(values.mean()) == pytest.approx(0, abs=1e-4)
    assert float(values.std()) == pytest.approx(1, abs=1e-4)


def test_what_does_not_end_costs(model_folder: Path, asked: Path, rewards: Path, tmp_path: Path) -> None:
    rows = run(
        tmp_path / "ppo", model=model_folder, prompts=asked, reward_function=f"{rewards}:half", iterations=2,
        missing_eos_penalty=2.0, max_new_tokens=25,
    )  # fmt: skip
    assert 0 < rows[0]["eos_rate"] < 1
    for row in rows:
        assert row["score"] == pytest.approx(0.5 - 2 * (1 - row["eos_rate"]), abs=1e-5)


def test_the_kl_coefficient_adapts_and_is_remembered(
    model_folder: Path, asked: Path, rewards: Path, tmp_path: Path
) -> None:
    rows = run(
        tmp_path / "ppo", model=model_folder, prompts=asked, reward_function=f"{rewards}:vowels", iterations=5,
        init_kl_coef=0.1, target_kl=0.05, kl_horizon=100,
    )  # fmt: skip
    expected = 0.1
    for row in rows:
        assert row["kl_coef"] == pytest.approx(expected, rel=1e-6)
        expected = adapted_kl_coef(expected, row["kl"], 0.05, 32, 100)
    assert len({row["kl_coef"] for row in rows}) == 5


def test_a_great_cost_of_kl_keeps_the_policy_at_home(
    model_folder: Path, asked: Path, rewards: Path, tmp_path: Path
) -> None:
    kls = [
        run(
            tmp_path / f"ppo{cost}", model=model_folder, prompts=asked, reward_function=f"{rewards}:vowels",
            init_kl_coef=cost, samples_per_prompt=1,
        )[-1]["kl"]
        for cost in (0.0, 1.0)
    ]  # fmt: skip
    assert abs(kls[1]) < kls[0] / 3


def test_rows_change_nothing(model_folder: Path, asked: Path, rewards: Path, tmp_path: Path) -> None:
    first: list[dict[str, float]] = []
    for limit in (20, 100_000):
        rows = run(
            tmp_path / str(limit), model=model_folder, prompts=asked, reward_function=f"{rewards}:vowels",
            iterations=1, max_batch_tokens=limit,
        )  # fmt: skip
        names = ("loss", "policy_loss", "value_loss", "entropy", "approx_kl", "kl", "gradient_norm")
        first.append({name: rows[0][name] for name in names})
    assert first[0] == pytest.approx(first[1], rel=1e-2, abs=1e-5)


def test_equal_scores_without_kl_teach_nothing(model_folder: Path, asked: Path, rewards: Path, tmp_path: Path) -> None:
    run(
        tmp_path / "ppo", model=model_folder, prompts=asked, reward_function=f"{rewards}:half", init_kl_coef=0.0,
        iterations=2,
    )  # fmt: skip
    one, two = (tiny.tensors(checkpoint.load(path)[0]) for path in (model_folder, tmp_path / "ppo"))
    assert tiny.worst(one, two) == 0


def test_scores_that_are_no_numbers_are_left_out_and_counted(
    model_folder: Path, asked: Path, rewards: Path, tmp_path: Path
) -> None:
    rows = run(tmp_path / "ppo", model=model_folder, prompts=asked, reward_function=f"{rewards}:torn", iterations=2)
    assert [row["dropped"] for row in rows] == [2, 2]
    assert all(math.isfinite(row["score"]) for row in rows)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{0}:lost", "reward: 32 of 32 scores are not finite numbers"),
        ("{0}:few", r"gave \[1.0\] for 32 responses: give one number for each"),
        ("{0}:words", r"gave \['good'.* for 32 responses: give one number for each"),
        ("{0}:missing", "has no function 'missing'"),
        ("{0}:number", "has no function 'number'"),
        ("nowhere.py:vowels", "'nowhere.py:vowels': no such file: write file.py:name"),
        ("vowels", "no such file: write file.py:name"),
        ("", "ppo: give either reward, a reward model, or reward_function"),
    ],
)
def test_a_reward_that_cannot_be_used_is_named(
    place: str, message: str, model_folder: Path, asked: Path, rewards: Path, tmp_path: Path
) -> None:
    with pytest.raises((SettingsError, RecordError), match=message):
        run(tmp_path / "ppo", model=model_folder, prompts=asked, reward_function=place.format(rewards))
    assert not (tmp_path / "ppo").exists()
    assert not (tmp_path / "ppo.partial").exists()


def test_one_answer_at_a_time_is_refused(model_folder: Path, asked: Path, rewards: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="batch_size 1: rewards of one answer tell nothing"):
        tiny.run_stage(
            ppo, tmp_path / "ppo", model=model_folder, prompts=asked, reward_function=f"{rewards}:vowels", batch_size=1,
            samples_per_prompt=1,
        )  # fmt: skip


def test_both_rewards_are_one_too_many(model_folder: Path, asked: Path, rewards: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="give either reward"):
        run(tmp_path / "ppo", model=model_folder, prompts=asked, reward=model_folder, reward_function=f"{rewards}:half")


def test_the_first_look_finds_dropout(
    monkeypatch: pytest.MonkeyPatch, gpt2_folder: Path, asked: Path, rewards: Path, tmp_path: Path
) -> None:
    adapt = ppo.adapt
    monkeypatch.setattr(ppo, "adapt", lambda *given: adapt(*given).train())
    values: dict[str, Any] = {
        "model": gpt2_folder, "prompts": asked, "reward_function": f"{rewards}:half", "max_length": 60,
    }  # fmt: skip
    with pytest.raises(SelfCheckError, match="self-check"):
        run(tmp_path / "ppo", **values)
    monkeypatch.setattr(ppo, "self_check", lambda *_: None)
    with pytest.raises(SelfCheckError, match=r"recorded at generation differ by up to .* nats.*dropout is on"):
        run(tmp_path / "ppo", **values)


@pytest.mark.parametrize("fault", ["temperature", "shifted"])
def test_the_first_look_finds_other_faults(
    fault: str, monkeypatch: pytest.MonkeyPatch, model_folder: Path, asked: Path, rewards: Path, tmp_path: Path
) -> None:
    real = ppo.likelihoods

    def wrong(model: Any, batch: Any, temperature: float, **more: Any) -> Any:
        found = real(model, batch, temperature * (1.1 if fault == "temperature" else 1), **more)
        return found if fault == "temperature" else found._replace(chosen=found.chosen.roll(1))

    monkeypatch.setattr(ppo, "likelihoods", wrong)
    with pytest.raises(SelfCheckError, match=r"differ by up to .* nats from training's before the first update"):
        run(tmp_path / "ppo", model=model_folder, prompts=asked, reward_function=f"{rewards}:half", temperature=0.8)


def test_another_temperature_is_the_same_everywhere(
    model_folder: Path, asked: Path, rewards: Path, tmp_path: Path
) -> None:
    rows = run(
        tmp_path / "ppo", model=model_folder, prompts=asked, reward_function=f"{rewards}:half", temperature=0.6,
        iterations=1,
    )  # fmt: skip
    assert rows[0]["ratio_error"] < 1e-4
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-3)


def test_a_reward_model_with_another_tokenizer_is_refused(model_folder: Path, asked: Path, tmp_path: Path) -> None:
    marks = [*tiny.SPECIAL, "<|more|>"]
    other = tiny.write_model(tmp_path / "model", tiny.write_tokenizer(tmp_path / "other", special=marks), "qwen3")
    votes = tiny.jsonl(tmp_path / "votes.jsonl", tiny.comparisons(4))
    tiny.run_stage(reward, tmp_path / "reward", model=other, comparisons=votes)
    with pytest.raises(SettingsError, match=r"reward: .* has another tokenizer than .*: train it from the same"):
        run(tmp_path / "ppo", model=model_folder, prompts=asked, reward=tmp_path / "reward")


def test_prompts_that_leave_no_room_are_told(model_folder: Path, asked: Path, rewards: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RecordError, match=r"prompts.jsonl: no prompt of 24 leaves room for 6 tokens in max_length 10: "
    ):
        run(tmp_path / "ppo", model=model_folder, prompts=asked, reward_function=f"{rewards}:half", max_length=10)


def test_a_wrong_schedule_is_refused(model_folder: Path, asked: Path, rewards: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="lr_scheduler_type: found 'slow'"):
        run(
            tmp_path / "ppo", model=model_folder, prompts=asked, reward_function=f"{rewards}:half",
            lr_scheduler_type="slow",
        )  # fmt: skip
