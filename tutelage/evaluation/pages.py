"""Cards as pages: one HTML file each, with its style and its curves inside, and no scripts.

All text goes through Jinja's autoescape: what a model or a document says is shown, never obeyed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from tutelage.evaluation import charts
from tutelage.evaluation.card import Card, Preference, Progress, Share
from tutelage.evaluation.charts import Plot, Series
from tutelage.evaluation.findings import HELD_OUT
from tutelage.evaluation.tasks import ALL
from tutelage.sentences import counted

LESSONS = {
    "prepare": "Raw files become clean documents; what is refused is counted, with the reason.",
    "tokenizer": "Which pieces of text are common enough to be read as one.",
    "pretrain": "The model learns to guess the next token of the documents.",
    "instruct": "Questions about the documents, with answers that stand in them.",
    "sft": "The model learns to answer: it imitates the conversations.",
    "collect": "Answers of the model are compared, and the better one is marked.",
    "reward": "A second model learns to tell the better answer from the worse.",
    "ppo": "The model answers, the reward model scores, and what scored well becomes likelier.",
    "dpo": "The better answer of each pair becomes likelier than the worse, without a reward model.",
    "kto": "Good answers become likelier and bad ones less likely, each judged by itself.",
    "sample": "Answers are drawn and judged.",
    "evaluate": "All models answer the same held-out questions.",
}

TITLES = {
    "vocab_size": ("Vocabulary", "tokens"),
    "bytes_per_token_en": ("Bytes per token, English", ""),
    "bytes_per_token_zh": ("Bytes per token, Chinese", ""),
    "agreement": ("Judges agree", "share of pairs judged twice"),
    "loss": ("Loss", ""),
    "bits_per_byte": ("Bits per byte", "of the text, lower is better"),
    "accuracy": ("Accuracy", ""),
    "margin": ("Margin", "better minus worse"),
    "chosen_logps": ("Better answers", "log-probability, nats"),
    "rejected_logps": ("Worse answers", "log-probability, nats"),
    "kl": ("KL to the reference", "nats"),
    "approx_kl": ("KL of one update", "nats"),
    "kl_coef": ("KL coefficient", ""),
    "score": ("Score", "of the answers, by the reward"),
    "score_std": ("Spread of scores", "standard deviation"),
    "reward_desirable": ("Reward of good answers", ""),
    "reward_undesirable": ("Reward of bad answers", ""),
    "entropy": ("Entropy", "nats per token"),
    "clip_fraction": ("Clipped", "share of tokens"),
    "explained_variance": ("Explained variance", "of the returns, by the value head"),
    "value_loss": ("Value loss", ""),
    "policy_loss": ("Policy loss", ""),
    "response_length": ("Length of answers", "tokens"),
    "eos_rate": ("Answers that end", "share, by themselves"),
    "learning_rate": ("Learning rate", ""),
    "gradient_norm": ("Gradient norm", "before clipping"),
    "tokens_per_second": ("Speed", "tokens per second"),
}
"""Title and unit of numbers that stages write; others are shown by their own names."""

BY_STAGE = {
    ("pretrain", "loss"): ("Loss", "nats per token"),
    ("sft", "loss"): ("Loss", "nats per token"),
    ("sft", "accuracy"): ("Tokens guessed right", "share"),
    ("reward", "loss"): ("Loss", "nats per pair"),
    ("reward", "accuracy"): ("Pairs ordered rightly", "share"),
    ("dpo", "loss"): ("Loss", "nats per pair"),
    ("dpo", "accuracy"): ("Pairs ordered rightly", "share"),
}
"""Where a number means something else in a stage."""

MAIN = {
    "prepare": ("documents", "bytes", "refused"),
    "tokenizer": ("vocab_size", "bytes_per_token_en", "bytes_per_token_zh"),
    "instruct": ("conversations", "held_out"),
    "collect": ("comparisons", "verdicts", "agreement"),
    "pretrain": ("loss", "bits_per_byte"),
    "sft": ("loss", "accuracy"),
    "reward": ("loss", "accuracy", "margin"),
    "dpo": ("loss", "accuracy", "margin", "kl"),
    "kto": ("loss", "reward_desirable", "reward_undesirable", "kl"),
    "ppo": ("score", "kl", "response_length", "eos_rate"),
}
"""The curves that tell the story of a stage; the rest is under the hood."""

HOOD = ("learning_rate", "gradient_norm", "tokens_per_second")

SHARES = {"agreement", "accuracy", "stopped", "eos_rate", "clip_fraction"}

HABITS = (
    ("bits_per_byte", "bits per byte of held-out text", ""), ("tokens", "tokens", ""), ("sentences", "sentences", ""),
    ("repeated_ngrams", "repeats itself", "share"), ("distinct_2", "distinct pairs", "share"),
    ("commonest_opening", "commonest opening", "share"), ("list_items", "list items", ""),
    ("hedge", "hedges", "share"), ("apology", "apologises", "share"), ("refusal", "refuses", "share"),
    ("closing_summary", "sums up", "share"), ("self_reference", "speaks of itself as AI", "share"),
    ("empty", "empty", "share"),
)  # fmt: skip
"""Rows of the table on how answers are written."""

CHECKS = (
    ("right_object", "right object"), ("one_sentence", "one sentence"),
    ("no_invented_name", "no invented name"), ("ends_properly", "ends properly"), ("points", "points of 4"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A number in large letters."""

    label: str
    value: str
    before: str = ""
    note: str = ""


