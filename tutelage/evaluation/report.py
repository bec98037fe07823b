"""Report cards: ``report.html``, one page for people that needs nothing else, and ``report.json`` for programs.

A run's card is read from its folder; a course's card gathers those of its runs. Both are made of what the stages
wrote, so the same runs give the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from tutelage.errors import RunError
from tutelage.evaluation import findings, pages
from tutelage.evaluation.card import Card, Preference, Progress, Share
from tutelage.evaluation.charts import Series
from tutelage.evaluation.findings import HELD_OUT
from tutelage.evaluation.tasks import ALL
from tutelage.run import read_done, write_json
from tutelage.sentences import counted

if TYPE_CHECKING:
    from rich.console import Console


def write(folder: Path, card: Card) -> None:
    """Writes ``report.json`` and ``report.html``, each beside and then renamed."""
    write_json(folder / "report.json", as_json(card))
    beside = folder / "report.html.tmp"
    beside.write_text(pages.page(card), encoding="utf-8")
    os.replace(beside, folder / "report.html")


def as_json(card: Card) -> dict[str, Any]:
    """What ``report.json`` holds: of a course, its stages in order; all other keys sorted."""
    if card.stages:
        return {"course": card.title, "stages": {name: as_json(stage) for name, stage in card.stages.items()}}
    value = {
        "title": card.title,
        "stage": card.stage,
        "seconds": card.seconds,
        "hash": card.hash,
        "facts": dict(card.facts),
        "settings": dict(card.settings),
        "metrics": dict(card.metrics),
        "win_rates": [asdict(rate) for rate in card.win_rates],
        "accuracy": [asdict(share) for share in card.accuracy],
        "gains": [asdict(gain) for gain in card.gains],
        "stopped": [asdict(share) for share in card.stopped],
        "behaviour": {model: dict(numbers) for model, numbers in card.habits.items()},
        "documents": [{"what": what, "count": count, "kept": kept} for what, count, kept in card.funnel],
        "notes": list(card.notes),
    }
    return json.loads(json.dumps(value, sort_keys=True, allow_nan=False))


def stage_card(folder: Path) -> Card:
    """The card of a run, finished or at work.

    Raises:
        RunError: the folder is no run, or a file of it is damaged.
    """
    folder = Path(folder)
    done = read_done(folder) if (folder / "done").exists() else {}
    series = findings.curves(folder)
    card = Card(
        title=folder.name.removesuffix(".partial"),
        stage=str(findings.recipe(folder)["stage"]),
        facts=_facts(folder, series),
        settings=findings.settings(folder),
        metrics=findings.metrics(series),
        curves={name: points for name, points in series.items() if len(points) > 1 and name != "tokens"},
        samples=findings.samples(folder),
        funnel=_funnel(folder),
        seconds=done.get("seconds"),
        hash=str(done.get("hash", "")),
    )
    results = findings.read_json(folder / "results.json")
    return _with_results(card, results) if results else card


def course_card(folder: Path, stages: Sequence[tuple[str, Path]] | None = None) -> Card:
    """The card of a whole education: the runs in a folder, as many as are done.

    ``stages``: (name, run folder) in order; without it, those that ``course.json`` names, or else every finished run
    in the folder.

    Raises:
        RunError: a file of a run is damaged.
    """
    folder = Path(folder)
    runs = stages if stages is not None else _runs(folder)
    cards: dict[str, Card] = {}
    for name, path in runs:
        if (path / "done").exists():
            link = Path(os.path.relpath(path, folder)).as_posix() + "/report.html"
            cards[name] = replace(stage_card(path), title=name, link=link)
    course = Card(title=folder.resolve().name, stages=cards)
    for card in [c for c in cards.values() if c.accuracy or c.win_rates]:
        cards = {name: _marked(stage, name, card) for name, stage in cards.items()}
        course = replace(
            course, win_rates=card.win_rates, accuracy=card.accuracy, gains=card.gains, stopped=card.stopped,
            habits=card.habits, samples=card.samples, rule=card.rule, notes=card.notes, facts=card.facts,
            metrics=card.metrics,
        )  # fmt: skip
    seconds = [card.seconds for card in cards.values() if card.seconds is not None]
    return replace(
        course,
        stages=cards,
        funnel=next((card.funnel for card in cards.values() if card.funnel), ()),
        seconds=sum(seconds) if seconds else None,
    )


def print_samples(folder: Path, console: Console | None = None, at_most: int = 1) -> None:
    """Shows what a stage changed: the first prompts of its samples, and the answers before and after."""
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    console = console or Console(stderr=True, highlight=False)
    for sample in findings.samples(Path(folder))[:at_most]:
        for role, content in sample.prompt:
            console.print(f"[bold]{escape(role)}[/bold]")
            console.print(Padding(escape(_short(content)), (0, 0, 0, 2)))
        for said in sample.answers:
            ending = "" if said.stopped else " [yellow](cut: it did not stop)[/yellow]"
            console.print(f"[bold cyan]{escape(said.name)}[/bold cyan]{ending}")
            console.print(Padding(escape(_short(said.text)) or "[dim](nothing)[/dim]", (0, 0, 0, 2)))


def _short(text: str, characters: int = 700) -> str:
    text = text.strip()
    return text if len(text) <= characters else text[:characters].rstrip() + " …"


def _facts(folder: Path, series: Mapping[str, Series]) -> dict[str, str]:
    facts: dict[str, str] = {}
    config = findings.read_json(folder / "config.json") or {}
    weights = findings.parameters(folder)
    if weights:
        facts["parameters"] = pages.count(weights)
    if config.get("model_type"):
        facts["architecture"] = str(config["model_type"])
    for key, name in (("num_hidden_layers", "blocks"), ("hidden_size", "width"), ("vocab_size", "vocabulary")):
        if config.get(key):
            facts[name] = f"{config[key]:,}"
    if "vocab_size" in series:
        facts["vocabulary"] = f"{series['vocab_size'][-1][1]:,.0f}"
    if "tokens" in series:
        facts["tokens seen"] = pages.count(sum(value for _, value in series["tokens"]))
    corpus = findings.read_json(folder / "card.json")
    if corpus:
        facts |= {"documents": f"{corpus['documents']:,}", "size": f"{corpus['bytes'] / 1e6:,.1f} MB",
                  "licences": str(len(corpus["licences"]))}  # fmt: skip
    for file, name in (("conversations.jsonl", "conversations"), ("comparisons.jsonl", "comparisons"),
                       ("verdicts.jsonl", "verdicts"), ("ratings.jsonl", "ratings"),
                       ("held_out.jsonl", "held out")):  # fmt: skip
        if found := findings.lines(folder / file):
            facts[name] = f"{found:,}"
    return facts


def _funnel(folder: Path) -> tuple[tuple[str, int, bool], ...]:
    """What `prepare` did with the documents: found, refused by rule, kept by split."""
    card = findings.read_json(folder / "card.json")
    if not card:
        return ()
    first, *rules = card["funnel"]
    return (
        ("found", first["left"], True),
        *((str(step["rule"]), step["documents"], False) for step in rules),
        *((f"kept: {split['name']}".replace("_", " "), split["documents"], True) for split in card["splits"]),
    )


def _with_results(card: Card, results: dict[str, Any]) -> Card:
    """The card with what `evaluate` found. Its format is written down there."""
    models = cast(list[dict[str, Any]], results["models"])
    accuracy = tuple(Share(model=m["name"], **share) for m in models for share in m["accuracy"])
    stopped = tuple(Share(model=m["name"], task=ALL, **m["stopped"]) for m in models)
    metrics = dict(card.metrics)
    for model in models:
        for name, value in _numbers(model).items():
            metrics[f"{model['name']}/{name}"] = value
    for kl in results["kl"]:
        metrics[f"{kl['model']}/{HELD_OUT}kl"] = kl["mean"]
    reward = results.get("reward")
    facts = dict(card.facts)
    if reward:
        metrics[f"{reward['name']}/{HELD_OUT}accuracy"] = reward["mean"]
        facts["reward model"] = (
            f"{pages.percent(reward['mean'])} of {counted(reward['pairs'], 'held-out pair')} right "
            f"({pages.percent(reward['low'])} to {pages.percent(reward['high'])})"
        )
    return replace(
        card,
        metrics=metrics,
        facts={"held-out prompts": f"{results['prompts']:,}", **facts},
        accuracy=accuracy,
        stopped=stopped,
        win_rates=tuple(Preference(**rate) for rate in results["win_rates"]),
        gains=tuple(Progress(**gain) for gain in results.get("gains", ())),
        habits={m["name"]: _habits(m) for m in models},
        rule=str(results["rule"]),
        notes=tuple(results["notes"]),
    )


def _numbers(model: dict[str, Any]) -> dict[str, float]:
    """What `evaluate` measured of a model, as single numbers."""
    numbers = {
        HELD_OUT + "accuracy" + ("" if share["task"] == ALL else f"/{share['task']}"): share["mean"]
        for share in model["accuracy"]
    }
    numbers |= {"stopped": model["stopped"]["mean"], "answer_tokens": model["tokens"], "rule_points": model["points"]}
    if model.get("bits_per_byte") is not None:
        numbers[HELD_OUT + "bits_per_byte"] = model["bits_per_byte"]
    return numbers


def _habits(model: dict[str, Any]) -> dict[str, float]:
    bits = {} if model.get("bits_per_byte") is None else {"bits_per_byte": model["bits_per_byte"]}
    return {**bits, "stopped": model["stopped"]["mean"], "tokens": model["tokens"], "points": model["points"],
            **model["rule"], **model["behaviour"]}  # fmt: skip


def _marked(stage: Card, name: str, evaluation: Card) -> Card:
    """A stage's card with what an evaluation found of its model."""
    found = {k.partition("/")[2]: v for k, v in evaluation.metrics.items() if k.partition("/")[0] == name}
    if not found or stage.stage == "evaluate":
        return stage
    return replace(
        stage,
        metrics={**stage.metrics, **found},
        win_rates=tuple(rate for rate in evaluation.win_rates if rate.model == name),
        accuracy=tuple(share for share in evaluation.accuracy if share.model == name),
        gains=tuple(gain for gain in evaluation.gains if gain.model == name),
        stopped=tuple(share for share in evaluation.stopped if share.model == name),
    )


def _runs(folder: Path) -> list[tuple[str, Path]]:
    kept = findings.read_json(folder / "course.json")
    if kept is None:
        return [(path.name, path) for path in sorted(folder.iterdir()) if (path / "done").exists()]
    try:
        names = list(yaml.safe_load(kept["text"])["stages"])
    except (yaml.YAMLError, KeyError, TypeError):
        raise RunError(f"{folder / 'course.json'}: damaged: delete it and run the course again") from None
    return [(str(name), folder / str(name)) for name in names]
