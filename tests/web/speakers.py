"""Models that answer at once, each time otherwise, for tests of what is asked of them in another process."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from parrot import Parrot

from tutelage.errors import ModelError
from tutelage.inference.language_model import Reply, Sampling
from tutelage.records import Message
from tutelage.web.models import Models


class Speaker(Parrot):
    """Says which draw it was, and what it was told last. "hush" is not answered, "alike" always in the same way, "slow"
    takes its time, and "die" is the end of the process."""

    def replies(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Reply]:
        told = prompts[0][-1].content
        if told == "die":
            os._exit(3)
        if told == "hush":
            raise ModelError(f"{self.name}: says nothing")
        if told == "slow":
            time.sleep(1)
        for _ in super().replies(prompts, sampling):
            pass  # what does not fit its context is refused
        return [self._said(prompt[-1].content, sampling, place) for place, prompt in enumerate(prompts)]

    def _said(self, told: str, sampling: Sampling, place: int) -> Reply:
        text = "as ever" if told == "alike" else f"draw {sampling.seed}.{place} of **{told}**"
        return Reply(text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1)


def load(path: Path) -> Speaker:
    if not (path / "config.json").exists():
        raise ModelError(f"{path}: no model")
    return Speaker(path.name)


def speakers(folder: Path, *names: str) -> Models:
    """Models of these names, each with a folder of its own."""
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "config.json").write_text(name)
    return Models(lambda: {f"runs/{name}": folder / name for name in names}, load)
