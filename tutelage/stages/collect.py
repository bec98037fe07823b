"""prompts or votes -> comparisons and verdicts: whom a rule preferred, or whom people did

With `judge: rule` the model answers each prompt several times, and the rule stated in the report ranks its answers; it
looks away now and then (`noise`), as people do. With `judge: votes` the file of votes is checked and refined instead.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tutelage.errors import RecordError, SettingsError
from tutelage.evaluation import judge
from tutelage.inference.engine import Engine
from tutelage.inference.language_model import Sampling
from tutelage.instruction import formats
from tutelage.model import device
from tutelage.records import Comparison, Conversation, Split, Verdict, identify, write
from tutelage.run import Run
from tutelage.settings import Input

MAKES = "comparisons"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    judge: Literal["rule", "votes"] = "rule"
    """Who judges: the rule, or the people (or models) whose votes stand in a file."""
    votes: Path | None = None
    """With `judge: votes`: comparisons in any of the usual shapes; who judged is kept."""
    model: Annotated[Path, Input("model")] | None = None
    """With `judge: rule`: the model whose answers are compared."""
    prompts: Annotated[Path, Input("conversations")] | None = None
    """With `judge: rule`: what it is asked: an instruct run, or conversations that hold reference answers."""
    count: Annotated[int, Field(gt=0)] = 2000
    """Prompts that are asked, spread over the tasks."""
    held_out_count: Annotated[int, Field(ge=0)] = 200
    """Held-out prompts that are asked, to mark the reward model on."""
    responses: Annotated[int, Field(ge=2)] = 4
    """Answers drawn for each prompt; equal ones count once."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the answers."""
    max_new_tokens: Annotated[int, Field(gt=0)] = 64
    """Longest answer, in tokens."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the answers that the rule judges blindly."""
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """With `judge: votes`: share of the prompts kept out of training."""
    seed: int = 1
    """Of the choice of prompts, the answers and the noise."""


def execute(recipe: Recipe, run: Run) -> None:
    """Writes comparisons.jsonl, held_out.jsonl and verdicts.jsonl."""
    device.prepare(recipe.seed)
    if recipe.judge == "votes":
        _from_votes(recipe, run)
        return
    if recipe.model is None or recipe.prompts is None:
        raise SettingsError("collect: judge: rule needs model and prompts: name the stages, or give judge: votes")
    engine = Engine.load(recipe.model)
    training, verdicts = _ask(recipe, run, engine, formats.conversations(recipe.prompts), recipe.count, "train")
    held_out: list[Comparison] = []
    kept_out = recipe.prompts / "held_out.jsonl"
    if kept_out.exists() and recipe.held_out_count:
        # Held-out comparisons are judged without noise: they measure the reward model against the rule itself.
        exact = replace(recipe, noise=0.0)
        found = formats.conversations(kept_out)
        held_out, _ = _ask(exact, run, engine, found, recipe.held_out_count, "held_out")
    if not training:
        raise RecordError(f"{recipe.prompts}: the model gave every prompt one and the same answer: raise temperature")
    _write(run, training, held_out, verdicts)


def _ask(
    recipe: Recipe,
    run: Run,
    engine: Engine,
    found: Sequence[Conversation],
    count: int,
    split: Split,
) -> tuple[list[Comparison], list[Verdict]]:
    """Answers drawn from the model and ranked by the rule."""
    asked = spread(found, count, recipe.seed)
    sampling = Sampling(temperature=recipe.temperature, max_new_tokens=recipe.max_new_tokens, seed=recipe.seed)
    comparisons: list[Comparison] = []
    verdicts: list[Verdict] = []
    rng = random.Random(f"{recipe.seed}:{split}")
    drawing = engine.finished([engine.chat.prompt(record.prompt) for record in asked], sampling, recipe.responses)
    rollouts = dict(run.progress(drawing, f"asking, {split}", total=len(asked) * recipe.responses))
    for place, record in enumerate(asked):
        given: dict[str, int] = {}
        for number in range(place * recipe.responses, (place + 1) * recipe.responses):
            text = engine.text(rollouts[number], sampling).strip()
            if text and text not in given:
                given[text] = judge.score(record, text, rollouts[number].stopped).total
        ranks = judge.noisy_ranks(list(given.values()), recipe.noise, rng)
        common: dict[str, Any] = {
            "prompt": record.prompt, "judge": "rule", "rater": "four points", "task": record.task,
            "documents": record.documents, "split": split,
            "metadata": {"reference": judge.reference_of(record)},
        }  # fmt: skip
        if len(given) >= 2:
            texts = tuple(given)
            name = identify("comparison", record.id, texts)
            comparisons.append(Comparison(id=name, responses=texts, ranks=ranks, **common))
        for text, total in given.items():
            blind, guess = rng.random() < recipe.noise, rng.random() < 0.5
            good = guess if blind else total == 4
            verdicts.append(Verdict(id=identify("verdict", record.id, text), response=text, good=good, **common))
    return comparisons, verdicts


