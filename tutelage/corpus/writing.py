"""The second pass: one part from documents that may stay to those that do, without what many of them repeat."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tutelage.corpus import (
    cleaning,
    fluency,
    paragraphs,
    parts,
    python_docs,
    quality,
    settling,
    splits,
    stretches,
    tables,
)
from tutelage.corpus.facts import Facts, excerpt, size
from tutelage.corpus.hashing import replaced
from tutelage.corpus.judging import Clock, Rules, Told, count_refusal, shelf
from tutelage.corpus.languages import length
from tutelage.corpus.tables import Refusal
from tutelage.records import Document
from tutelage.run import write_json

Stays = npt.NDArray[np.bool_]
"""Of each document of a part whether it stays."""

LENGTHS = 24
"""Bins of the histogram of lengths: powers of two, in characters."""
WORDINGS = "passages.json"
ONLY_REPEATS = ("only_repeats", "next to nothing but passages that others have too")


def say(rules: Rules, number: int) -> None:
    """Writes down how the passages read that stay in this part."""
    bench = rules.bench
    target = bench.root / "said" / f"{number:05d}.json"
    if target.exists():
        return
    found = settling.repeated(bench)
    texts = parts.read_table(bench.judged(number) / "documents.arrow", ("text",)).column("text")
    said = paragraphs.wordings(texts, _first(rules, number), found)
    write_json(target, {str(key): text for key, text in said.items()})


def keepers(rules: Rules) -> list[int]:
    """The parts in which a repeated passage stays."""
    edges = np.cumsum(sizes(rules))
    return np.unique(np.searchsorted(edges, settling.repeated(rules.bench).keepers, side="right")).tolist()


def join_said(rules: Rules, numbers: Sequence[int]) -> None:
    """Puts together what `say` wrote."""
    folder = rules.bench.root / "said"
    if (folder / WORDINGS).exists():
        return
    said: dict[str, str] = {}
    for number in numbers:
        said |= json.loads((folder / f"{number:05d}.json").read_text(encoding="utf-8"))
    write_json(folder / WORDINGS, said)


def said(rules: Rules) -> dict[int, str]:
    """The repeated passages by key."""
    file = rules.bench.root / "said" / WORDINGS
    return {int(key): text for key, text in json.loads(file.read_text(encoding="utf-8")).items()}


def strip(rules: Rules, number: int) -> Told:
    """Writes ``stripped/NNNNN``: a part without all that goes before long stretches do."""
    bench = rules.bench
    if bench.stripped(number).exists():
        return Told(0, 0, {})
    clock = Clock()
    left = _stripped(rules, number, clock)
    stretches.write(bench, number, left, rules.stretches)
    clock.lap("keys of stretches")
    stay = np.flatnonzero(left.stays).tolist()
    return Told(len(stay), sum(size(left.documents[row].text) for row in stay), clock.seconds)


def apply(rules: Rules, number: int) -> Told:
    """Writes ``applied/NNNNN``: the documents that stay, all refusals, what was counted."""
    bench = rules.bench
    if bench.applied(number).exists():
        return Told(0, 0, {})
    clock = Clock()
    early = parts.read_table(bench.judged(number) / "refused.arrow")
    if rules.stretches:
        left = stretches.read(bench, number)
        clock.lap("reading")
        left = _without_stretches(rules, number, left)
        clock.lap("long stretches")
    else:
        left = _stripped(rules, number, clock)
    documents, texts, stays, refused, facts = left
    held = parts.read_table(bench.settled() / f"{number:05d}.arrow", ("held_out",)).column(0).to_pylist()
    profiles = parts.read_table(bench.judged(number) / "documents.arrow", ("profile",)).column(0).to_pylist()
    rows = np.flatnonzero(stays)
    whole: list[Document] = []
    for row in rows.tolist():
        whole.append(replace(documents[row], split="held_out" if held[row] else "train"))
        facts.add("profiles", profiles[row], 1, size(documents[row].text))
    kept = _parted(rules, list(cut(whole, rules.max_characters)))
    texts = texts.take(parts.numbers(rows)) if len(kept) == len(whole) else None
    for document in kept:
        _count(document, facts)
    with parts.beside(bench.applied(number)) as folder:
        tables.write(folder / "documents.parquet", tables.document_table(kept, texts))
        tables.write(folder / "refused.parquet", pa.concat_tables([early, refused]))
        facts.write(folder / "facts.json")
    clock.lap("writing")
    return Told(len(kept), facts.bytes_of("kept"), clock.seconds)


def _stripped(rules: Rules, number: int, clock: Clock) -> stretches.Left:
    """A part without copies, unlikely text and repeated passages."""
    facts = Facts()
    table = parts.read_table(rules.bench.judged(number) / "documents.arrow", tables.DOCUMENT)
    verdicts = parts.read_table(rules.bench.settled() / f"{number:05d}.arrow")
    documents, texts = tables.unpacked(table), parts.read_texts(table)
    stays = np.array([rule == "" for rule in verdicts.column("rule").to_pylist()], dtype=bool)
    refused = [
        Refusal(documents[row], *(verdicts.column(name)[row].as_py() for name in ("rule", "reason", "duplicate_of")))
        for row in np.flatnonzero(~stays).tolist()
    ]
    clock.lap("reading")
    _by_letters(rules, documents, texts, stays, refused)
    clock.lap("letters")
    shorter = _without_repeats(rules, number, documents, texts, stays, refused, facts)
    for row, text in shorter.items():
        documents[row] = replace(documents[row], text=text)
    clock.lap("repeated paragraphs")
    for refusal in refused:
        count_refusal(facts, refusal)
    return stretches.Left(documents, replaced(texts, shorter), stays, tables.refusal_table(refused), facts)


def _without_stretches(rules: Rules, number: int, left: stretches.Left) -> stretches.Left:
    """What `_stripped` gave without long stretches; a document of which next to nothing is left goes."""
    before = list(left.documents)
    removed = stretches.cut(rules.bench, number, left, sizes(rules), rules.stretches)
    refused: list[Refusal] = []
    for one in removed:
        document = before[one.row]
        left.facts.add("stretches", "all", 1, size(one.text))
        left.facts.sample(
            "stretches", f"{document.id}\t{one.text}",
            {"id": document.id, "source": document.source, "language": document.language,
             "name": document.metadata.get("name", ""), "original": one.original, "text": excerpt(one.text)},
        )  # fmt: skip
    cut_rows = sorted({one.row for one in removed})
    for row in cut_rows:
        if _says_nothing(rules, left.documents[row].text.removeprefix(stretches.heading(before[row]))):
            left.stays[row] = False
            refused.append(Refusal(before[row], *ONLY_REPEATS))
            count_refusal(left.facts, refused[-1])
    left.facts.add("stretch_documents", "all", len(cut_rows))
    return left._replace(
        texts=replaced(left.texts, {row: left.documents[row].text for row in cut_rows}),
        refused=pa.concat_tables([left.refused, tables.refusal_table(refused)]),
    )


def _first(rules: Rules, number: int) -> int:
    return sum(sizes(rules)[:number])


@cache
def sizes(rules: Rules) -> list[int]:
    """How many documents each part has that passed the first pass."""
    return json.loads((rules.bench.settled() / "sizes.json").read_text(encoding="utf-8"))


@cache
def _index(rules: Rules) -> paragraphs.Index:
    return paragraphs.Index(settling.repeated(rules.bench), said(rules))


@cache
def _letters(rules: Rules) -> fluency.Model:
    return fluency.Model.load(rules.bench.settled() / "letters.npz")


def forget() -> None:
    """Drops what is remembered of a run: another one may work in the same place."""
    for remembered in (sizes, _index, _letters):
        remembered.cache_clear()


def _by_letters(
    rules: Rules, documents: Sequence[Document], texts: pa.LargeStringArray, stays: Stays, refused: list[Refusal]
) -> None:
    """Leaves out what is unlikely text beside all the rest."""
    rows = np.flatnonzero(stays)
    bits = _letters(rules).bits(python_docs.bodies(documents, texts).take(parts.numbers(rows)))
    for row, verdict in zip(rows.tolist(), quality.judge_fluency(bits, rules.quality), strict=True):
        if verdict:
            stays[row] = False
            refused.append(Refusal(documents[row], *verdict))


def _without_repeats(
    rules: Rules, number: int, documents: Sequence[Document], texts: pa.LargeStringArray, stays: Stays,
    refused: list[Refusal], facts: Facts,
) -> dict[int, str]:  # fmt: skip
    """What the documents with repeated passages are without them; one of which next to nothing is left goes."""
    if not rules.paragraphs:
        return {}
    there = replaced(texts, dict.fromkeys(np.flatnonzero(~stays).tolist(), ""))
    stripped = paragraphs.strip(
        there, _first(rules, number), _index(rules), settling.passages(rules.bench.judged(number))
    )
    cut: dict[int, int] = {}
    for one in stripped.removed:
        cut[one.row] = cut.get(one.row, 0) + 1
        weight = size(one.text)
        facts.add("repeated", "edited" if one.edited else "same", 1, weight)
    found: dict[int, str] = {}
    for row in cut:
        text = stripped.texts[row].as_py().strip("\n")
        if _says_nothing(rules, python_docs.body(replace(documents[row], text=text))):
            stays[row] = False
            refused.append(Refusal(documents[row], *ONLY_REPEATS))
        else:
            found[row] = text
    facts.add("repeated_documents", "all", len(cut))
    return found


def _says_nothing(rules: Rules, body: str) -> bool:
    least = rules.quality.min_characters
    return len(body) < least and length(body) < least


def cut(documents: Sequence[Document], longest: int) -> Iterator[Document]:
    """The documents, the long ones in pieces. The first piece has the id of the whole, the others a number behind it.

    Args:
        longest: characters of a piece; 0 cuts none.
    """
    for document in documents:
        if not longest or len(document.text) <= longest:
            yield document
            continue
        body = python_docs.body(document)
        heading = "" if body is document.text else document.text.partition("\n\n")[0]
        pieces = cleaning.pieces(document.text, longest)
        for place, piece in enumerate(pieces):
            text = f"{heading}\n\n{piece}" if heading and place else piece
            yield replace(
                document, id=f"{document.id}#{place + 1}" if place else document.id, text=text,
                metadata=document.metadata | {"part": f"{place + 1}/{len(pieces)}"},
            )  # fmt: skip


def _parted(rules: Rules, pieces: Sequence[Document]) -> list[Document]:
    """The pieces; those of the only document there is are parted, else nothing could be held out."""
    if sum(sizes(rules)) > 1 or rules.share <= 0:
        return list(pieces)
    values = np.array([splits.value(piece.id, rules.seed) for piece in pieces], np.uint64)
    held = splits.held_out(values, values, np.arange(len(pieces)), rules.share)
    sides = ["held_out" if one else "train" for one in held.tolist()]
    return [replace(piece, split=side) for piece, side in zip(pieces, sides, strict=True)]


def _count(document: Document, facts: Facts) -> None:
    weight = size(document.text)
    facts.add("kept", "all", 1, weight, len(document.text))
    facts.add("sources", shelf(document), 1, weight)
    facts.add("licences", document.licence, 1, weight)
    facts.add("languages", document.language, 1, weight)
    facts.add("splits", document.split, 1, weight)
    facts.add("kinds", document.metadata.get("kind", "text"), 1, weight)
    bins = [0] * LENGTHS
    bins[min(LENGTHS - 1, len(document.text).bit_length())] = 1
    facts.add_histogram(f"length\t{document.language}", bins)
    facts.sample(
        "kept", document.id,
        {"id": document.id, "source": document.source, "language": document.language,
         "name": document.metadata.get("name", ""), "text": excerpt(document.text)},
    )  # fmt: skip
