"""prompts or votes -> comparisons and verdicts: whom a rule preferred, or whom people did

With `judge: rule` the model answers each prompt several times, and the rule stated in the report ranks its answers; it
looks away now and then (`noise`), as people do. With `judge: people` it answers and nobody judges yet: what is written
is a project for `tutelage label`. With `judge: votes` a file of votes, or a snapshot of such a project, is checked and
refined instead.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tutelage.errors import RecordError, SettingsError
from tutelage.evaluation import judge
from tutelage.feedback import selection, snapshot
from tutelage.feedback.judged import Judged, compared, judged
from tutelage.inference.engine import Engine
from tutelage.inference.language_model import Sampling
from tutelage.instruction import formats
from tutelage.model import device
from tutelage.records import Comparison, Conversation, Message, Rating, Split, Verdict, identify, write
from tutelage.run import Run, write_json
from tutelage.sentences import counted
from tutelage.settings import Input
from tutelage.training import rewards

MAKES = "comparisons"
ROW = 4096
"""Tokens that a reward model reads at a time."""
GUIDELINE = """Read the question, then the answers. Prefer the answer that you would rather have been given.

1. It is about what was asked, and true as far as you can tell.
2. It is as long as it needs to be.
3. It invents nothing, and comes to an end.

If they are alike, say so. If you cannot tell, say that, and why: it is an answer too.
"""
"""What people are asked to do, where a course does not say it better."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    judge: Literal["rule", "people", "votes"] = "rule"
    """Who judges: the rule, people to whom the answers are then shown, or those whose votes stand in a file."""
    votes: Path | None = None
    """With `judge: votes`: a snapshot's folder or file, or comparisons in any usual shape; who judged is kept."""
    model: Annotated[Path, Input("model")] | None = None
    """With `judge: rule` or `people`: the model whose answers are compared."""
    prompts: Annotated[Path, Input("conversations")] | None = None
    """With `judge: rule` or `people`: what it is asked: an instruct run, or conversations with reference answers."""
    rewards: Annotated[tuple[Path, ...], Input("reward")] = ()
    """With `judge: people`: reward models, two or more; how far they disagree is what each item is worth asking."""
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
    """With `judge: votes`: share of the conversations kept out of training; a single prompt is one."""
    seed: int = 1
    """Of the choice of prompts, the answers and the noise."""


def execute(recipe: Recipe, run: Run) -> None:
    """Writes comparisons.jsonl, held_out.jsonl and verdicts.jsonl; of a snapshot also ratings.jsonl and
    conversations.jsonl, where there are any. With `judge: people`, project.json and items.jsonl."""
    device.prepare(recipe.seed)
    if recipe.rewards and (recipe.judge != "people" or len(recipe.rewards) < 2):
        raise SettingsError("collect: rewards: two reward models or more, and judge: people")
    if recipe.judge == "votes":
        _from_votes(recipe, run)
        return
    if recipe.model is None or recipe.prompts is None:
        raise SettingsError(
            f"collect: judge: {recipe.judge} needs model and prompts: name the stages, or give judge: votes"
        )
    engine = Engine.load(recipe.model)
    if recipe.judge == "people":
        _for_people(recipe, run, engine, formats.prompts(recipe.prompts))
        return
    kept_out = recipe.prompts / "held_out.jsonl"
    asked = spread(formats.conversations(recipe.prompts), recipe.count, recipe.seed)
    aside: Sequence[Conversation] = []
    if kept_out.exists() and recipe.held_out_count:
        aside = spread(formats.conversations(kept_out), recipe.held_out_count, recipe.seed)
    for record in (*asked, *aside):
        judge.check(record)
    engine.require(record.prompt for record in (*asked, *aside))
    training, verdicts = _ask(recipe, run, engine, asked, "train")
    if not training:
        raise RecordError(f"{recipe.prompts}: the model gave every prompt one and the same answer: raise temperature")
    # Held-out comparisons are judged without noise: they measure the reward model against the rule itself.
    held_out = _ask(replace(recipe, noise=0.0), run, engine, aside, "held_out")[0] if aside else []
    _write(run, training, held_out, verdicts)


def _ask(
    recipe: Recipe,
    run: Run,
    engine: Engine,
    asked: Sequence[Conversation],
    split: Split,
) -> tuple[list[Comparison], list[Verdict]]:
    """Answers drawn from the model and ranked by the rule."""
    comparisons: list[Comparison] = []
    verdicts: list[Verdict] = []
    rng = random.Random(f"{recipe.seed}:{split}")
    for record, answers in _answers(recipe, run, engine, asked, split):
        given = {text: judge.score(record, text, stopped).total for text, stopped in answers.items()}
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


def _answers(
    recipe: Recipe, run: Run, engine: Engine, asked: Sequence[Conversation], what: str
) -> Iterator[tuple[Conversation, dict[str, bool]]]:
    """What is asked, with the different answers that the model gave and whether each came to its end."""
    sampling = Sampling(temperature=recipe.temperature, max_new_tokens=recipe.max_new_tokens, seed=recipe.seed)
    drawing = engine.finished([engine.chat.prompt(record.prompt) for record in asked], sampling, recipe.responses)
    rollouts = dict(run.progress(drawing, f"asking, {what}", total=len(asked) * recipe.responses))
    for place, record in enumerate(asked):
        given: dict[str, bool] = {}
        for number in range(place * recipe.responses, (place + 1) * recipe.responses):
            text = engine.text(rollouts[number], sampling).strip()
            if text:
                given.setdefault(text, rollouts[number].stopped)
        yield record, given


