"""TRL: its trainers for conversations, preferences, rewards and verdicts."""

from __future__ import annotations

import json
import sys
from typing import Any

import trl
from datasets import Dataset
from pace import Pace, rows
from transformers import Trainer
from with_transformers import IGNORED, Paced, common, lengths

TRAINERS = {
    "sft": (trl.SFTTrainer, trl.SFTConfig),
    "dpo": (trl.DPOTrainer, trl.DPOConfig),
    "reward": (trl.RewardTrainer, trl.RewardConfig),
    "kto": (trl.KTOTrainer, trl.KTOConfig),
}
SEQUENCES = {"sft": 1, "dpo": 2, "reward": 2, "kto": 1}
"""Of each row of the data."""


def main() -> None:
    """Trains until told to stop."""
    options = json.loads(sys.argv[1])
    task = options["task"]
    pace = Pace(options, "trl")
    paced = Paced(pace)
    kind, config = TRAINERS[task]
    arguments = common(options) | {"max_length": 512, "model_init_kwargs": {"dtype": "float32"}}
    data = Dataset.from_list(rows(options["data"]))
    trainer = kind(model=options["model"], args=config(**arguments), train_dataset=data, callbacks=[paced])
    # A ranking of four becomes six pairs, so each answer is read three times.
    answers = options.get("answers", 2)
    repeats, pairs = answers - 1, answers * (answers - 1) // 2

    def labelled(inputs: Any) -> int:
        if task == "sft":
            return int((inputs["labels"] != IGNORED).sum())
        return int(inputs["completion_mask"].sum()) if "completion_mask" in inputs else 0

    def count(inputs: Any) -> None:
        read = lengths(inputs)
        pace.sequences(read, labelled(inputs), len(read) / SEQUENCES[task] / pairs, task in ("dpo", "kto"), repeats)

    def plain_loss(model: Any, inputs: Any, *more: Any, **keywords: Any) -> Any:
        return Trainer.compute_loss(trainer, model, {**inputs, "use_cache": False}, *more, **keywords)

    if options.get("plain_loss"):
        # TRL's own loss goes through the output layer piece by piece, which on a CPU is slower than transformers'.
        trainer.compute_loss = plain_loss
    trainer.training_step = paced.wrap(trainer.training_step, count)
    trainer.train()


if __name__ == "__main__":
    main()
