"""The second pass: one part from documents that may stay to those that do, without what many of them repeat."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa

from tutelage.corpus import cleaning, fluency, paragraphs, parts, python_docs, quality, settling, splits, tables
from tutelage.corpus.facts import Facts, excerpt, size
from tutelage.corpus.judging import Clock, Rules, Told, count_refusal, shelf
from tutelage.corpus.languages import length
from tutelage.corpus.tables import Refusal
from tutelage.records import Document
from tutelage.run import write_json

LENGTHS = 24
"""Bins of the histogram of lengths: powers of two, in characters."""
WORDINGS = "passages.json"


def first_numbers(sizes: Sequence[int]) -> list[int]:
    """The number of each part's first document."""
    return [sum(sizes[:place]) for place in range(len(sizes))]


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
    edges = np.cumsum(_sizes(rules)[0])
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


def apply(rules: Rules, number: int) -> Told:
    """Writes ``applied/NNNNN``: the documents that stay, all refusals, what was counted."""
    bench = rules.bench
    if bench.applied(number).exists():
        return Told(0, 0, {})
    clock, facts = Clock(), Facts()
    table = parts.read_table(bench.judged(number) / "documents.arrow")
    verdicts = parts.read_table(bench.settled() / f"{number:05d}.arrow")
    documents = tables.unpacked(table)
    stays = np.array([rule == "" for rule in verdicts.column("rule").to_pylist()], dtype=bool)
    refused = [
        Refusal(documents[row], *(verdicts.column(name)[row].as_py() for name in ("rule", "reason", "duplicate_of")))
        for row in np.flatnonzero(~stays).tolist()
    ]
    clock.lap("reading")
    profiles = table.column("profile").to_pylist()
    _by_letters(rules, documents, stays, refused)
    clock.lap("letters")
    documents = _without_repeats(rules, number, documents, stays, refused, facts)
    clock.lap("repeated paragraphs")
    held = verdicts.column("held_out").to_pylist()
    kept = [
        replace(document, split="held_out" if held[row] else "train")
        for row, document in enumerate(documents)
        if stays[row]
    ]
    for row in np.flatnonzero(stays).tolist():
        facts.add("profiles", profiles[row], 1, size(documents[row].text))
    kept = _parted(rules, list(cut(kept, rules.max_characters)))
    for refusal in refused:
        count_refusal(facts, refusal)
    for document in kept:
        _count(document, facts)
    with parts.beside(bench.applied(number)) as folder:
        tables.write(folder / "documents.parquet", tables.document_table(kept))
        early = parts.read_table(bench.judged(number) / "refused.arrow")
        tables.write(folder / "refused.parquet", pa.concat_tables([early, tables.refusal_table(refused)]))
        facts.write(folder / "facts.json")
    clock.lap("writing")
    return Told(len(kept), facts.bytes_of("kept"), clock.seconds)


def _first(rules: Rules, number: int) -> int:
    return _sizes(rules)[1][number]


@cache
def _sizes(rules: Rules) -> tuple[list[int], list[int]]:
    sizes = json.loads((rules.bench.settled() / "sizes.json").read_text(encoding="utf-8"))
    return sizes, first_numbers(sizes)


@cache
def _index(rules: Rules) -> paragraphs.Index:
    return paragraphs.Index(settling.repeated(rules.bench), said(rules))


@cache
def _letters(rules: Rules) -> fluency.Model:
    return fluency.Model.load(rules.bench.settled() / "letters.npz")


def forget() -> None:
    """Drops what is remembered of a run: another one may work in the same place."""
    for remembered in (_sizes, _index, _letters):
        remembered.cache_clear()


def _by_letters(rules: Rules, documents: Sequence[Document], stays: np.ndarray, refused: list[Refusal]) -> None:
    """Leaves out what is unlikely text beside all the rest."""
    rows = np.flatnonzero(stays).tolist()
    bits = _letters(rules).bits(parts.strings([python_docs.body(documents[row]) for row in rows]))
    for row, verdict in zip(rows, quality.judge_fluency(bits, rules.quality), strict=True):
        if verdict:
            stays[row] = False
            refused.append(Refusal(documents[row], *verdict))


def _without_repeats(
    rules: Rules, number: int, documents: list[Document], stays: np.ndarray, refused: list[Refusal], facts: Facts
) -> list[Document]:
    """The documents without repeated passages; one of which next to nothing is left goes."""
    if not rules.paragraphs:
        return documents
    texts = parts.strings([one.text if stay else "" for one, stay in zip(documents, stays, strict=True)])
    stripped = paragraphs.strip(
        texts, _first(rules, number), _index(rules), settling.passages(rules.bench.judged(number))
    )
    cut: dict[int, int] = {}
    for one in stripped.removed:
        cut[one.row] = cut.get(one.row, 0) + 1
        weight = size(one.text)
        facts.add("repeated", "edited" if one.edited else "same", 1, weight)
    found = list(documents)
    for row in cut:
        text = stripped.texts[row].as_py().strip("\n")
        shorter = replace(documents[row], text=text)
        body = python_docs.body(shorter)
        if len(body) < rules.quality.min_characters and length(body) < rules.quality.min_characters:
            stays[row] = False
            refused.append(Refusal(documents[row], "only_repeats", "next to nothing but passages that others have too"))
        else:
            found[row] = shorter
    facts.add("repeated_documents", "all", len(cut))
    return found


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
    if sum(_sizes(rules)[0]) > 1 or rules.share <= 0:
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
