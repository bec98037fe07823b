"""The end of a stage that makes a chat model: the model on disk, and a few answers before and after, for the eyes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from tutelage.inference.engine import Engine
from tutelage.inference.language_model import LanguageModel, Sampling
from tutelage.model import checkpoint
from tutelage.model.chat import Chat
from tutelage.records import Message
from tutelage.run import Run, write_json

GREEDY = Sampling(temperature=0, max_new_tokens=64)


def keep(
    run: Run, model: nn.Module, chat: Chat, before: Path, prompts: Sequence[Sequence[Message]], count: int = 4
) -> None:
    """Saves the model, and writes `samples.json`: answers of the model before the stage and after it.

    They answer ``count`` prompts, spread over those given; of these, all that fit the model's context.
    """
    checkpoint.save(model, chat, run.folder)
    spread = [prompts[place * len(prompts) // count] for place in range(min(count, len(prompts)))]
    spread = [prompt for prompt in spread if len(chat.prompt(prompt)) < checkpoint.context(model)]
    after = Engine(model, chat, run.path.name)
    models: list[LanguageModel] = [Engine.load(before), after]
    columns = [model.replies(spread, GREEDY) for model in models]
    rows = [
        {
            "prompt": [{"role": message.role, "content": message.content} for message in prompt],
            "answers": [
                {"name": model.name, "text": reply.text, "stopped": reply.finish_reason == "stop"}
                for model, reply in zip(models, replies, strict=True)
            ],
        }
        for prompt, replies in zip(spread, zip(*columns, strict=True), strict=True)
    ]
    write_json(run.folder / "samples.json", rows)
