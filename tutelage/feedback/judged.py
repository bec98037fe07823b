"""From what people said to what training takes: comparisons, ratings, verdicts and conversations.

Each person's word is a record of its own, with who said it and the number that they gave; nothing is averaged away. A
reviewer's decision stands for all others' words in the questions that it answers. "Cannot tell" makes no record.

==========================  ======================================================================================
a question                  makes
==========================  ======================================================================================
compare (overall)           a Comparison; 4 is a tie. The other dimensions stand in its metadata
compare, "both bad"         a tie, and a bad Verdict for each
rank                        a Comparison of all responses; "all bad" is a tie and bad Verdicts
scale, of each response     Ratings on the question's dimension
binary, of each response    Verdicts
text                        a Conversation that ends with what the person wrote
==========================  ======================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tutelage.feedback.snapshot import Asked, Given, Opinion, Row
from tutelage.records import Comparison, Conversation, Message, Rating, Verdict, identify


@dataclass(slots=True)
class Judged:
    """Records, by kind."""

    comparisons: list[Comparison] = field(default_factory=list[Comparison])
    ratings: list[Rating] = field(default_factory=list[Rating])
    verdicts: list[Verdict] = field(default_factory=list[Verdict])
    conversations: list[Conversation] = field(default_factory=list[Conversation])

    def __iter__(self) -> Iterator[Comparison | Rating | Verdict | Conversation]:
        yield from self.comparisons
        yield from self.ratings
        yield from self.verdicts
        yield from self.conversations


def judged(questions: tuple[Asked, ...], rows: Iterable[Row]) -> Judged:
    """The records of a snapshot's rows, in order. What is said of gold items is not among them."""
    found = Judged()
    for row in rows:
        if row.gold:
            continue
        settled = {given.question for given in row.decided.values} if row.decided else set[str]()
        for opinion in row.answers:
            values = [given for given in opinion.values if given.question not in settled]
            _add(found, questions, row, opinion, values)
        if row.decided:
            _add(found, questions, row, row.decided, list(row.decided.values))
    return found


def compared(ratings: Iterable[Rating]) -> list[Comparison]:
    """Comparisons from the scores that one person gave to the responses of one prompt: on the overall axis, or else on
    the sum of all."""
    held: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    first: dict[tuple[str, str], Rating] = {}
    for rating in ratings:
        key = (rating.rater, identify([message.content for message in rating.prompt]))
        first.setdefault(key, rating)
        held.setdefault(key, {}).setdefault(rating.response, {})[rating.axis] = rating.score
    found: list[Comparison] = []
    for key, responses in held.items():
        if len(responses) < 2:
            continue
        scores = [axes.get("overall", sum(axes.values())) for axes in responses.values()]
        places = sorted(set(scores), reverse=True)
        one = first[key]
        found.append(
            Comparison(
                id=identify("scored", *key), prompt=one.prompt, responses=tuple(responses), judge=one.judge,
                ranks=tuple(places.index(score) + 1 for score in scores), rater=one.rater, task=one.task,
                split=one.split, metadata={**one.metadata, "score": " ".join(f"{score:g}" for score in scores)},
            )
        )  # fmt: skip
    return found


def _add(found: Judged, questions: tuple[Asked, ...], row: Row, opinion: Opinion, values: list[Given]) -> None:
    by_question: dict[str, list[Given]] = {}
    for given in values:
        if given.cannot_tell is None:
            by_question.setdefault(given.question, []).append(given)
    made = _Made(found, row, opinion, _metadata(row, opinion))
    compared = [asked for asked in questions if asked.kind == "compare" and asked.key in by_question]
    overall = next((asked for asked in compared if asked.dimension == "overall"), compared[0] if compared else None)
    for asked in questions:
        given = by_question.get(asked.key)
        if given is None:
            continue
        match asked.kind:
            case "compare":
                if asked is overall:
                    sides = {one.dimension: _word(by_question[one.key][0]) for one in compared if one is not asked}
                    made.pair(given[0], sides)
            case "rank":
                made.ranking(given)
            case "scale":
                made.scores(asked, given)
            case "binary":
                good = {one.slot: bool(one.num) for one in given if one.num is not None}
                made.verdicts(asked.key, asked.dimension, good)
            case "text":
                made.written(given[0])


