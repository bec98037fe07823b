"""A few answers before and after a stage, for the eyes: `samples.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from tutelage.inference.engine import Engine
from tutelage.inference.language_model import LanguageModel, Sampling
from tutelage.model.chat import Chat
from tutelage.records import Message
from tutelage.run import Run, write_json

GREEDY = Sampling(temperature=0, max_new_tokens=64)


def write(
    run: Run, before: Path | None, prompts: Sequence[Sequence[Message]], model: nn.Module, chat: Chat, count: int = 4
) -> None:
    """Answers of the model before the stage, if there was one, and after it, to prompts spread over those given."""
    spread = [prompts[place * len(prompts) // count] for place in range(min(count, len(prompts)))]
    after = Engine(model, chat, run.path.name)
    models: list[LanguageModel] = [after] if before is None else [Engine.load(before), after]
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
