"""Plain transformers: its Trainer with nothing added; and what all trainers that descend from it share here."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pace import Pace, rows
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

IGNORED = -100


class Paced(TrainerCallback):
    """Lets a Trainer's loop run by windows."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.loss = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.pace.ready()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.pace.step(self.loss)
        self.loss = 0.0

    def wrap(self, training_step: Callable[..., Any], count: Callable[[Any], None]) -> Callable[..., Any]:
        """A trainer's `training_step` that counts its inputs and remembers its loss."""

        def counted(model: Any, inputs: Any, *arguments: Any, **keywords: Any) -> Any:
            count(inputs)
            loss = training_step(model, inputs, *arguments, **keywords)
            self.loss += float(loss)  # each batch of a step gives its share of the mean
            return loss

        return counted


def lengths(inputs: Any) -> list[int]:
    """The real tokens of each sequence of a batch."""
    mask = inputs.get("attention_mask")
    if mask is not None:
        return mask.sum(1).tolist()
    if "cu_seq_lens_q" in inputs:
        return inputs["cu_seq_lens_q"].diff().tolist()
    return [inputs["input_ids"].shape[1]] * inputs["input_ids"].shape[0]


def common(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments that every trainer of this family gets, so that all learn alike."""
    return {
        "output_dir": tempfile.mkdtemp(prefix="benchmark-"),
        "max_steps": 1_000_000,
        "learning_rate": options["learning_rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "seed": 0,
        **options["arguments"],
    }


def conversations(options: dict[str, Any]) -> Iterator[dict[str, list[int]]]:
    """Token ids, and as labels those of the answer."""
    tokenizer = AutoTokenizer.from_pretrained(options["model"])
    for row in rows(options["data"]):
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
        whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)["input_ids"]
        yield {"input_ids": whole, "labels": [IGNORED] * len(prompt) + whole[len(prompt) :]}


def pieces(options: dict[str, Any]) -> Iterator[dict[str, list[int]]]:
    """Pieces of text; the model looks for what follows each token by itself."""
    for row in rows(options["data"]):
        yield {"input_ids": row["ids"][:-1], "labels": row["ids"][:-1]}


def main() -> None:
    """Trains until told to stop."""
    options = json.loads(sys.argv[1])
    pace = Pace(options, "transformers")
    paced = Paced(pace)
    examples = list(conversations(options) if options["task"] == "sft" else pieces(options))
    trainer = Trainer(
        model=AutoModelForCausalLM.from_pretrained(options["model"], dtype="float32"),
        args=TrainingArguments(**common(options)),
        train_dataset=examples,  # pyright: ignore
        data_collator=DataCollatorForSeq2Seq(AutoTokenizer.from_pretrained(options["model"])),
        callbacks=[paced],
    )

    def count(inputs: Any) -> None:
        labelled = int((inputs["labels"][:, 1:] != IGNORED).sum())
        pace.sequences(lengths(inputs), labelled, len(inputs["labels"]))

    trainer.training_step = paced.wrap(trainer.training_step, count)
    trainer.train()


if __name__ == "__main__":
    main()
