"""The second pass: one part from documents that may stay to those that do, without what many of them repeat."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import compute

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
from tutelage.corpus.hashing import column
from tutelage.corpus.judging import Clock, Rules, Told, count_refusal, shelf
from tutelage.corpus.languages import length
from tutelage.corpus.tables import Refusal
from tutelage.records import Document
from tutelage.run import write_json

Stays = npt.NDArray[np.bool_]
"""Of each document of a part whether it stays."""

SIDES = ("train", "held_out")
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
    weights = np.diff(column(parts.read_texts(left.documents)).offsets)[left.stays]
    return Told(len(weights), int(weights.sum()), clock.seconds)


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
    documents, stays, refused, facts = left
    held = parts.read_table(bench.settled() / f"{number:05d}.arrow", ("held_out",)).column(0).to_pylist()
    profiles = parts.read_table(bench.judged(number) / "documents.arrow", ("profile",))
    rows = parts.numbers(np.flatnonzero(stays))
    whole = tables.with_column(documents, "split", parts.strings([SIDES[one] for one in held])).take(rows)
    weights = np.diff(column(parts.read_texts(whole)).offsets)
    facts.add_all("profiles", profiles.take(rows).column(0).to_pylist(), 1, weights)
    kept = _parted(rules, _in_pieces(whole, rules.max_characters))
    _count(kept, facts)
    with parts.beside(bench.applied(number)) as folder:
        tables.write(folder / "documents.parquet", kept)
        tables.write(folder / "refused.parquet", pa.concat_tables([early, refused]))
        facts.write(folder / "facts.json")
    clock.lap("writing")
    return Told(len(kept), facts.bytes_of("kept"), clock.seconds)


def _stripped(rules: Rules, number: int, clock: Clock) -> stretches.Left:
    """A part without copies, unlikely text and repeated passages."""
    facts = Facts()
    documents = parts.read_table(rules.bench.judged(number) / "documents.arrow", tables.DOCUMENT)
    verdicts = parts.read_table(rules.bench.settled() / f"{number:05d}.arrow")
    columns = (verdicts.column(name).to_pylist() for name in ("rule", "reason", "duplicate_of"))
    stays = np.ones(len(documents), dtype=bool)
    refused = _refuse(documents, stays, {row: one for row, one in enumerate(zip(*columns, strict=True)) if one[0]})
    clock.lap("reading")
    refused += _by_letters(rules, documents, stays)
    clock.lap("letters")
    left, more = _without_repeats(rules, number, documents, stays, facts)
    refused += more
    clock.lap("repeated paragraphs")
    for refusal in refused:
        count_refusal(facts, refusal)
    return stretches.Left(left, stays, tables.refusal_table(refused), facts)


def _refuse(documents: pa.Table, stays: Stays, verdicts: Mapping[int, Sequence[str]]) -> list[Refusal]:
    """Lets documents go; by row, in order, the rule and the reason, and for a copy what stands for it."""
    rows = list(verdicts)
    stays[rows] = False
    gone = tables.unpacked(documents, rows)
    return [Refusal(document, *verdict) for document, verdict in zip(gone, verdicts.values(), strict=True)]


def _without_stretches(rules: Rules, number: int, before: stretches.Left) -> stretches.Left:
    """What `_stripped` gave without long stretches; a document of which next to nothing is left goes."""
    left, removed = stretches.cut(rules.bench, number, before, sizes(rules), rules.stretches)
    rows = sorted({one.row for one in removed})
    whole = dict(zip(rows, tables.unpacked(before.documents, rows), strict=True))
    for one in removed:
        document = whole[one.row]
        left.facts.add("stretches", "all", 1, size(one.text))
        left.facts.sample(
            "stretches", f"{document.id}\t{one.text}",
            {"id": document.id, "source": document.source, "language": document.language,
             "name": document.metadata.get("name", ""), "original": one.original, "text": excerpt(one.text)},
        )  # fmt: skip
    texts = parts.read_texts(left.documents)
    bodies = (texts[row].as_py().removeprefix(stretches.heading(whole[row])) for row in rows)
    nothing = [row for row, body in zip(rows, bodies, strict=True) if _says_nothing(rules, body)]
    refused = _refuse(before.documents, left.stays, dict.fromkeys(nothing, ONLY_REPEATS))
    for refusal in refused:
        count_refusal(left.facts, refusal)
    left.facts.add("stretch_documents", "all", len(rows))
    return left._replace(refused=pa.concat_tables([left.refused, tables.refusal_table(refused)]))


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


def _by_letters(rules: Rules, documents: pa.Table, stays: Stays) -> list[Refusal]:
    """Leaves out what is unlikely text beside all the rest."""
    rows = np.flatnonzero(stays)
    bits = _letters(rules).bits(tables.bodies(documents).take(parts.numbers(rows)))
    verdicts = quality.judge_fluency(bits, rules.quality)
    return _refuse(
        documents, stays, {row: verdict for row, verdict in zip(rows.tolist(), verdicts, strict=True) if verdict}
    )


def _without_repeats(
    rules: Rules, number: int, documents: pa.Table, stays: Stays, facts: Facts
) -> tuple[pa.Table, list[Refusal]]:
    """The documents without repeated passages; one of which next to nothing is left goes."""
    if not rules.paragraphs:
        return documents, []
    texts, removed = paragraphs.strip(
        parts.read_texts(documents), _first(rules, number), _index(rules),
        settling.passages(rules.bench.judged(number)), stays,
    )  # fmt: skip
    how = ["edited" if edited else "same" for edited in removed.edited.tolist()]
    facts.add_all("repeated", how, 1, removed.ends - removed.starts)
    cut = np.unique(removed.rows)
    facts.add("repeated_documents", "all", len(cut))
    left = tables.with_column(documents, "text", texts)
    bodies = tables.bodies(left)
    # A character has four bytes at most.
    short = cut[np.diff(column(bodies).offsets)[cut] < 4 * rules.quality.min_characters].tolist()
    nothing = [row for row in short if _says_nothing(rules, bodies[row].as_py())]
    return left, _refuse(documents, stays, dict.fromkeys(nothing, ONLY_REPEATS))


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


def _in_pieces(documents: pa.Table, longest: int) -> pa.Table:
    """The documents, the long ones `cut`."""
    if not longest or max(_lengths(documents), default=0) <= longest:
        return documents
    return tables.document_table(list(cut(tables.unpacked(documents), longest)))


def _parted(rules: Rules, pieces: pa.Table) -> pa.Table:
    """The pieces; those of the only document there is are parted, else nothing could be held out."""
    if sum(sizes(rules)) > 1 or rules.share <= 0:
        return pieces
    values = np.array([splits.value(id, rules.seed) for id in pieces.column("id").to_pylist()], np.uint64)
    held = splits.held_out(values, values, np.arange(len(pieces)), rules.share)
    return tables.with_column(pieces, "split", parts.strings([SIDES[one] for one in held.tolist()]))


def _lengths(documents: pa.Table) -> npt.NDArray[np.int64]:
    """Characters of the texts."""
    ask: Any = compute
    lengths = ask.utf8_length(parts.read_texts(documents))
    return np.frombuffer(lengths.buffers()[1], np.int64, len(lengths))


def _count(documents: pa.Table, facts: Facts) -> None:
    texts = parts.read_texts(documents)
    weights, lengths = np.diff(column(texts).offsets), _lengths(documents)
    ids, sources, licences, languages, sides = (
        documents.column(name).to_pylist() for name in ("id", "source", "licence", "language", "split")
    )
    known = tables.known(documents)
    facts.add_all("kept", ["all"] * len(ids), 1, weights, lengths)
    facts.add_all("sources", [shelf(*one) for one in zip(sources, known, strict=True)], 1, weights)
    facts.add_all("licences", licences, 1, weights)
    facts.add_all("languages", languages, 1, weights)
    facts.add_all("splits", sides, 1, weights)
    facts.add_all("kinds", [one.get("kind", "text") for one in known], 1, weights)
    bins = np.minimum(LENGTHS - 1, np.frexp(lengths)[1])
    for language in set(languages):
        own = np.array([one == language for one in languages], dtype=bool)
        facts.add_histogram(f"length\t{language}", np.bincount(bins[own], minlength=LENGTHS).tolist())
    facts.sample_all(
        "kept", ids,
        lambda row: {
            "id": ids[row], "source": sources[row], "language": languages[row],
            "name": known[row].get("name", ""), "text": excerpt(texts[row].as_py()),
        },
    )  # fmt: skip
