"""A report card: what a report shows, before it is a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tutelage.evaluation.charts import Series
from tutelage.evaluation.findings import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """How often a model's answers are preferred over another's, with its 95 % interval."""

    model: str
    over: str
    mean: float
    low: float
    high: float
    prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of a model's prompts, of one task or of all, with its 95 % interval."""

    model: str
    task: str
    mean: float
    low: float
    high: float
    prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """By how much a model is more accurate than another on the same prompts, with its 95 % interval."""

    model: str
    over: str
    task: str
    mean: float
    low: float
    high: float
    prompts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a report shows: of a run, or, with ``stages``, of a course."""

    title: str
    stage: str = ""
    """Which stage it is; empty for a course."""
    facts: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    win_rates: tuple[Preference, ...] = ()
    accuracy: tuple[Share, ...] = ()
    """On held-out tasks, of each model."""
    gains: tuple[Progress, ...] = ()
    """What each model gained in accuracy over the one that it is compared with."""
    stopped: tuple[Share, ...] = ()
    """Answers that ended by themselves, of each model."""
    habits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Of each model: how its answers are written."""
    curves: Mapping[str, Series] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    funnel: tuple[tuple[str, int, bool], ...] = ()
    """What became of the documents: (what happened, how many, whether they are in)."""
    rule: str = ""
    """The rule behind the win rates, in words."""
    notes: tuple[str, ...] = ()
    seconds: float | None = None
    hash: str = ""
    link: str = ""
    """Where the stage's own report is, from the course's."""
    stages: Mapping[str, Card] = field(default_factory=dict)
    """Of a course, in order."""
