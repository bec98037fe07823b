"""What is held out: by whole prompts, by the seed alone; and judged as it is learned."""

from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import RecordError
from tutelage.run import read_metrics
from tutelage.stages import dpo, reward
from tutelage.training.held_out import Judged, divided


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.floats(0, 0.99), st.integers(0, 3))
def test_no_prompt_is_on_both_sides(prompts: list[int], share: float, seed: int) -> None:
    settings, kinds = Judged(eval_share=share), len(set(prompts))
    count = round(share * kinds)
    if share and not 0 < count < kinds:
        with pytest.raises(RecordError, match=f"holds out {count} of {kinds} prompts"):
            divided(settings, prompts, seed, Path("pairs.jsonl"))
        return
    learned, held_out = divided(settings, prompts, seed, Path("pairs.jsonl"))
    assert sorted(learned + held_out) == list(range(len(prompts)))
    assert len({prompts[i] for i in held_out}) == count
    assert not {prompts[i] for i in held_out} & {prompts[i] for i in learned}
    assert (learned, held_out) == divided(settings, prompts, seed, Path("pairs.jsonl"))


def test_another_seed_holds_out_others() -> None:
    sides = {tuple(divided(Judged(eval_share=0.3), range(30), seed, Path("x"))[1]) for seed in range(5)}
    assert len(sides) == 5


@pytest.mark.parametrize("stage", [dpo, reward])
def test_the_best_weights_are_saved(stage: Any, model_folder: Path, tmp_path: Path) -> None:
    """At a learning rate that ruins the model in the end, they are those of an early step."""
    votes = tiny.jsonl(tmp_path / "votes.jsonl", tiny.comparisons(40))
    values: dict[str, Any] = {
        "model": model_folder, "comparisons": votes, "batch_size": 6, "num_train_epochs": 3, "max_length": 60,
        "learning_rate": 3.0, "warmup_ratio": 1.0, "eval_share": 0.25, "eval_steps": 2,
    }  # fmt: skip
    tiny.run_stage(stage, tmp_path / "a", **values)
    rows = read_metrics(tmp_path / "a")
    judged = {row["step"]: row["loss"] for row in rows if row.get("split") == "held_out"}
    steps = [row["step"] for row in rows if "split" not in row]
    assert sorted(judged) == sorted({*range(1, len(steps), 2), len(steps) - 1})
    assert all(0 <= row["accuracy"] <= 1 for row in rows if row.get("split") == "held_out")
    best = min(judged, key=lambda step: judged[step])
    assert best < steps[-1]
    notes = (tmp_path / "a" / "log.txt").read_text()
    assert f"takes the weights of step {best}, whose held-out loss was lowest: {judged[best]:.4f}" in notes
