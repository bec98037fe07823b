"""Who meets whom: for each benchmark our settings, and those of every peer, as it comes and at the best that we found.

"Best" are the settings that were fastest on a CPU of those that the peer documents: float32, no recomputation of
activations, batches of like lengths, and an allocator that keeps freed memory, as ours has it by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

KEEP_MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=8589934592:"
    "glibc.malloc.top_pad=268435456"
}
STEADY: dict[str, Any] = {
    "lr_scheduler_type": "constant", "warmup_ratio": 0.0, "adam_beta2": 0.999, "weight_decay": 0.0,
    "num_train_epochs": 1000, "save_seconds": 1e9,
}  # fmt: skip
"""What all trainers of the transformers family do here, said in our settings. Nothing is saved meanwhile."""


ADAMW, MUON = 1e-3, 2e-3
"""Learning rates for pretraining to a loss: of 1e-3, 2e-3 and 4e-3 the first gave litgpt the lowest one after 230,000
tokens. Of Muon no other was tried."""

LONG = 400
"""Tokens of a row where rows of like length go together: peers begin with their longest. So many a row we read, too, so
that all make as many updates from as many tokens."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One way to do the work."""

    name: str
    script: str
    environment: str
    setting: str
    """In words, for the table."""
    options: dict[str, Any]
    precision: str = "fp32"
    variables: dict[str, str] = field(default_factory=dict)
    """Of its environment."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Ours beside its peers at one piece of work."""

    name: str
    model: str
    """small or large."""
    ours: Side
    peers: tuple[Side, ...] = ()
    apart: bool = False
    """Whether both do not fit in memory together; each is then begun anew for every window."""
    window: float = 0.0
    """Seconds of a window, at least, where its losses are what is looked at."""


@dataclass(frozen=True)
class Place:
    """Where the inputs are, and where to write."""

    inputs: Path
    work: Path

    def model(self, name: str) -> str:
        return str(self.inputs / name)

    def data(self, name: str) -> str:
        return str(self.inputs / f"{name}.jsonl")


def ours(
    place: Place, task: str, setting: str, size: str = "small", precision: str = "fp32", **recipe: Any
) -> Side:  # fmt: skip
    """Our stage with its recipe; the model and the place of the run are added."""
    if task not in ("pretrain", "prepare", "serve"):
        recipe["model"] = place.model(size)
    options = {"task": task, "model": place.model(size), "run": str(place.work / "run" / task), "recipe": recipe}
    if precision == "bf16":
        recipe["bf16"] = True
    return Side(
        name="tutelage", script="with_tutelage.py", environment="tutelage", setting=setting, options=options,
        precision=precision,
    )  # fmt: skip


def peer(
    place: Place, name: str, task: str, data: str, setting: str, size: str = "small", best: bool = True,
    precision: str = "fp32", learning_rate: float = 1e-4, answers: int = 2, plain_loss: bool = False, **arguments: Any,
) -> Side:  # fmt: skip
    """A peer of the transformers family at a task; arguments are its trainer's own."""
    library = name.split()[0]
    if best and library == "llamafactory":
        arguments |= {"bf16": precision == "bf16", "disable_gradient_checkpointing": True}
    elif best:
        arguments |= {"bf16": precision == "bf16", "gradient_checkpointing": False}
    options = {
        "task": task, "model": place.model(size), "data": place.data(data), "learning_rate": learning_rate,
        "arguments": arguments, "answers": answers, "plain_loss": plain_loss,
    }  # fmt: skip
    return Side(
        name=name, script=f"with_{library}.py", environment="trl" if library == "transformers" else library,
        setting=setting, options=options, precision=precision, variables=KEEP_MEMORY if best else {},
    )  # fmt: skip


