"""The well-known first example of reinforcement learning on a language model, whole and offline.

A small model of GPT-2's shape learns to speak of feelings, all of them alike. Then PPO rewards an answer with +1 if the
word "happy" stands in it and with -1 otherwise, and the model becomes a happy one:

    python examples/happy.py

takes a few minutes on two cores and prints the share of happy answers before and after, with samples of both. Mind what
it teaches besides: the reward asks for a word, so a word is what it gets.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tutelage.course import execute_stage
from tutelage.inference.engine import Engine
from tutelage.inference.language_model import Sampling
from tutelage.records import Conversation, Document, Message, identify, write
from tutelage.settings import check
from tutelage.stages import ppo, pretrain, sft, tokenizer

FOLDER = Path("runs/happy")
FEELINGS = "happy sad tired calm angry proud bored hungry curious nervous hopeful lonely grateful restless".split()
REASONS = [
    "the rain has stopped", "the train was late", "a friend wrote to me", "the soup is cold", "the work is done",
    "nobody was at home", "the garden is green", "the road was long", "the music was loud", "tomorrow is a holiday",
]  # fmt: skip
QUESTIONS = ["How do you feel today?", "How are you?", "What is your mood?", "How do you feel?", "How was your day?"]
SHAPES = ["I feel {0} because {1}.", "Today I am {0}: {1}.", "I am {0}, for {1}.", "Since {1}, I feel {0}."]


def reward(_prompts: Sequence[Sequence[Message]], responses: Sequence[str]) -> list[float]:
    """+1 for a happy answer, -1 for any other: what PPO maximises, less the cost of moving away from the start."""
    return [1.0 if "happy" in response else -1.0 for response in responses]


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """Questions, and answers in which every feeling is as likely as any other."""
    rng = random.Random(seed)
    return [
        (rng.choice(QUESTIONS), rng.choice(SHAPES).format(rng.choice(FEELINGS), rng.choice(REASONS)))
        for _ in range(count)
    ]


def happiness(model: Path) -> tuple[float, list[str]]:
    """The share of 200 answers with "happy" in them, and the first five answers."""
    engine = Engine.load(model)
    asked = [(Message(role="user", content=QUESTIONS[i % len(QUESTIONS)]),) for i in range(200)]
    texts = [reply.text for reply in engine.replies(asked, Sampling(max_new_tokens=32, seed=7))]
    return sum("happy" in text for text in texts) / len(texts), texts[:5]


def main() -> None:
    """Data, tokenizer, base model, chat model, PPO."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    texts, talks = FOLDER / "texts.jsonl", FOLDER / "talks.jsonl"
    write(texts, (
        Document(id=identify(i, text), text=" ".join(text), source="made here", licence="CC0-1.0", language="en")
        for i, text in enumerate(sentences(6000, seed=1))
    ))  # fmt: skip
    write(talks, (
        Conversation(id=identify(i), messages=(Message(role="user", content=q), Message(role="assistant", content=a)))
        for i, (q, a) in enumerate(sentences(2000, seed=2))
    ))  # fmt: skip
    shape = {"architecture": "gpt2", "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    small = {"batch_tokens": 1024, "learning_rate": 2e-3, "num_train_epochs": 2}
    stages = [
        ("tokenizer", tokenizer, {"documents": texts, "vocab_size": 400}),
        ("pretrain", pretrain, {
            "documents": texts, "tokenizer": FOLDER / "tokenizer", "max_length": 64, **shape, **small,
        }),
        ("sft", sft, {"model": FOLDER / "pretrain", "conversations": talks, **small}),
        ("ppo", ppo, {
            "model": FOLDER / "sft", "prompts": talks, "reward_function": f"{__file__}:reward", "iterations": 25,
            "batch_size": 64, "max_new_tokens": 32, "init_kl_coef": 0.05, "learning_rate": 3e-4,
        }),
    ]  # fmt: skip
    for name, module, values in stages:
        execute_stage(name, check(module.Recipe, values, name), FOLDER / name)
    console = Console()
    for name in ("sft", "ppo"):
        share, samples = happiness(FOLDER / name)
        console.print(f"[bold]{name}[/bold]: {share:.0%} of 200 answers are happy, such as")
        for text in samples:
            console.print(f"    {text}", highlight=False)


if __name__ == "__main__":
    main()
