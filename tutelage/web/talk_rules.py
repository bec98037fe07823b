"""How the conversations of a project go: who answers, how, and how often; and where somebody is in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutelage.inference.language_model import Sampling
from tutelage.records import Message
from tutelage.web.answers import Question, clean
from tutelage.web.models import Models
from tutelage.web.queue import Lease
from tutelage.web.refusal import Refusal

KIND = "chat"
MAX_TURN = 20_000
"""Characters of a turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a project's conversations go."""

    models: tuple[str, ...]
    """Of one model two answers are drawn, of two models one each."""
    turns: int
    """Of a conversation, at most."""
    conversations: int = 0
    """Of each person; 0: as many as they like."""
    system: str = ""
    """What the models are told first; people see it too."""
    sampling: Sampling = field(default_factory=Sampling)
    overlap: int = 1
    """People who judge each pair; the first is who talks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where somebody is in their conversation."""

    messages: tuple[Message, ...]
    """What has been settled."""
    turn: int
    """Which turn is written or judged, from 1."""
    lease: Lease | None = None
    """The answers that wait to be judged."""
    last: int | None = None
    """At which seat the last answer is, where they are that and a new one in its place."""
    begun: bool = False
    item: int | None = None
    """The last comparison."""
    chosen: int | None = None
    """The response that goes on."""
    text: str = ""
    """What is being written."""
    idem: str = ""
    """The key of the request that the last comparison came by."""


def fresh(rules: Rules) -> Standing:
    """Where everybody begins."""
    return Standing(messages=(Message(role="system", content=rules.system),) if rules.system else (), turn=1)


def rules_of(given: Mapping[str, Any], questions: Sequence[Question], models: Models) -> dict[str, Any]:
    """A project's rules as its page sends them, checked; as they are kept.

    Raises:
        Refusal: "bad_input".
    """
    names = [given.get("model_a"), given.get("model_b") or given.get("model_a")]
    if not all(isinstance(name, str) and name for name in names):
        raise Refusal("bad_input", "models: choose who answers")
    names = list(dict.fromkeys(map(str, names)))
    models.check(names)
    numbers = {"turns": (5, 1, 50), "conversations": (0, 0, 10_000), "max_new_tokens": (256, 1, 4096)}
    found: dict[str, Any] = {"models": names}
    for name, (default, low, high) in numbers.items():
        value = given.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Refusal("bad_input", f"{name}: a whole number from {low} to {high}")
        found[name] = value
    temperature = given.get("temperature", 1.0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 5:
        raise Refusal("bad_input", "temperature: a number from 0 to 5")
    if temperature == 0 and len(names) == 1:
        raise Refusal("bad_input", "temperature 0 gives the same answer twice: raise it, or choose two models")
    if any(question.kind != "compare" for question in questions):
        raise Refusal("bad_input", "questions: in a conversation two answers are compared, and nothing else is asked")
    system = given.get("system", "")
    if not isinstance(system, str):
        raise Refusal("bad_input", "system: a text")
    return {**found, "temperature": float(temperature), "system": clean(system.strip(), MAX_TURN, "system")}


def rules_from(kind: str, settings: Mapping[str, Any]) -> Rules | None:
    """The rules of a project, from its kind and settings; None where nobody talks."""
    held = settings.get(KIND)
    if kind != KIND or not held:
        return None
    return Rules(
        models=tuple(held["models"]), turns=held["turns"], conversations=held["conversations"], system=held["system"],
        sampling=Sampling(temperature=held["temperature"], max_new_tokens=held["max_new_tokens"]),
        overlap=int(settings.get("overlap", 1)),
    )  # fmt: skip