def sft(
    place: Place, size: str = "small", batch: int = 16, learning_rate: float = 2e-4, precision: str = "fp32"
) -> Contest:
    """Conversations, full weights."""
    tokens = batch * LONG
    mine = ours(
        place, "sft", f"{tokens} tokens a step", size, conversations=place.data("conversations"), batch_tokens=tokens,
        learning_rate=learning_rate, max_length=512, precision=precision, **STEADY,
    )  # fmt: skip
    same: dict[str, Any] = {
        "task": "sft", "data": "conversations", "learning_rate": learning_rate, "size": size, "precision": precision,
    }  # fmt: skip
    words = f"batch {batch}, grouped by length, no checkpointing"
    best: dict[str, Any] = {**same, "per_device_train_batch_size": batch, "train_sampling_strategy": "group_by_length"}
    peers = (
        peer(place, "trl best", setting=words, **best),
        peer(place, "trl best, plain loss", setting=f"{words}, transformers' loss", plain_loss=True, **best),
        peer(place, "llamafactory best", setting=words, **best),
        peer(place, "transformers", setting=words, **best),
        peer(place, "trl default", setting="as it comes", best=False, **{**same, "precision": "bf16"}),
        peer(place, "llamafactory default", setting="as it comes", best=False, **same),
    )
    if size == "large" and precision == "bf16":
        plain = replace(
            mine, name="tutelage, torch alone", setting=f"{mine.setting}, no Liger kernels",
            options={**mine.options, "run": str(place.work / "run" / "sft-torch")},
            variables={"TUTELAGE_KERNELS": "torch"},
        )  # fmt: skip
        liger = peer(place, "trl best, Liger", setting=f"{words}, Liger kernels", use_liger_kernel=True, **best)
        return Contest(name="sft-cuda", model=size, ours=mine, peers=(plain, liger, peers[0], peers[1], peers[3]))
    if size == "large":
        return Contest(name="sft-large", model=size, ours=mine, peers=peers[:1], apart=True)
    if precision == "bf16":
        return Contest(name="sft-bf16", model=size, ours=mine, peers=peers[1:4])
    return Contest(name="sft", model=size, ours=mine, peers=peers)


