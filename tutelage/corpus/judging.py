"""The first pass: one part from what was read to documents that may stay, and the keys by which they are compared.

Extraction, the licence gate, cleaning, personal data, language, the rules of quality, harm and test sets need nothing
but the document itself. What goes, goes with its rule and reason; of what passes, the keys are written beside.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import pyarrow as pa

from tutelage.corpus import (
    duplicates,
    fluency,
    harm,
    hashing,
    leakage,
    licences,
    paragraphs,
    parts,
    python_docs,
    quality,
    reading,
    sources,
    splits,
    tables,
    terms,
    testsets,
    treatment,
)  # fmt: skip
from tutelage.corpus.classifier import Classifier
from tutelage.corpus.facts import Facts, excerpt, size
from tutelage.corpus.tables import Refusal
from tutelage.errors import RecordError
from tutelage.records import Document, identify

NEARLY = 0.8
"""Of a rule's bound, from where a document that passes is borderline."""
BORDERLINE = 4
"""Samples of these for each rule."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """All that the passes need to know, in a form that any worker can be handed."""

    root: str
    cards: tuple[terms.Card, ...]
    gate: licences.Gate
    leave_out: tuple[str, ...]
    extraction: Literal["fast", "precise"]
    mask_personal: bool
    quality: quality.Settings
    quality_classifier: str
    lexicons: tuple[str, ...]
    harm_classifier: str
    tests: tuple[str, ...]
    near_duplicates: bool
    paragraphs: bool
    stretches: int
    """Units of the shortest; 0 leaves all."""
    max_characters: int
    share: float
    seed: int

    @property
    def bench(self) -> parts.Bench:
        return parts.Bench(Path(self.root))


class Told(NamedTuple):
    """What a job says when it is done: for the log alone."""

    documents: int
    bytes: int
    seconds: dict[str, float]


class Clock:
    """Seconds of work by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.process_time()

    def lap(self, step: str) -> None:
        now = time.process_time()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._since
        self._since = now


@dataclass(frozen=True)
class Tools:
    """What is made once for each worker."""

    leave_out: frozenset[str]
    tests: leakage.Index | None
    lexicon: harm.Lexicon
    quality_classifier: Classifier | None
    harm_classifier: Classifier | None


@cache
def tools(rules: Rules) -> Tools:
    """Reads the test sets, the words and the classifiers.

    Raises:
        RecordError: one of them cannot be read.
    """
    return Tools(
        frozenset(id for file in rules.leave_out for id in _ids(Path(file))),
        leakage.Index(testsets.read(rules.tests)) if rules.tests else None,
        harm.Lexicon.read([Path(path) for path in rules.lexicons]) if rules.lexicons else harm.Lexicon.default(),
        Classifier.load(Path(rules.quality_classifier)) if rules.quality_classifier else None,
        Classifier.load(Path(rules.harm_classifier)) if rules.harm_classifier else None,
    )