def _for_people(recipe: Recipe, run: Run, engine: Engine, found: Sequence[Conversation]) -> None:
    """A project for the labelling site: its question and guideline, and the items to be judged."""
    items: list[dict[str, Any]] = []
    chosen = spread(found, recipe.count, recipe.seed)
    engine.require(record.prompt for record in chosen)
    for record, answers in _answers(recipe, run, engine, chosen, "to be judged"):
        texts = list(answers)[: recipe.responses]
        if len(texts) >= 2:
            items.append(
                {
                    "prompt": [{"role": turn.role, "content": turn.content} for turn in record.prompt],
                    "responses": texts, "source": record.task, "split": record.split,
                }
            )  # fmt: skip
    if not items:
        raise RecordError(f"{recipe.prompts}: the model gave every prompt one and the same answer: raise temperature")
    if recipe.rewards:
        asked = [([Message(**turn) for turn in item["prompt"]], item["responses"]) for item in items]
        members = [rewards.of_answers(folder, asked, ROW) for folder in run.progress(recipe.rewards, "reward models")]
        for item, *given in zip(items, *members, strict=True):
            told = [scores for scores in given if scores is not None]
            if len(told) == len(given):
                item["worth"] = selection.disagreement_of_many(told)
    kind = "compare" if recipe.responses == 2 else "rank"
    write_json(
        run.folder / "project.json",
        {
            "name": run.path.name, "kind": kind, "guideline": GUIDELINE, "overlap": 1,
            "questions": [{"key": "better", "kind": kind, "dimension": "overall"}],
        },
    )  # fmt: skip
    beside = run.folder / "items.jsonl.tmp"
    lines = (json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    beside.write_text("".join(lines), encoding="utf-8")
    os.replace(beside, run.folder / "items.jsonl")
    run.measure(0, items=len(items))
    run.note(f"items that wait to be judged: {len(items):,}: `tutelage label project {run.path}` puts them there")


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
    """Votes, checked, split by conversation, and with how far several judges of one prompt agree."""
    if recipe.votes is None:
        raise SettingsError("collect: judge: votes needs votes: give a file of comparisons")
    said = _said(recipe.votes)
    found = said.comparisons
    kept_out = _kept_out(found, recipe.held_out_share)
    training: list[Comparison] = []
    held_out: list[Comparison] = []
    for record in found:
        chosen = held_out if _conversation(record) in kept_out else training
        chosen.append(replace(record, split="held_out" if chosen is held_out else "train"))
    if not training:
        raise RecordError(f"{recipe.votes}: no comparison is left to train on: lower held_out_share")
    kept_out = {_conversation(record) for record in held_out}
    for name, others in (("ratings", said.ratings), ("conversations", said.conversations)):
        training_on = [record for record in others if _conversation(record) not in kept_out and record.split == "train"]
        if training_on:
            write(run.folder / f"{name}.jsonl", training_on)
    verdicts = [one for one in said.verdicts if _conversation(one) not in kept_out and one.split == "train"]
    # Who was only asked which is better has called none of them good: the best of each is taken for it.
    verdicts = verdicts or [
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
        run.note(f"two judges of one pair agreed {agreed:,} of {counted(judged, 'time')}")


def _said(votes: Path) -> Judged:
    """What a snapshot, or a file of votes, says."""
    if not _is_snapshot(votes):
        return Judged(comparisons=formats.comparisons(votes))
    said = judged(snapshot.header(votes).questions, snapshot.rows(votes))
    if not said.comparisons:
        said.comparisons = compared(said.ratings)
    return said


def _is_snapshot(votes: Path) -> bool:
    if votes.is_dir():
        return (votes / snapshot.HEADER).exists()
    _, first = next(formats.rows(votes))
    if snapshot.is_row(first):
        raise RecordError(
            f"{votes}: rows of a snapshot without its header: give its folder, or export it again in the shape snapshot"
        )
    return snapshot.is_header(first)


def _kept_out(found: Sequence[Comparison], share: float) -> set[str]:
    """Those that are held out: those that were already, and the first by hash up to the share; at least one."""
    conversations = sorted({_conversation(record) for record in found})
    count = max(1, round(share * len(conversations))) if share and len(conversations) > 1 else 0
    return {_conversation(record) for record in found if record.split == "held_out"} | set(conversations[:count])


def _conversation(record: Comparison | Rating | Verdict | Conversation) -> str:
    """What all turns of one conversation have in common, so that they fall on one side."""
    return _question(snapshot.opening(record.prompt))


def _question(prompt: Iterable[Message]) -> str:
    return identify("question", [message.content for message in prompt])


def agreement(found: Sequence[Comparison]) -> tuple[int, int]:
    """(times that two judges ordered a pair of answers the same way, pairs that two judges both ordered)."""
    seen: dict[tuple[str, str, str], list[int]] = {}
    for record in found:
        question = _question(record.prompt)
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
        f"{counted(len(training), 'comparison')} with {counted(pairs, 'pair')}, {len(held_out):,} held out, "
        f"{counted(len(verdicts), 'verdict')}, "
        f"{good / max(1, len(verdicts)):.0%} good"
    )
