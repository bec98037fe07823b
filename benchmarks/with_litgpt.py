"""litgpt: its pretraining, from its own `setup`, with torch.compile as it always has it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from litgpt import pretrain
from litgpt.args import EvalArgs, TrainArgs
from litgpt.config import Config
from litgpt.data import DataModule
from pace import Pace, rows
from torch.utils.data import DataLoader

LENGTH, MICRO_BATCH = 512, 4


class Pieces(DataModule):
    """The pieces; a step ends when the first batch of the next one is asked for."""

    def __init__(self, pace: Pace, path: str, batch: int) -> None:
        super().__init__()
        self.pace = pace
        self.pieces = [torch.tensor(row["ids"]) for row in rows(path)]
        self.batch = batch
        self.asked = 0
        self.losses: list[float] = []

    def connect(self, *_: Any, **__: Any) -> None:
        """Nothing is left to be known."""

    def train_dataloader(self) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(0)
        return DataLoader(
            self.pieces, MICRO_BATCH, shuffle=True, drop_last=True, collate_fn=self.collate, generator=generator
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.pieces[:MICRO_BATCH], MICRO_BATCH)

    def collate(self, pieces: list[torch.Tensor]) -> torch.Tensor:
        """A batch of the training."""
        if self.asked == 0:
            self.pace.ready()
        elif self.asked % (self.batch // MICRO_BATCH) == 0:
            self.pace.step(sum(self.losses) / len(self.losses))
            self.losses.clear()
        self.asked += 1
        self.pace.sequences([LENGTH] * len(pieces), LENGTH * len(pieces), len(pieces))
        return torch.stack(pieces)


def main() -> None:
    """Trains until told to stop."""
    options = json.loads(sys.argv[1])
    pace = Pace(options, "litgpt")
    data = Pieces(pace, options["data"], options["arguments"]["per_device_train_batch_size"])
    shape = json.loads((Path(options["model"]) / "config.json").read_text(encoding="utf-8"))
    cross_entropy = pretrain.chunked_cross_entropy

    def remembered(*arguments: Any, **keywords: Any) -> Any:
        loss = cross_entropy(*arguments, **keywords)
        if torch.is_grad_enabled() and loss.device.type != "meta":
            data.losses.append(float(loss.detach()))
        return loss

    pretrain.chunked_cross_entropy = remembered
    rate = options["learning_rate"]
    optimizer = {"lr": rate, "weight_decay": 0.0, "betas": (0.9, 0.999)}
    pretrain.setup(
        model_name=shape["model_type"],
        model_config=Config(
            name=shape["model_type"], block_size=LENGTH, n_layer=shape["num_hidden_layers"],
            n_embd=shape["hidden_size"], n_head=shape["num_attention_heads"],
            n_query_groups=shape["num_key_value_heads"], vocab_size=shape["vocab_size"],
            padded_vocab_size=shape["vocab_size"], rotary_percentage=1.0, parallel_residual=False, bias=False,
            attn_bias=True, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
            intermediate_size=shape["intermediate_size"], norm_eps=shape["rms_norm_eps"],
        ),
        out_dir=Path(tempfile.mkdtemp(prefix="benchmark-")),
        precision="32-true",
        data=data,
        train=TrainArgs(
            save_interval=None, log_interval=10, global_batch_size=data.batch, micro_batch_size=MICRO_BATCH,
            max_tokens=10**12, max_norm=1.0, min_lr=rate, lr_warmup_steps=None, tie_embeddings=True,
        ),
        eval=EvalArgs(interval=10**9, max_iters=2, final_validation=False),
        optimizer={"class_path": "torch.optim.AdamW", "init_args": optimizer},
        devices=1,
        logger_name="csv",
    )  # fmt: skip


if __name__ == "__main__":
    main()
