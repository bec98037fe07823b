"""The contract for anything that answers: our engine, vLLM, a remote server, a parrot in tests.

Conversations and text in, text and nats out. No torch here.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import Field

from tutelage.records import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an answer is drawn."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Divides the logits; 0 takes the most likely token."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the smallest set of tokens whose probability reaches this; 1 is all."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Draw from the k likeliest tokens; 0 is all."""
    max_new_tokens: Annotated[int, Field(gt=0)] = 256
    """Tokens of the answer, at most."""
    seed: int = 0
    """The same seed gives the same answers. The n-th prompt of a batch draws the n-th numbers of the seed: the first is
    answered as if it were alone, and equal prompts are answered differently."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer; they are not part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, whole."""

    text: str
    finish_reason: Literal["stop", "length"]
    """"stop": it ended by itself; "length": it was cut at ``max_new_tokens`` or at the end of the context."""
    prompt_tokens: int
    completion_tokens: int


class LanguageModel(Protocol):
    """Anything that answers."""

    name: str

    def replies(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Reply]:
        """One answer to each prompt, in order; they may be computed together.

        Raises:
            SettingsError: a prompt that does not fit the context.
        """
        ...

    def reply(self, prompt: Sequence[Message], sampling: Sampling) -> Generator[str, None, Reply]:
        """One answer, streamed as pieces of text; returns it whole."""
        ...

    def loglikelihood(self, prompt: Sequence[Message], continuation: str) -> float:
        """The log-probability of the continuation as the answer to the prompt, in nats; its end not included."""
        ...