def by_twos(batch: int) -> dict[str, Any]:
    """A step's rows two at a time: these trainers have no groups of like length, and few rows have less padding."""
    return {"per_device_train_batch_size": 2, "gradient_accumulation_steps": batch // 2}


def dpo(place: Place) -> Contest:
    """Pairs of hh-rlhf's kind, 8 a step; our reference is computed once, and charged."""
    mine = ours(
        place, "dpo", "8 pairs a step", comparisons=place.data("pairs"), batch_size=8, learning_rate=5e-5,
        max_length=512, **STEADY,
    )  # fmt: skip
    same: dict[str, Any] = {"task": "dpo", "data": "pairs", "learning_rate": 5e-5}
    words = "8 pairs, no checkpointing"
    peers = (
        peer(place, "trl best", setting=words, per_device_train_batch_size=8, **same),
        peer(place, "trl best, by twos", setting=f"{words}, two at a time", **by_twos(8), **same),
        peer(place, "llamafactory best", setting=words, per_device_train_batch_size=8, **same),
        peer(place, "llamafactory best, by twos", setting=f"{words}, two at a time", **by_twos(8), **same),
        peer(place, "trl default", setting="as it comes", best=False, precision="bf16", **same),
    )
    return Contest(name="dpo", model="small", ours=mine, peers=peers)


def reward(place: Place, kind: str = "pairs") -> Contest:
    """Pairs, 8 a step; or rankings of four, 2 a step, which peers read as six pairs each."""
    prompts, pairs, answers = (8, 8, 2) if kind == "pairs" else (2, 12, 4)
    mine = ours(
        place, "reward", f"{prompts} prompts a step", comparisons=place.data(kind), batch_size=prompts,
        learning_rate=1e-4, max_length=512, center_rewards_coefficient=0.0, **STEADY,
    )  # fmt: skip
    same: dict[str, Any] = {"task": "reward", "data": "pairs" if kind == "pairs" else "rankings-as-pairs"}
    words = f"{pairs} pairs, no checkpointing"
    peers = (
        peer(place, "trl best", setting=words, answers=answers, per_device_train_batch_size=pairs, **same),
        peer(
            place, "trl best, by twos", setting=f"{words}, two at a time", answers=answers, **by_twos(pairs), **same
        ),
    )  # fmt: skip
    return Contest(name=f"reward {kind}", model="small", ours=mine, peers=peers)


def kto(place: Place) -> Contest:
    """Verdicts, 8 a step; our reference is computed once, and charged."""
    mine = ours(
        place, "kto", "8 verdicts a step", verdicts=place.data("verdicts"), batch_size=8, learning_rate=5e-5,
        max_length=512, **STEADY,
    )  # fmt: skip
    same: dict[str, Any] = {"task": "kto", "data": "verdicts", "learning_rate": 5e-5}
    words = "8 verdicts, no checkpointing"
    peers = (
        peer(place, "trl best", setting=words, per_device_train_batch_size=8, **same),
        peer(place, "trl best, by twos", setting=f"{words}, two at a time", **by_twos(8), **same),
    )
    return Contest(name="kto", model="small", ours=mine, peers=peers)


def pretrain(place: Place) -> Contest:
    """Pieces of 512 tokens, 16 a step, the same optimizer on both sides."""
    mine = ours(place, "pretrain", "8192 tokens a step", learning_rate=1e-3, **_pretraining(place, 16))
    peers = (_litgpt(place, 16, 1e-3), _pieces(place, "transformers", 16, 1e-3))
    return Contest(name="pretrain", model="small", ours=mine, peers=peers)


def pretrain_loss(place: Place) -> Contest:
    """Pieces of 512 tokens, 4 a step, until a loss is reached; each side with the optimizer that it has for this."""
    mine = ours(
        place, "pretrain", "2048 tokens a step, Muon", optimizer="muon", learning_rate=MUON, **_pretraining(place, 4)
    )
    return Contest(name="pretrain-loss", model="small", ours=mine, peers=(_litgpt(place, 4, ADAMW),), window=240)


def _pretraining(place: Place, batch: int) -> dict[str, Any]:
    return {
        "documents": place.data("documents"), "tokenizer": place.model("small"), "architecture": "qwen2",
        "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1024,
        "max_length": 512, "batch_tokens": 512 * batch, "eval_documents": 0, **STEADY,
    }  # fmt: skip


def _pieces(place: Place, name: str, batch: int, learning_rate: float) -> Side:
    return peer(
        place, name, "pretrain", "pieces", f"batch {batch}, no checkpointing", learning_rate=learning_rate,
        per_device_train_batch_size=batch,
    )  # fmt: skip


def _litgpt(place: Place, batch: int, learning_rate: float) -> Side:
    return Side(
        name="litgpt", script="with_litgpt.py", environment="litgpt",
        setting=f"batch {batch}, micro-batch 4, AdamW at {learning_rate:g}",
        options=_pieces(place, "litgpt", batch, learning_rate).options, variables=KEEP_MEMORY,
    )  # fmt: skip


def ppo(place: Place) -> Contest:
    """Ours alone: no peer has a PPO that runs here."""
    script = Path(__file__).with_name("with_tutelage.py")
    mine = ours(
        place, "ppo", "32 answers an iteration, 64 tokens at most", prompts=place.data("conversations"),
        reward_function=f"{script}:lower_case", iterations=100_000, batch_size=32, samples_per_prompt=4,
        mini_batch_size=16, max_new_tokens=64, max_length=512, save_seconds=1e9,
    )  # fmt: skip
    return Contest(name="ppo", model="small", ours=mine)


def prepare(place: Place) -> Contest:
    """Ours alone: documents cleaned, judged and said once."""
    mine = ours(
        place, "prepare", "all rules", sources=[place.data("documents")], licence="own",
        allow_licences=["LicenseRef-measure-only"], min_characters=100,
    )  # fmt: skip
    mine.options["samples"] = Path(place.data("documents")).read_text(encoding="utf-8").count("\n")
    return Contest(name="prepare", model="small", ours=mine)


def serve(place: Place) -> Contest:
    """Ours alone: eight requests at a time, 32 tokens each."""
    mine = ours(place, "serve", "8 requests at a time, 32 tokens each")
    mine.options["data"] = place.data("conversations")
    return Contest(name="serve", model="small", ours=mine)


BENCHMARKS: dict[str, Callable[[Place], list[Contest]]] = {
    "sft": lambda place: [sft(place)],
    "sft-bf16": lambda place: [sft(place, precision="bf16")],
    "sft-large": lambda place: [sft(place, "large", 4, 1e-5)],
    "sft-cuda": lambda place: [sft(place, "large", 32, 1e-5, "bf16")],
    "dpo": lambda place: [dpo(place)],
    "reward": lambda place: [reward(place), reward(place, "rankings")],
    "kto": lambda place: [kto(place)],
    "pretrain": lambda place: [pretrain(place)],
    "pretrain-loss": lambda place: [pretrain_loss(place)],
    "ppo": lambda place: [ppo(place)],
    "prepare": lambda place: [prepare(place)],
    "serve": lambda place: [serve(place)],
}
LARGE = ("sft-large", "sft-cuda")
"""Those whose model is the large one."""
ON_CARDS = ("sft-cuda",)
"""Those that need a CUDA device."""
STAND_ALONE = ("generate", "label")
"""Scripts beside this one that measure by themselves, and print a row of JSON each."""
