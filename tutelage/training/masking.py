"""What an encoder learns from: pairs of segments, and tokens hidden in them.

A pair is ``<|cls|> A <|sep|> B <|sep|>``. In half of them B is what follows A in its document, in the others it is
from another document; the encoder says which, and guesses 15 % of the tokens: 80 % of these are replaced by the mask,
10 % by any token of the vocabulary, and 10 % are left.

Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1 and appendix A.2; lengths and cuts as in the authors'
create_pretraining_data.py. It differs in two ways: the other document is never the pair's own, and tokens are hidden
anew each time a pair is read (Liu et al. 2019, arXiv 1907.11692, section 4.1).
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertForPreTraining

from tutelage.model import device, encoder
from tutelage.model.attention import Layout
from tutelage.model.chat import Chat
from tutelage.model.encoder import Marks
from tutelage.sentences import is_chinese, sentences
from tutelage.training.batches import micro

MASKED = 0.15
"""Share of a pair's tokens that are guessed; its marks count, but are never among them."""
SHORT = 0.1
"""Share of the documents whose pairs are made shorter, to any length."""
AROUND = 3
"""Marks around two segments."""


class Sentence(NamedTuple):
    """Ids of a sentence: as it begins a segment, and as it goes on after another, with the space between them."""

    opening: array[int]
    following: array[int]


class Pair(NamedTuple):
    """Two segments; whether the second follows the first in its document."""

    first: array[int]
    second: array[int]
    follows: bool

    @property
    def tokens(self) -> int:
        """All tokens, the marks too."""
        return len(self.first) + len(self.second) + AROUND

    @property
    def masked(self) -> int:
        """Tokens that are guessed."""
        return min(self.tokens - AROUND, max(1, round(MASKED * self.tokens)))


def split(text: str, chat: Chat) -> list[Sentence]:
    """The sentences of a document."""
    found: list[Sentence] = []
    for sentence in sentences(text):
        opening = array("i", chat.text(sentence))
        found.append(Sentence(opening, opening if is_chinese(sentence) else array("i", chat.text(" " + sentence))))
    return found


def pairs(
    documents: Sequence[Sequence[Sentence]], length: int, rng: random.Random, same_document: bool = False
) -> list[Pair]:
    """Pairs of at most ``length`` tokens that use every sentence of every document.

    More than half of them do not follow, as a document's last sentence by itself is followed by nothing.

    documents: two at least, each of one sentence at least; length: 5 at least.
    same_document: what does not follow is from elsewhere in the same document, so that the subject gives nothing away.
    Pairs for which there is no such place are left out.
    """
    return [
        pair
        for number in range(len(documents))
        for pair in _of_document(documents, number, length - AROUND, rng, same_document)
    ]


def _of_document(
    documents: Sequence[Sequence[Sentence]], number: int, room: int, rng: random.Random, same_document: bool
) -> Iterator[Pair]:
    document = documents[number]
    target = rng.randint(2, room) if rng.random() < SHORT else room
    start = 0
    while start < len(document):
        end = size = 0
        for end in range(start, len(document)):
            size += len(document[end].following)
            if size >= target:
                break
        end += 1
        middle = rng.randint(start + 1, end - 1) if end - start > 1 else end
        first = joined(document[start:middle])
        if middle < end and rng.random() < 0.5:
            yield _cut(Pair(first, joined(document[middle:end]), True), room, rng)
            start = end
            continue
        if same_document:
            others = _elsewhere(document, start, middle, end, rng)
        else:
            other = rng.randrange(len(documents) - 1)
            others = documents[other + (other >= number)]
            others = others[rng.randrange(len(others)) :]
        if others:
            yield _cut(Pair(first, joined(others, target - len(first)), False), room, rng)
        start = middle  # what the other document displaced is used again


def _elsewhere(
    document: Sequence[Sentence], start: int, middle: int, end: int, rng: random.Random
) -> Sequence[Sentence]:
    """Sentences of the document from a place outside ``start:end``; none if there is no other."""
    places = [*range(start), *range(max(end, middle + 1), len(document))]
    if not places:
        return []
    begin = rng.choice(places)
    return document[begin : start if begin < start else None]


def joined(some: Sequence[Sentence], wanted: int | None = None) -> array[int]:
    """The ids of a segment: all sentences, or as many as give the wanted tokens."""
    ids = array("i", some[0].opening)
    for sentence in some[1:]:
        if wanted is not None and len(ids) >= wanted:
            break
        ids += sentence.following
    return ids