def _ids(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{file}: {error}: give a list of document ids, one a line") from None


def judge(rules: Rules, number: int) -> Told:
    """Judges one raw part, writes ``judged/NNNNN`` and removes the raw one. A part that is judged already stands."""
    bench = rules.bench
    if bench.judged(number).exists():
        return Told(0, 0, {})
    clock, facts, refused = Clock(), Facts(), list[Refusal]()
    read = list(_read(rules, parts.raw_rows(bench.raw(number)), facts, refused))
    _count([document for document, _ in read], facts)
    clock.lap("extraction")
    gated, passed = _gate(rules, read, refused)
    gated = _treated(rules, gated, Facts())
    clock.lap("licence")
    passed = _treated(rules, passed, facts)
    clock.lap("cleaning, personal data, language")
    judged = _judged(rules, passed, facts, refused, clock)
    with parts.beside(bench.judged(number)) as folder:
        _write_keys(rules, folder, judged, gated, clock)
        columns = tables.document_table(judged.documents, judged.texts)
        columns = columns.append_column("profile", parts.strings(judged.profiles))
        parts.write_table(folder / "documents.arrow", columns, packed=False)
        parts.write_table(folder / "refused.arrow", tables.refusal_table(refused))
        for refusal in refused:
            count_refusal(facts, refusal)
        facts.write(folder / "facts.json")
    bench.raw(number).unlink(missing_ok=True)
    clock.lap("writing")
    return Told(len(read), facts.bytes_of("read"), clock.seconds)


def count_refusal(facts: Facts, refusal: Refusal) -> None:
    """Adds a refusal to the sums, and perhaps to the samples."""
    document, rule = refusal.document, refusal.rule
    weight = size(document.text)
    facts.add("rules", rule, 1, weight)
    facts.add("source_rules", f"{shelf(document.source, document.metadata)}\t{rule}", 1, weight)
    facts.sample(
        f"refused\t{rule}", document.id + document.source,
        {"id": document.id, "source": document.source, "language": document.language,
         "name": document.metadata.get("name", ""), "reason": refusal.reason, "text": excerpt(document.text)},
    )  # fmt: skip


def shelf(source: str, metadata: Mapping[str, str]) -> str:
    """What a document's source is counted under: of a file in a folder the folder."""
    return source.rpartition("/")[0] if "/" in source and source == metadata.get("file") else source


def _read(
    rules: Rules, rows: Iterator[parts.Row], facts: Facts, refused: list[Refusal]
) -> Iterator[tuple[Document, terms.Card]]:
    """The documents of a raw part, each with the card of its source; what cannot be read is refused, with its place."""
    for row in rows:
        for found in _documents(rules, row):
            if isinstance(found, Refusal):
                facts.add("unreadable", found.reason, 1)
                refused.append(found)
                continue
            yield found, rules.cards[row.card]


def _count(documents: Sequence[Document], facts: Facts) -> None:
    weights = [size(one.text) for one in documents]
    facts.add_all("read", ["all"] * len(documents), 1, weights)
    facts.add_all("read_sources", [shelf(one.source, one.metadata) for one in documents], 1, weights)
    facts.add_all("read_licences", [one.licence or licences.UNKNOWN for one in documents], 1, weights)


def _documents(rules: Rules, row: parts.Row) -> Iterator[Document | Refusal]:
    if row.form == parts.READY:
        yield Document(
            id=row.id, text=cast(str, row.content), source=row.source, licence=row.licence, language=row.language,
            metadata=row.metadata or {},
        )  # fmt: skip
        return
    if row.form == parts.FAULT:
        yield _unreadable(row.source, cast(str, row.content))
        return
    for found in reading.entries(row):
        if isinstance(found, sources.Entry):
            found = sources.document(found, rules.cards[row.card], rules.extraction)
        yield _unreadable(found.place, found.reason) if isinstance(found, sources.Fault) else found


def _unreadable(place: str, reason: str) -> Refusal:
    document = Document(id=identify(place, reason), text="", source=place, licence="", language="und")
    return Refusal(document, "unreadable", reason)


def _gate(
    rules: Rules, documents: Sequence[tuple[Document, terms.Card]], refused: list[Refusal]
) -> tuple[list[Document], list[Document]]:
    """(those whose licence forbids it by name, those that pass). A copy of the former is no freer than they are."""
    forbidden: list[Document] = []
    passed: list[Document] = []
    unwanted = tools(rules).leave_out
    for document, card in documents:
        if document.id in unwanted:
            refused.append(Refusal(replace(document, text=""), "removed", "its removal was asked for"))
            continue
        verdict = terms.refused(document, card, rules.gate)
        if verdict is None:
            passed.append(document)
            continue
        refused.append(Refusal(document, *verdict))
        if document.licence and document.licence != licences.UNKNOWN:
            forbidden.append(document)
    return forbidden, passed


def _treated(rules: Rules, documents: Sequence[Document], facts: Facts) -> list[Document]:
    """The documents with their texts cleaned, persons masked, and their language told."""
    found: list[Document] = []
    treated = treatment.treat([one.text for one in documents], rules.mask_personal)
    facts.add_all("read_languages", [made.language for made in treated], 1, [made.given for made in treated])
    for document, made in zip(documents, treated, strict=True):
        for kind, count in made.changes.items():
            facts.add("changes", kind, 1, count)
        for kind, count in made.personal.items():
            facts.add("personal", kind, 1, count)
        metadata = document.metadata | {"script": made.script} if made.script else document.metadata
        one = Document(
            id=document.id, text=made.text, source=document.source, licence=document.licence, language=made.language,
            split=document.split, metadata=metadata,
        )  # fmt: skip
        found.append(one)
    return found


class _Judged(NamedTuple):
    """What passes the rules of quality and harm and gives no test away."""

    documents: list[Document]
    profiles: list[str]
    texts: pa.LargeStringArray
    bodies: pa.LargeStringArray
    units: hashing.Units
    """Of the bodies."""


def _judged(rules: Rules, documents: Sequence[Document], facts: Facts, refused: list[Refusal], clock: Clock) -> _Judged:
    made = tools(rules)
    texts = parts.strings([document.text for document in documents])
    bodies = python_docs.bodies(documents, texts)
    judgment = quality.judge(bodies, rules.quality, languages=[document.language for document in documents])
    for name, counts in judgment.histograms.items():
        facts.add_histogram(name, counts.tolist())
    gone: list[tuple[str, str] | None] = list(judgment.verdicts)
    clock.lap("quality")
    _lay_over(gone, harm.judge(bodies, made.lexicon, known=judgment.statistics))
    clock.lap("harm")
    for found, rule in ((made.quality_classifier, "low_quality"), (made.harm_classifier, "harmful")):
        if found:
            _lay_over(gone, found.judge(bodies, rule))
    clock.lap("classifiers")
    units = hashing.units_of(hashing.column(bodies))
    leaks = _leaks(made.tests, documents, bodies, units, gone, facts)
    clock.lap("test sets")
    passed: list[int] = []
    for place, (document, verdict) in enumerate(zip(documents, gone, strict=True)):
        if verdict:
            refused.append(Refusal(document, *verdict, leaks=leaks.get(place, "")))
        else:
            passed.append(place)
    _borderline(documents, gone, judgment, facts)
    rows = np.array(passed, np.int64)
    left = texts.take(parts.numbers(rows))
    return _Judged(
        [documents[place] for place in passed], [judgment.profiles[place] for place in passed], left,
        left if bodies is texts else bodies.take(parts.numbers(rows)), units.take(rows),
    )  # fmt: skip


def _borderline(
    documents: Sequence[Document], gone: Sequence[quality.Verdict], judgment: quality.Judgment, facts: Facts
) -> None:
    """Samples of what passed and nearly did not, by the rule it came nearest to."""
    stays = np.array([verdict is None for verdict in gone], dtype=bool)
    for rule, margins in judgment.margins.items():
        for place in np.flatnonzero(stays & (margins >= NEARLY) & (margins < 1)).tolist():
            document = documents[place]
            facts.add("borderline", rule, 1)
            facts.sample(
                f"borderline\t{rule}", document.id,
                {"id": document.id, "source": document.source, "language": document.language,
                 "name": document.metadata.get("name", ""), "share": round(float(margins[place]), 3),
                 "text": excerpt(document.text)},
                BORDERLINE,
            )  # fmt: skip


def _lay_over(gone: list[tuple[str, str] | None], more: Sequence[tuple[str, str] | None]) -> None:
    """The first rule that refuses a document is the one it goes by."""
    for place, verdict in enumerate(more):
        gone[place] = gone[place] or verdict


def _leaks(
    index: leakage.Index | None, documents: Sequence[Document], texts: pa.Array, units: hashing.Units,
    gone: list[tuple[str, str] | None], facts: Facts,
) -> dict[int, str]:  # fmt: skip
    """Marks what gives test items away; for each such place which ones."""
    if index is None:
        return {}
    found: dict[int, list[leakage.Leak]] = {}
    for leak in leakage.find(texts, 0, index, units):
        found.setdefault(leak.document, []).append(leak)
    named: dict[int, str] = {}
    for place, leaks in found.items():
        named[place] = ",".join(dict.fromkeys(f"{leak.item.test}:{leak.item.id}" for leak in leaks))
        if gone[place] is None:
            first = max(leaks, key=lambda leak: leak.coverage)
            gone[place] = ("leak", f"gives away {first.coverage:.0%} of {first.item.test}:{first.item.id}")
        for test, item in {leak.item[:2]: None for leak in leaks}:
            facts.add("leaks", f"{test}\t{item}", 1)
        for leak in leaks:
            facts.sample(
                "leaks", f"{leak.item.id}\t{documents[place].id}\t{leak.text[:40]}",
                {"test": leak.item.test, "item": leak.item.id, "coverage": round(leak.coverage, 3),
                 "alteration": leak.alteration, "text": excerpt(leak.text), "asked": excerpt(leak.item.text)},
            )  # fmt: skip
    return named


def _write_keys(rules: Rules, folder: Path, passed: _Judged, gated: Sequence[Document], clock: Clock) -> None:
    """The keys of what passed, the normal keys of what may not be copied, and what the small model counts."""
    duplicates.sign(passed.bodies, known=passed.units).write(folder / "signs")
    np.save(folder / "gated.npy", duplicates.sign([one.text for one in gated]).normal)
    clock.lap("keys of documents")
    if rules.paragraphs:
        found = paragraphs.passages(passed.texts)
        np.save(folder / "passages.keys.npy", found.keys)
        np.save(folder / "passages.documents.npy", found.documents)
    clock.lap("keys of paragraphs")
    np.save(folder / "letters.npy", fluency.tally(passed.bodies))
    clock.lap("letters")
    np.save(
        folder / "groups.npy",
        np.array([splits.value(splits.group(one), rules.seed) for one in passed.documents], np.uint64),
    )
    np.save(folder / "alone.npy", np.array([splits.value(one.id, rules.seed) for one in passed.documents], np.uint64))
    clock.lap("splits")