def spread(found: Sequence[Conversation], count: int, seed: int) -> list[Conversation]:
    """``count`` conversations, the same number of each task as far as they go, in a shuffled order."""
    tasks: dict[str, list[Conversation]] = {}
    for record in found:
        tasks.setdefault(record.task, []).append(record)
    rng = random.Random(seed)
    for records in tasks.values():
        rng.shuffle(records)
    chosen: list[Conversation] = []
    longest = max((len(records) for records in tasks.values()), default=0)
    for place in range(longest):
        chosen += [records[place] for _, records in sorted(tasks.items()) if place < len(records)]
    chosen = chosen[:count]
    rng.shuffle(chosen)
    return chosen


def _from_votes(recipe: Recipe, run: Run) -> None:
    """Votes, checked, split by prompt, and with how far several judges of one prompt agree."""
    if recipe.votes is None:
        raise SettingsError("collect: judge: votes needs votes: give a file of comparisons")
    found = formats.comparisons(recipe.votes)
    kept_out = _kept_out(found, recipe.held_out_share)
    training: list[Comparison] = []
    held_out: list[Comparison] = []
    for record in found:
        chosen = held_out if _question(record) in kept_out else training
        chosen.append(replace(record, split="held_out" if chosen is held_out else "train"))
    if not training:
        raise RecordError(f"{recipe.votes}: no comparison is left to train on: lower held_out_share")
    verdicts = [
        Verdict(
            id=identify("verdict", record.id, response), prompt=record.prompt, response=response,
            good=rank == min(record.ranks), judge=record.judge, rater=record.rater, task=record.task,
            documents=record.documents,
        )
        for record in training if record.pairs()
        for response, rank in zip(record.responses, record.ranks, strict=True)
    ]  # fmt: skip
    _write(run, training, held_out, verdicts)
    agreed, judged = agreement(found)
    if judged:
        run.measure(0, agreement=agreed / judged, judged_twice=judged)
        run.note(f"two judges of one pair agreed {agreed} of {judged} times")


def _kept_out(found: Sequence[Comparison], share: float) -> set[str]:
    """The questions that are held out: those that were already, and the first by hash up to the share; at least one."""
    questions = sorted({_question(record) for record in found})
    count = max(1, round(share * len(questions))) if share and len(questions) > 1 else 0
    return {_question(record) for record in found if record.split == "held_out"} | set(questions[:count])


def _question(record: Comparison) -> str:
    return identify("question", [message.content for message in record.prompt])


def agreement(found: Sequence[Comparison]) -> tuple[int, int]:
    """(times that two judges ordered a pair of answers the same way, pairs that two judges both ordered)."""
    seen: dict[tuple[str, str, str], list[int]] = {}
    for record in found:
        question = _question(record)
        for better, worse in record.pairs():
            a, b = record.responses[better], record.responses[worse]
            seen.setdefault((question, *sorted((a, b))), []).append(1 if a < b else -1)  # type: ignore[arg-type]
    same = both = 0
    for votes in seen.values():
        first, second = votes.count(1), votes.count(-1)
        both += len(votes) * (len(votes) - 1) // 2
        same += first * (first - 1) // 2 + second * (second - 1) // 2
    return same, both


def _write(run: Run, training: list[Comparison], held_out: list[Comparison], verdicts: list[Verdict]) -> None:
    pairs = sum(len(record.pairs()) for record in training)
    write(run.folder / "comparisons.jsonl", training)
    write(run.folder / "held_out.jsonl", held_out)
    write(run.folder / "verdicts.jsonl", verdicts)
    good = sum(verdict.good for verdict in verdicts)
    run.measure(0, comparisons=len(training), pairs=pairs, held_out=len(held_out), verdicts=len(verdicts), good=good)
    run.note(
        f"{len(training)} comparisons with {pairs} pairs, {len(held_out)} held out, {len(verdicts)} verdicts, "
        f"{good / max(1, len(verdicts)):.0%} good"
    )
