"""models -> report card: held-out accuracy, win rates, habits, with their intervals

Every model answers the same held-out prompts. A rule compares the answers of each with those of the model before it,
or of the one that `over` names. Intervals are over prompts; one model is in memory at a time.
"""

from __future__ import annotations

import gc
import heapq
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tutelage import records
from tutelage.errors import RecordError, SettingsError
from tutelage.evaluation import tasks
from tutelage.evaluation.behaviour import behaviour
from tutelage.evaluation.judge import RULE, RuleScore
from tutelage.evaluation.ratings import bootstrap, wilson
from tutelage.evaluation.tasks import Answer, Marks
from tutelage.inference.engine import Engine
from tutelage.inference.language_model import Sampling
from tutelage.model import device
from tutelage.records import Comparison, Conversation, Document
from tutelage.run import Run, write_json
from tutelage.sentences import counted
from tutelage.settings import Input, nearest
from tutelage.training.likelihood import bits_per_byte, reward_accuracy

MAKES = "report"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Which models, on which questions."""

    models: Annotated[tuple[Path, ...], Input("model")]
    """The models, in the order of the education."""
    held_out: Annotated[Path, Input("conversations")]
    """Held-out conversations: a run that has ``held_out.jsonl``, or a JSONL file."""
    documents: Annotated[Path, Input("documents")] | None = None
    """Documents whose held-out part is read for bits per byte."""
    reward: Annotated[Path, Input("reward")] | None = None
    """A reward model to mark on held-out comparisons."""
    comparisons: Annotated[Path, Input("comparisons")] | None = None
    """The comparisons for it: a run that has ``held_out.jsonl``, or a JSONL file."""
    over: dict[str, str] = field(default_factory=dict)
    """With which other model each is compared, by their names: {ppo: sft}. By default with the one before it."""
    prompts_per_task: Annotated[int, Field(gt=0)] = 60
    """Held-out prompts of each task, at most."""
    eval_documents: Annotated[int, Field(gt=0)] = 200
    """Held-out documents for bits per byte, at most."""
    kl_prompts: Annotated[int, Field(ge=0)] = 100
    """Prompts on which the KL to the other model is estimated, from one answer drawn at temperature 1; 0 for none."""
    max_new_tokens: Annotated[int, Field(gt=0)] = 64
    """Tokens of an answer, at most; one that is longer is cut, and counts as not stopped."""
    temperature: Annotated[float, Field(ge=0)] = 0
    """How answers are drawn; 0 takes the most likely token."""
    samples: Annotated[int, Field(ge=0)] = 6
    """Prompts whose answers are shown, spread over the tasks."""
    seed: int = 1
    """Chooses the prompts, the samples and the bootstrap's draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found of one model."""

    name: str
    answers: list[Answer]
    scores: list[RuleScore]
    marks: list[Marks]
    bits_per_byte: float | None
    drawn: list[tuple[Conversation, str, float]]
    """Prompts, answers drawn at temperature 1, and their log-probabilities in nats."""


def execute(recipe: Recipe, run: Run) -> None:
    """Writes ``answers.jsonl``, ``results.json`` and ``samples.json``.

    Raises:
        SettingsError: two models of the same name, or `over` names one that is not there.
        RecordError: no held-out conversations, documents or comparisons where they are asked for.
    """
    device.prepare(recipe.seed)
    over = opponents([path.name for path in recipe.models], recipe.over)
    where = _held_out(recipe.held_out)
    asked = tasks.choose(records.read(where, Conversation), recipe.prompts_per_task, recipe.seed)
    texts = _texts(recipe)
    comparisons = _comparisons(recipe)
    # What may go wrong is looked at first, before any model answers.
    for path in recipe.models:
        Engine.load(path).require([conversation.prompt for conversation in asked])
    right, pairs = reward_accuracy(recipe.reward, comparisons) if recipe.reward else (0, 0)
    if recipe.reward and not pairs:
        raise RecordError(f"{recipe.comparisons}: no pair to order: every comparison is a tie or too long")
    found = [_examine(path, path.name in over, asked, texts, recipe, run) for path in recipe.models]

    results = _results(found, over, asked, recipe)
    results["kl"] = _divergences(found, over, recipe)
    if recipe.reward:
        share = wilson(right, pairs)
        results["reward"] = {"name": recipe.reward.name, "mean": share.mean, "low": share.low, "high": share.high,
                             "pairs": pairs}  # fmt: skip
        run.note(f"{recipe.reward.name}: {right:,} of {counted(pairs, 'held-out pair')} right")
    write_json(run.folder / "results.json", results)
    write_json(run.folder / "samples.json", _samples(found, asked, recipe.samples))
    _write_answers(run.folder / "answers.jsonl", found)
    _measure(results, run)