def page(card: Card) -> str:
    """The card as HTML, whole."""
    here = Path(__file__)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([here.parent / "templates", here.parents[1] / "templates"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "percent": percent, "number": charts.number, "duration": duration, "count": count, "counted": counted,
    }  # fmt: skip
    environment.filters.update(filters)
    models = list(dict.fromkeys(share.model for share in (*card.stopped, *card.accuracy)))
    models += [rate.model for rate in card.win_rates if rate.model not in models]
    template = environment.get_template("course.html" if card.stages or not card.stage else "stage.html")
    return template.render(
        card=card,
        colour={name: f"m{min(place, 7)}" for place, name in enumerate(models)},
        models=models,
        tasks=by_task(card.accuracy),
        lessons=LESSONS,
        habits=table(card.habits, HABITS),
        checks=table(card.habits, [(key, name, "" if key == "points" else "share") for key, name in CHECKS]),
        tiles=tiles(card),
        lead=lead(card),
        main_plots=main_plots,
        hood_plots=hood_plots,
        main_numbers=main_numbers,
        verdict=verdict,
        gains={(gain.model, gain.task): gain for gain in card.gains},
        direction=direction,
        kl=lambda name: divergence(card, name),
        rule=rule(card.rule),
    )


def percent(share: float) -> str:
    """71 %, with a decimal near the ends."""
    value = 100 * share
    near = 0 < value < 10 or 90 < value < 100
    return f"{value:.1f}".removesuffix(".0") + " %" if near else f"{value:.0f} %"


def count(value: float) -> str:
    """12,345, or 5.24 M."""
    return f"{value / 1e9:.3g} B" if value >= 1e9 else f"{value / 1e6:.3g} M" if value >= 1e6 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """8.4 s, 48 s, 17 min 20 s, 2 h 3 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def verdict(rate: Preference) -> str:
    """What the interval says, in a word."""
    return "better" if rate.low > 0.5 else "worse" if rate.high < 0.5 else "no difference seen"


def direction(gain: Progress) -> str:
    """What the interval of a gain says, in a word."""
    return "better" if gain.low > 0 else "worse" if gain.high < 0 else "no difference seen"


def divergence(card: Card, model: str) -> float | None:
    """How far a model is from the one that it is compared with: on held-out prompts, or else as its stage said."""
    held_out = card.metrics.get(f"{model}/{HELD_OUT}kl")
    stage = card.stages.get(model)
    return held_out if held_out is not None or stage is None else stage.metrics.get("kl")


def by_task(shares: Sequence[Share]) -> dict[str, list[Share]]:
    """Shares of each task; all tasks together first, if there are several."""
    names = sorted({share.task for share in shares} - {ALL})
    names = names if len(names) == 1 else [ALL, *names]
    return {task: found for task in names if (found := [share for share in shares if share.task == task])}


def table(
    habits: Mapping[str, Mapping[str, float]], rows: Sequence[tuple[str, str, str]]
) -> list[tuple[str, list[str]]]:
    """(name, one text for each model) of the rows in which any model has something but 0."""
    found: list[tuple[str, list[str]]] = []
    for key, name, kind in rows:
        values = [numbers.get(key) for numbers in habits.values()]
        if any(values):
            shown = percent if kind == "share" else charts.number
            found.append((name, ["" if value is None else shown(value) for value in values]))
    return found


def rule(text: str) -> list[tuple[str, str]]:
    """(head, words) of each point of a rule; a line that ends a sentence ends a point, and "Head: words" has a head."""
    points: list[tuple[str, str]] = []
    for point in re.split(r"(?<=[.。])\n", text.strip()) if text.strip() else []:
        head, colon, words = " ".join(point.split()).partition(": ")
        points.append((head, words) if colon and len(head.split()) <= 4 else ("", " ".join(point.split())))
    return points


def main_plots(card: Card) -> list[Plot]:
    """The curves that tell the story of the stage."""
    wanted = MAIN.get(card.stage) or [n for n in _trained(card) if n not in HOOD][:4]
    return [_plot(card, name) for name in wanted if name in card.curves]


def hood_plots(card: Card) -> list[Plot]:
    """All other curves."""
    wanted = MAIN.get(card.stage) or [n for n in _trained(card) if n not in HOOD][:4]
    rest = [name for name in _trained(card) if name not in wanted]
    return [_plot(card, name) for name in sorted(rest, key=lambda n: (n in HOOD, n))]


def main_numbers(card: Card) -> list[tuple[str, str]]:
    """(name, value) of a few numbers for the table of stages."""
    found: list[tuple[str, str]] = []
    wanted = [*MAIN.get(card.stage, ()), HELD_OUT + "accuracy", HELD_OUT + "bits_per_byte", HELD_OUT + "loss"]
    for name in wanted:
        if name in card.metrics:
            label = _title(card.stage, name)[0]
            found.append((label if label.startswith("KL") else label.lower(), _value(name, card.metrics[name])))
    return found[:5]


def tiles(card: Card) -> list[Tile]:
    """The few numbers that a hurried reader should see."""
    found: list[Tile] = []
    for label, shares in (
        ("right on held-out questions", card.accuracy),
        ("answers that stop by themselves", card.stopped),
    ):
        whole = [share for share in shares if share.task == ALL]
        if len(whole) > 1:
            first, second = whole[0], whole[1]
            found.append(
                Tile(
                    label=label,
                    value=percent(second.mean),
                    before=percent(first.mean),
                    note=f"{second.model}; before it, {first.model}",
                )
            )
    for rate in card.win_rates[1:] if len(card.win_rates) > 1 else card.win_rates:
        interval = f"{percent(rate.low)} to {percent(rate.high)}"
        found.append(Tile(label=f"{rate.model} preferred over {rate.over}", value=percent(rate.mean), note=interval))
    for stage in card.stages.values():
        if stage.stage == "reward" and HELD_OUT + "accuracy" in stage.metrics:
            value = percent(stage.metrics[HELD_OUT + "accuracy"])
            found.append(Tile(label="held-out pairs that the reward model orders rightly", value=value))
        if stage.stage == "pretrain" and HELD_OUT + "bits_per_byte" in stage.metrics:
            value = charts.number(stage.metrics[HELD_OUT + "bits_per_byte"])
            found.append(Tile(label="bits per byte of held-out text, after reading", value=value))
    return found


def lead(card: Card) -> str:
    """What was trained, on what, in how long: one or two sentences."""
    stages = list(card.stages.values())
    models = [stage for stage in stages if "parameters" in stage.facts]
    parts: list[str] = []
    if models:
        kind = models[0].facts.get("architecture", "language")
        subject = f"A {kind} model of {models[0].facts['parameters']} parameters"
        reading = next((s for s in stages if s.stage == "pretrain" and "tokens seen" in s.facts), None)
        parts.append(subject + (f" read {reading.facts['tokens seen']} tokens" if reading else " was taught"))
    for kind, verb, noun in (("sft", "followed", "conversations"), ("reward", "was judged by", "comparisons")):
        source = next((s for s in stages if noun in s.facts), None)
        if source and any(s.stage == kind for s in stages) and parts:
            parts.append(f"{verb} {source.facts[noun]} {noun}")
    text = f"{', '.join(parts[:-1])} and {parts[-1]}." if len(parts) > 1 else f"{parts[0]}." if parts else ""
    if card.seconds is not None:
        text += f" The whole road took {duration(card.seconds)}."
    return text.strip()


def _trained(card: Card) -> list[str]:
    """Curves with one of training; one measured only on held-out data stands for itself."""
    return [n for n in card.curves if not (n.startswith(HELD_OUT) and n.removeprefix(HELD_OUT) in card.curves)]


def _title(stage: str, name: str) -> tuple[str, str]:
    """A number's name for people, and its unit."""
    plain = name.removeprefix(HELD_OUT)
    words, unit = BY_STAGE.get((stage, plain)) or TITLES.get(plain) or (plain.replace("_", " ").capitalize(), "")
    if name == HELD_OUT + "accuracy" and stage != "reward":
        return "Held-out questions right", "share"
    return (f"Held-out {words[0].lower()}{words[1:]}", unit) if name.startswith(HELD_OUT) else (words, unit)


def _plot(card: Card, name: str) -> Plot:
    held_out: Series = card.curves.get(HELD_OUT + name, ())
    return charts.plot(*_title(card.stage, name), card.curves[name], held_out)


def _value(name: str, value: float) -> str:
    return percent(value) if name.removeprefix(HELD_OUT) in SHARES else charts.number(value)