@dataclass(frozen=True, slots=True)
class _Made:
    """Makes the records of one person's word."""

    into: Judged
    row: Row
    opinion: Opinion
    metadata: dict[str, str]

    def pair(self, given: Given, sides: dict[str, str]) -> None:
        """A comparison of two."""
        raw = {"score": _word(given), "strength": str(int(abs((given.num or 4) - 4))), **sides}
        better = given.num or 4
        self._comparison((1 + (better > 4), 1 + (better < 4)), raw)
        if given.text == "both_bad":
            self.verdicts("both_bad", "overall", dict.fromkeys(range(2), False))

    def ranking(self, given: list[Given]) -> None:
        """A comparison of several."""
        count = len(self.row.responses)
        if given[0].text == "all_bad":
            self._comparison((1,) * count, {"score": "all_bad"})
            self.verdicts("all_bad", "overall", dict.fromkeys(range(count), False))
            return
        places = {one.slot: int(one.num or 0) for one in given}
        ranks = tuple(places[slot] for slot in range(count))
        self._comparison(ranks, {"score": " ".join(str(rank) for rank in ranks)})

    def scores(self, asked: Asked, given: list[Given]) -> None:
        """A rating for each response that was scored, on the question's axis."""
        low, high = float(asked.low or 0), float(asked.high or 0)
        for one in given:
            slot = self._slot(one)
            if slot is None or one.num is None:
                continue
            self.into.ratings.append(
                Rating(
                    id=identify("rating", self.opinion.id, asked.key, slot), axis=asked.dimension, score=one.num,
                    scale=(low, high), response=self.row.responses[slot].text, **self._common(),
                )
            )  # fmt: skip

    def verdicts(self, question: str, dimension: str, good: dict[int, bool]) -> None:
        """A verdict for each response."""
        for place, value in good.items():
            slot = self._slot(Given(question="", slot=place))
            if slot is not None:
                common = self._common()
                common["metadata"] = {**self.metadata, "dimension": dimension}
                name = identify("verdict", self.opinion.id, question, slot)
                response = self.row.responses[slot].text
                self.into.verdicts.append(Verdict(id=name, response=response, good=value, **common))

    def written(self, given: Given) -> None:
        """A conversation that ends with what the person wrote."""
        last = Message(role="assistant", content=given.text or "")
        common = self._common()
        messages = (*common.pop("prompt"), last)
        self.into.conversations.append(
            Conversation(id=identify("written", self.opinion.id, given.question), messages=messages, **common)
        )

    def _comparison(self, ranks: tuple[int, ...], raw: dict[str, str]) -> None:
        texts = tuple(response.text for response in self.row.responses)
        if len(set(texts)) < 2:
            return
        models = " ".join(response.model or "?" for response in self.row.responses)
        if any(response.model for response in self.row.responses):
            raw = {**raw, "models": models}
        common = self._common()
        common["metadata"] = {**self.metadata, **raw}
        name = identify("comparison", self.opinion.id)
        self.into.comparisons.append(Comparison(id=name, responses=texts, ranks=ranks, **common))

    def _slot(self, given: Given) -> int | None:
        """Which response a value is about; what is about the whole is about the only one, if there is one."""
        if given.slot >= 0:
            return given.slot
        return 0 if len(self.row.responses) == 1 else None

    def _common(self) -> dict[str, Any]:
        return {
            "prompt": self.row.prompt, "judge": "person", "rater": self.opinion.rater, "task": self.row.source,
            "split": self.row.split, "metadata": self.metadata,
        }  # fmt: skip


def _metadata(row: Row, opinion: Opinion) -> dict[str, str]:
    told = {
        "item": row.item, "sampled": row.sampled, "p_select": "" if row.p_select is None else repr(row.p_select),
        "guideline": str(opinion.guideline) if opinion.guideline else "", "conflict_rule": opinion.rule,
        "seconds": f"{opinion.seconds:g}" if opinion.seconds else "",
        "decided": "yes" if opinion is row.decided else "",
    }  # fmt: skip
    return {key: value for key, value in told.items() if value}


def _word(given: Given) -> str:
    return f"{given.num:g}" if given.num is not None else given.text or ""