def opponents(names: Sequence[str], over: dict[str, str]) -> dict[str, str]:
    """With whom each model is compared: as ``over`` says, else with the one before it. The first may have nobody.

    Raises:
        SettingsError: two models of one name, or a name that is not among them.
    """
    if not names:
        raise SettingsError("evaluate: models: empty: name at least one")
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise SettingsError(f"evaluate: models: two are called {twice!r}: give their folders different names")
    for name in (*over, *over.values()):
        if name not in names:
            raise SettingsError(f"evaluate: over: no model is called {name!r}: {nearest(name, list(names))}")
    for name, other in over.items():
        if name == other:
            raise SettingsError(f"evaluate: over: {name} is compared with itself: name another model")
    before = dict(zip(names[1:], names, strict=False))
    return {name: {**before, **over}[name] for name in names if name in before or name in over}


def _examine(
    path: Path, compared: bool, asked: list[Conversation], texts: list[str], recipe: Recipe, run: Run
) -> Findings:
    """One model's answers and marks; it is out of memory afterwards."""
    sampling = Sampling(temperature=recipe.temperature, max_new_tokens=recipe.max_new_tokens, seed=recipe.seed)
    model = Engine.load(path)
    answers = _answers(model, asked, sampling, path.name, run)
    few = asked[:: -(-len(asked) // recipe.kl_prompts)] if compared and recipe.kl_prompts else []
    replies = model.replies([c.prompt for c in few], replace(sampling, temperature=1)) if few else []
    # A text may take more tokens than it was drawn in; one that no longer fits is left out.
    drawn = [
        (c, r.text, model.loglikelihood(c.prompt, r.text))
        for c, r in zip(few, replies, strict=True)
        if model.fits(c.prompt, r.text)
    ]
    del model
    gc.collect()
    marks = tasks.mark(answers, asked, recipe.seed)
    bits = bits_per_byte(path, texts) if texts else None
    whole = marks[-1]
    run.note(
        f"{path.name}: accuracy {whole.accuracy.mean:.3f} [{whole.accuracy.low:.3f}, {whole.accuracy.high:.3f}], "
        f"stops by itself {whole.stopped.mean:.0%}" + (f", bits per byte {bits:.3f}" if bits is not None else "")
    )
    return Findings(
        name=path.name,
        answers=answers,
        scores=tasks.scores(answers, asked),
        marks=marks,
        bits_per_byte=bits,
        drawn=drawn,
    )


def _answers(model: Engine, asked: list[Conversation], sampling: Sampling, name: str, run: Run) -> list[Answer]:
    answering = model.answering([conversation.prompt for conversation in asked], sampling)
    replies = dict(run.progress(answering, f"{name} answers", total=len(asked)))
    return tasks.answers(asked, [replies[place] for place in range(len(asked))])


def _divergences(found: list[Findings], over: dict[str, str], recipe: Recipe) -> list[dict[str, Any]]:
    """KL(model || other) in nats per answer: the mean of log p(y) - log q(y) over answers y that the model draws.

    The end of an answer is not counted. Source: Schulman 2020, "Approximating KL divergence", estimator k1.
    """
    paths = {path.name: path for path in recipe.models}
    rows: dict[str, dict[str, Any]] = {}
    for other in dict.fromkeys(over.values()):
        compared = [one for one in found if over.get(one.name) == other and one.drawn]
        if not compared:
            continue
        model = Engine.load(paths[other])
        for one in compared:
            fitting = [(c, text, own) for c, text, own in one.drawn if model.fits(c.prompt, text)]
            gaps = [own - model.loglikelihood(c.prompt, text) for c, text, own in fitting]
            if not gaps:
                continue
            low, high = bootstrap(gaps, recipe.seed)
            rows[one.name] = {"model": one.name, "over": other, "mean": sum(gaps) / len(gaps), "low": low,
                              "high": high, "prompts": len(gaps)}  # fmt: skip
        del model
        gc.collect()
    return [rows[name] for name in over if name in rows]


def _results(found: list[Findings], over: dict[str, str], asked: list[Conversation], recipe: Recipe) -> dict[str, Any]:
    """What ``results.json`` holds; the report is made of it."""
    by_name = {one.name: one for one in found}
    ids = [conversation.id for conversation in asked]
    win_rates = [
        {"model": name, **asdict(tasks.wins(other, ids, by_name[name].scores, by_name[other].scores, recipe.seed))}
        for name, other in over.items()
    ]
    gains = [
        {"model": name, **asdict(gain)}
        for name, other in over.items()
        for gain in tasks.gains(other, by_name[name].answers, by_name[other].answers, asked, recipe.seed)
    ]
    drawn = "the most likely token at each step" if recipe.temperature == 0 else f"temperature {recipe.temperature:g}"
    return {
        "rule": RULE,
        "prompts": len(asked),
        "models": [_of_model(one) for one in found],
        "win_rates": win_rates,
        "gains": gains,
        "kl": [],
        "reward": None,
        "notes": [
            f"Every model answered the same {counted(len(asked), 'held-out prompt')}, "
            f"at most {recipe.prompts_per_task} of a task; "
            f"answers are drawn as {drawn}, and cut after {recipe.max_new_tokens} tokens.",
            "KL is in nats per answer, estimated on held-out prompts from one answer each, drawn at temperature 1.",
            "Intervals are 95 %. Those of means and win rates redraw the prompts 10,000 times (percentile bootstrap); "
            "those of simple shares are Wilson's. They say how far other prompts might move a number, not another "
            "training seed.",
        ],
    }


def _of_model(one: Findings) -> dict[str, Any]:
    whole = one.marks[-1]
    count = len(one.scores)
    return {
        "name": one.name,
        "accuracy": [{"task": marks.task, **asdict(marks.accuracy)} for marks in one.marks],
        "stopped": asdict(whole.stopped),
        "tokens": whole.tokens,
        "points": sum(score.total for score in one.scores) / count,
        "rule": {f.name: sum(getattr(score, f.name) for score in one.scores) / count for f in fields(RuleScore)},
        "behaviour": behaviour([answer.response for answer in one.answers]),
        "bits_per_byte": one.bits_per_byte,
    }


def _samples(found: list[Findings], asked: list[Conversation], count: int) -> list[dict[str, Any]]:
    """Prompts taken from each task in turn, with every model's answer."""
    by_task: dict[str, list[int]] = {}
    for place, conversation in enumerate(asked):
        by_task.setdefault(conversation.task, []).append(place)
    longest = max(len(places) for places in by_task.values())
    turns = (places[turn] for turn in range(longest) for places in by_task.values() if turn < len(places))
    return [
        {
            "prompt": [{"role": message.role, "content": message.content} for message in asked[place].prompt],
            "task": asked[place].task,
            "reference": asked[place].answer,
            "answers": [
                {"name": one.name, "text": one.answers[place].response, "stopped": one.answers[place].stopped}
                for one in found
            ],
        }
        for place in islice(turns, count)
    ]


def _write_answers(file: Path, found: list[Findings]) -> None:
    with file.open("w", encoding="utf-8") as lines:
        for one in found:
            for answer, score in zip(one.answers, one.scores, strict=True):
                row = {"model": one.name, **asdict(answer), **asdict(score), "points": score.total}
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")


def _measure(results: dict[str, Any], run: Run) -> None:
    for place, model in enumerate(results["models"]):
        for share in model["accuracy"]:
            run.measure(place, model=model["name"], task=share["task"], accuracy=share["mean"], low=share["low"],
                        high=share["high"])  # fmt: skip
        bits = {} if model["bits_per_byte"] is None else {"bits_per_byte": model["bits_per_byte"]}
        run.measure(place, model=model["name"], stopped=model["stopped"]["mean"], tokens=model["tokens"], **bits)
    for place, rate in enumerate(results["win_rates"]):
        run.measure(place, model=rate["model"], over=rate["over"], win_rate=rate["mean"], low=rate["low"],
                    high=rate["high"])  # fmt: skip
    for place, gain in enumerate(results["gains"]):
        run.measure(place, model=gain["model"], over=gain["over"], task=gain["task"], gain=gain["mean"],
                    low=gain["low"], high=gain["high"])  # fmt: skip
    for place, kl in enumerate(results["kl"]):
        run.measure(place, model=kl["model"], over=kl["over"], kl=kl["mean"], low=kl["low"], high=kl["high"])
    for rate in results["win_rates"]:
        run.note(f"{rate['model']} over {rate['over']}: {rate['mean']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]")


def _texts(recipe: Recipe) -> list[str]:
    if not recipe.documents:
        return []
    held_out = (d for d in records.read(recipe.documents, Document) if d.split == "held_out")
    # Drawn, for the first ones may all be of one source.
    drawn = heapq.nsmallest(recipe.eval_documents, held_out, lambda d: records.identify("read", recipe.seed, d.id))
    if not drawn:
        raise RecordError(
            f"{recipe.documents}: no document of the split held_out: leave documents out, or hold some out"
        )
    return [document.text for document in drawn]


def _comparisons(recipe: Recipe) -> list[Comparison]:
    if (recipe.reward is None) != (recipe.comparisons is None):
        raise SettingsError("evaluate: reward and comparisons: give both, or neither")
    return list(records.read(_held_out(recipe.comparisons), Comparison)) if recipe.comparisons else []


def _held_out(path: Path) -> Path:
    return path / "held_out.jsonl" if path.is_dir() else path
