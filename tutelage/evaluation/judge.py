"""The rule that stands in for people, and how right an answer is.

Both look only at text: the question, the answer, and the reference, one sentence of the documentation. What they give
is recorded as the judgement of a rule, and a person can take its place.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tutelage.errors import RecordError
from tutelage.records import Comparison, Conversation, Rating, Verdict
from tutelage.sentences import balanced, content_words, is_chinese, join, sentences

RULE = """\
An answer gets one point for each of four things, so from 0 to 4; of two answers the one with more points is better.
Right object: it names what was asked. Where the answer is a name or a kind, that stands in it; where the answer is a
sentence of the text, the answer and that sentence share half of their words or more (F1 of the content words; of the
characters, in Chinese).
One sentence: it is exactly one.
No invented name: every name of code in it (in backticks, with dots, with_underscores or in CamelCase) stands in the
question or in the reference.
Ends properly: it stopped by itself, ends with a full stop, and no bracket, quote or backtick is left open.
An empty answer gets nothing."""
"""The rule, in the words that reports print."""

KEY_TASKS = frozenset({"kind", "exception", "which", "title"})
"""The tasks whose answer is a key, such as a name. In all others it is a sentence."""

SAME_WORDS = Fraction(1, 2)
"""The F1 from which an answer speaks of the right object."""

_KIND = re.compile(r"\b(function|class|method|module)(?:es|s)?\b", re.IGNORECASE)
_CODE = re.compile(r"`([^`]+)`")
_QUOTED = re.compile(r"《([^》]+)》|\"([^\"]+)\"|“([^”]+)”")
_NAME = re.compile(
    r"\b(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+|\w*[A-Za-z0-9]_\w+|_\w+|[A-Z][a-z0-9]+[A-Z]\w*|[a-z][a-z0-9]*[A-Z]\w*"
    r"|[A-Z]{2,}[a-z]\w*)",
    re.ASCII,
)
_ABBREVIATION = re.compile(r"(?:e\.g|i\.e|a\.k\.a|[a-z]\.[a-z]|[A-Z]{2,}s)", re.ASCII)


@dataclass(frozen=True, slots=True)
class RuleScore:
    """What the rule (`RULE`) finds in one answer: each check 0 or 1."""

    right_object: int
    one_sentence: int
    no_invented_name: int
    ends_properly: int

    @property
    def total(self) -> int:
        """From 0 to 4."""
        return self.right_object + self.one_sentence + self.no_invented_name + self.ends_properly


def score(question: Conversation | Comparison | Rating | Verdict, response: str, stopped: bool = True) -> RuleScore:
    """What the rule finds in a response to the question.

    The reference is ``metadata["reference"]``, or else a conversation's own answer. ``stopped``: the response ended by
    itself and was not cut.

    Raises:
        RecordError: the question has neither.
    """
    reference = reference_of(question)
    response = response.strip()
    if not response:
        return RuleScore(0, 0, 0, 0)
    key = key_of(question.task, reference)
    right = _holds(response, key, question.task) if key else f1(response, sentences(reference)[0]) >= SAME_WORDS
    known = join("\n".join((*(message.content for message in question.prompt), reference)))
    return RuleScore(
        right_object=int(right),
        one_sentence=int(len(sentences(response)) == 1),
        no_invented_name=int(not invented_names(response, known)),
        ends_properly=int(stopped and response[-1] in ".。" and balanced(response)),
    )


def reference_of(question: Conversation | Comparison | Rating | Verdict) -> str:
    """The answer that a response is compared with.

    Raises:
        RecordError: there is none.
    """
    reference = question.metadata.get("reference", "")
    if not reference and isinstance(question, Conversation):
        reference = question.answer or ""
    if not reference.strip():
        raise RecordError(
            f"question {question.id}: no reference: the rule needs one in metadata.reference, or an answer; "
            "without them people or a model must judge"
        )
    return reference


def check(question: Conversation) -> None:
    """Sees to it that the rule can judge answers to a question, before they are drawn.

    Raises:
        RecordError: there is no reference, or it holds no key and should.
    """
    reference = reference_of(question)
    try:
        key_of(question.task, reference)
    except RecordError as error:
        raise RecordError(f"conversation {question.id}: {error}") from None


def prefer(a: RuleScore, b: RuleScore) -> int:
    """1 if the first is better, -1 if the second is, 0 if neither."""
    return (a.total > b.total) - (a.total < b.total)


def noisy_ranks(totals: Sequence[int], noise: float, rng: random.Random) -> tuple[int, ...]:
    """Ranks (1 is best, equal totals tie) by a judge who does not look now and then.

    Each response, by itself, is judged blindly with the probability ``noise``: its total is replaced by one drawn
    evenly from 0 to 4. The ranks are those of the totals so judged, so any number of responses has an order without
    contradictions, ties stay ties unless one of them is judged blindly, and ``noise=0`` is the rule itself. Two draws
    are made for each response whatever they give, so the rest of a run does not depend on the noise.
    """
    judged: list[int] = []
    for total in totals:
        blind, guess = rng.random() < noise, rng.randrange(5)
        judged.append(guess if blind else total)
    order = sorted(set(judged), reverse=True)
    return tuple(order.index(total) + 1 for total in judged)


def accuracy(task: str, response: str, reference: str) -> float:
    """How right a response is, from 0 to 1.

    For `kind`, `exception`, `which` and `title` it is 1 if the response gives the key of the reference and no other of
    its sort, else 0; but a wrong name in answer to `which` still earns the F1 of the words in its last part, as
    ``load_dict`` of ``load_state_dict``. For the other tasks it is the F1 of the content words (characters in Chinese)
    of the whole response and the reference.
    """
    key = key_of(task, reference)
    if key is None:
        return float(f1(response, reference))
    if task == "kind":
        return float({found.lower() for found in _KIND.findall(_CODE.sub("", response))} == {key})
    if task == "title":
        return float(_titles(response) == {key} or response.strip().rstrip(".。") == key)
    names = {name.strip() for name in _CODE.findall(response)}
    if names == {key} or (not names and response.strip().rstrip(".") == key):
        return 1.0
    return float(_f1(_name_words(names.pop()), _name_words(key))) if task == "which" and len(names) == 1 else 0.0


def key_of(task: str, reference: str) -> str | None:
    """The name or kind that answers a question of a key task; None for a task whose answer is a sentence.

    Raises:
        RecordError: the reference of a key task holds no key.
    """
    if task not in KEY_TASKS:
        return None
    if task == "kind":
        found = _KIND.findall(_CODE.sub("", reference))
    else:
        found = [*_titles(reference)] if task == "title" else _CODE.findall(reference)
    if len(found) != 1:
        raise RecordError(f"task {task}: reference {reference!r}: it should hold the answer once, as in `ValueError`")
    return found[0].lower() if task == "kind" else found[0].strip()


def f1(response: str, reference: str) -> Fraction:
    """F1 of the content words, with their counts; 0 where either has none.

    Source: Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1, with a longer list of words left out.
    """
    return _f1(content_words(response), content_words(reference))


def _f1(ours: Sequence[str], theirs: Sequence[str]) -> Fraction:
    same = (Counter(ours) & Counter(theirs)).total()
    return Fraction(2 * same, len(ours) + len(theirs)) if same else Fraction(0)


def _name_words(name: str) -> list[str]:
    """The words of a dotted name's last part: ``a.load_stateDict`` is load, state, dict."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name.rpartition(".")[2])]


def invented_names(response: str, known: str) -> list[str]:
    """The names of code in the response that stand nowhere in what is known, sorted."""
    code = {found.strip() for found in _CODE.findall(response)}
    names = {found for found in _NAME.findall(_CODE.sub(" ", response)) if not _ABBREVIATION.fullmatch(found)}
    return sorted(name for name in code | names if not _stands_in(name, known))


def _holds(response: str, key: str, task: str) -> bool:
    if task == "kind":
        return key in {found.lower() for found in _KIND.findall(_CODE.sub("", response))}
    return _stands_in(key, response)


def _stands_in(name: str, text: str) -> bool:
    """Whether the name stands in the text as a whole, not inside a longer word."""
    if name not in text:
        return False
    before, after = (r"(?<!\w)" if name[:1].isalnum() else ""), (r"(?!\w)" if name[-1:].isalnum() else "")
    if is_chinese(name):
        before = after = ""
    return re.search(before + re.escape(name) + after, text) is not None


def _titles(text: str) -> set[str]:
    return {next(part for part in groups if part).strip() for groups in _QUOTED.findall(text)}