def _cut(pair: Pair, room: int, rng: random.Random) -> Pair:
    """The pair in so many tokens: the longer segment loses some, now at its beginning, now at its end."""
    while len(pair.first) + len(pair.second) > room:
        longer = pair.first if len(pair.first) > len(pair.second) else pair.second
        del longer[0 if rng.random() < 0.5 else -1]
    return pair


@dataclass(frozen=True, slots=True)
class Row:
    """A flat row of pairs. T tokens, B pairs, S masked tokens."""

    ids: Tensor
    """(T,) with tokens hidden."""
    segments: Tensor
    """(T,) 0 for the first segment and its marks, 1 for the second."""
    positions: Tensor
    """(T,) from 0 in each pair."""
    layout: Layout
    places: Tensor
    """(S,) where tokens are guessed."""
    targets: Tensor
    """(S,) what stood there."""
    labels: Tensor
    """(B,) 0 where the second segment follows, 1 where it does not."""


def row(pairs: Sequence[Pair], marks: Marks, rng: random.Random, where: torch.device) -> Row:
    """The pairs on a device, tokens hidden by the random numbers that come next."""
    ids: list[int] = []
    segments: list[int] = []
    positions: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    for pair in pairs:
        whole = [marks.cls, *pair.first, marks.sep, *pair.second, marks.sep]
        second = len(pair.second) + 1
        for place in hidden(pair, rng):
            places.append(len(ids) + place)
            targets.append(whole[place])
            whole[place] = stand_in(whole[place], marks, rng)
        ids += whole
        segments += [0] * (len(whole) - second) + [1] * second
        positions += range(len(whole))
    labels = [int(not pair.follows) for pair in pairs]
    columns = (ids, segments, positions, places, targets, labels)
    id_, segment, position, place, target, label = (
        torch.tensor(column, dtype=torch.long, device=where) for column in columns
    )
    return Row(id_, segment, position, encoder.row_of([pair.tokens for pair in pairs]), place, target, label)


def hidden(pair: Pair, rng: random.Random) -> list[int]:
    """The places in a pair where tokens are guessed, in order: never a mark."""
    separator = len(pair.first) + 1
    candidates = [place for place in range(1, pair.tokens - 1) if place != separator]
    return sorted(rng.sample(candidates, pair.masked))


def stand_in(token: int, marks: Marks, rng: random.Random) -> int:
    """What is read in place of a guessed token."""
    drawn = rng.random()
    if drawn < 0.8:
        return marks.mask
    return token if drawn < 0.9 else rng.randrange(marks.vocabulary)


class Guesses(NamedTuple):
    """Of the S masked tokens and B pairs of a row."""

    tokens: Tensor
    """(S,) log-probabilities of the tokens, in nats; carries gradients."""
    follows: Tensor
    """(B,) log-probabilities of the labels, in nats; carries gradients."""
    tokens_right: Tensor
    """(S,) 1 where the likeliest token is the right one, else 0."""
    follows_right: Tensor
    """(B,) the same for the labels."""


def guesses(model: BertForPreTraining, row: Row) -> Guesses:
    """What the encoder makes of a row."""
    with device.half():
        states = encoder.hidden_states(model, row.ids, row.segments, row.positions, row.layout)
    states = states.to(model.dtype)
    tokens = encoder.token_logits(model, states[row.places])
    follows = encoder.next_logits(model, states[row.positions == 0])
    return Guesses(
        -F.cross_entropy(tokens, row.targets, reduction="none"),
        -F.cross_entropy(follows, row.labels, reduction="none"),
        (tokens.argmax(-1) == row.targets).float(),
        (follows.argmax(-1) == row.labels).float(),
    )


@torch.no_grad()
def answers(
    model: BertForPreTraining, pairs: Sequence[Pair], marks: Marks, rng: random.Random, limit: int
) -> tuple[Tensor, Guesses]:
    """What stood at the masked places of pairs, and the guesses; ``limit``: tokens computed at a time."""
    targets: list[Tensor] = []
    found: list[Guesses] = []
    for chosen in micro(range(len(pairs)), [pair.tokens for pair in pairs], limit):
        part = row([pairs[i] for i in chosen], marks, rng, model.device)
        targets.append(part.targets)
        found.append(guesses(model, part))
    return torch.cat(targets), Guesses(*(torch.cat(columns) for columns in zip(*found, strict=True)))


def balanced(pairs: Sequence[Pair], right: Tensor) -> float:
    """The mean of two shares: of the pairs that follow, and of those that do not, how many were told rightly.

    Guessing gives one half, however many there are of each. Not a number if there are none of one kind.
    """
    follows = torch.tensor([pair.follows for pair in pairs], device=right.device)
    return float((right[follows].mean() + right[~follows].mean()) / 2)
