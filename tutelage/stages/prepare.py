"""raw files -> clean documents, and what was refused and why

Text is read, must pass the licence gate, is cleaned, must pass the rules of quality, and is said only once. Whole
parts of a package, or whole files, are held out: they are never trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tutelage import settings
from tutelage.corpus import card, cleaning, duplicates, licences, python_docs, quality, sources, splits, tables
from tutelage.corpus.languages import language
from tutelage.corpus.tables import Refusal
from tutelage.errors import RecordError, SettingsError
from tutelage.records import Document, identify
from tutelage.run import Run, write_json
from tutelage.settings import Input

MAKES = "documents"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Which text, and what it must be like."""

    sources: Annotated[tuple[str, ...], Input("files")] = (sources.PYTHON,)
    """What to read: ``python`` for the documentation of this Python and its packages, or paths of files and folders
    (.txt .md .rst .html .jsonl .parquet .csv, also .gz)."""
    licence: str = ""
    """The licence of the files given by path, as SPDX names it, or ``own`` for your own text. A row of a table may
    state its own."""
    allow_licences: tuple[str, ...] = ()
    """SPDX identifiers to allow besides the open ones that are allowed anyway."""
    min_characters: Annotated[int, Field(ge=1)] = quality.MIN_CHARACTERS
    """Shorter documents are refused; a Chinese character counts as two."""
    max_characters: Annotated[int, Field(ge=1000)] = 20_000
    """Longer documents are cut into pieces, at a blank line where there is one; nothing is lost."""
    near_duplicates: bool = True
    """Whether to leave out documents that nearly repeat another one; exact repetitions always go."""
    held_out_share: Annotated[float, Field(ge=0, le=0.5)] = 0.04
    """Share of the parts of packages, or of the files, that are held out."""
    seed: int = 1
    """Chooses what is held out."""


def execute(recipe: Recipe, run: Run) -> None:
    """Writes ``documents/``, ``refused/``, ``card.json`` and ``card.html``.

    Raises:
        SettingsError: files are given without a licence.
        RecordError: a source cannot be read, or everything in it is refused.
    """
    listings = _listings(recipe)
    found, packages = _read(recipe, listings, run)
    passed, refusals = _gate(found, recipe)
    passed, more = _judge(run.progress(passed, "cleaning", len(passed)), recipe)
    refusals += more
    passed = splits.hold_out(passed, recipe.held_out_share, recipe.seed)
    kept, more = _say_once(passed, recipe.near_duplicates)
    refusals += more
    if not any(document.split == "train" for document in kept):
        by_rule = Counter(refusal.rule for refusal in refusals).most_common()
        told = ", ".join(f"{rule} {count}" for rule, count in by_rule)
        example = f": first {refusals[0].document.source}: {refusals[0].reason}" if refusals else ""
        raise RecordError(f"{', '.join(recipe.sources)}: nothing is left to train on: refused by {told}{example}")

    tables.write_documents(run.folder / "documents", kept)
    tables.write_refusals(run.folder / "refused", refusals)
    unread = sum((Counter(listing.unread) for listing in listings.values()), Counter[str]())
    stated = settings.plain(recipe) | {"sources": [Path(source).name for source in recipe.sources]}
    summary = card.card(kept, refusals, packages, dict(sorted(unread.items())), stated)
    write_json(run.folder / "card.json", summary)
    (run.folder / "card.html").write_text(card.page(summary), encoding="utf-8")
    _tell(run, kept, refusals)


def _listings(recipe: Recipe) -> dict[str, sources.Listing]:
    """The files of every path, before any work is done."""
    if not recipe.sources:
        raise SettingsError("prepare: sources: empty: give python, or the path of a file or folder")
    paths = [source for source in dict.fromkeys(recipe.sources) if source != sources.PYTHON]
    found = {source: sources.listing(source) for source in paths}
    if found and not recipe.licence:
        raise SettingsError(
            f"prepare: licence: missing: state the licence of the files in {paths[0]}, "
            "such as licence: CC0-1.0, or licence: own if you wrote them"
        )
    return found


def _read(
    recipe: Recipe, listings: dict[str, sources.Listing], run: Run
) -> tuple[list[Document], list[python_docs.Package]]:
    """All documents, in the order of the recipe's sources."""
    found: list[Document] = []
    packages: list[python_docs.Package] = []
    for source in dict.fromkeys(recipe.sources):
        if source == sources.PYTHON:
            documents, packages = python_docs.documents(run.progress)
            found += documents
        else:
            for path, name in run.progress(listings[source].read, f"reading {Path(source).name}"):
                found += sources.documents(path, name, recipe.licence)
    return found, packages


def _gate(documents: Sequence[Document], recipe: Recipe) -> tuple[list[Document], list[Refusal]]:
    """Leaves out what may not be used."""
    allowed = {*licences.OPEN, *recipe.allow_licences}
    verdicts = {name: licences.refusal(name, allowed) for name in {document.licence for document in documents}}
    refusals = [
        Refusal(document, "licence", reason) for document in documents if (reason := verdicts[document.licence])
    ]
    return [document for document in documents if not verdicts[document.licence]], refusals


def _judge(documents: Iterator[Document], recipe: Recipe) -> tuple[list[Document], list[Refusal]]:
    """Cleans, cuts, and leaves out what breaks a rule; the refusals in the order of the rules."""
    rules = quality.rules(recipe.min_characters)
    kept: list[Document] = []
    refusals: list[Refusal] = []
    for document in documents:
        for piece in _pieces(document, recipe.max_characters):
            refused = quality.refusal(python_docs.body(piece), rules)
            if refused:
                refusals.append(Refusal(piece, *refused))
            else:
                kept.append(piece)
    order = list(rules)
    return kept, sorted(refusals, key=lambda refusal: order.index(refusal.rule))


def _pieces(document: Document, longest: int) -> Iterator[Document]:
    text = cleaning.clean(document.text)
    if len(text) <= longest:
        yield document if text == document.text else _with_text(document, text)
        return
    heading = "" if python_docs.body(document) is document.text else text.partition("\n\n")[0]
    parts = cleaning.pieces(text, longest)
    for number, part in enumerate(parts, start=1):
        part = f"{heading}\n\n{part}" if heading and number > 1 else part
        metadata = document.metadata | {"part": f"{number}/{len(parts)}"}
        yield replace(_with_text(document, part), metadata=metadata)


def _with_text(document: Document, text: str) -> Document:
    known = document.metadata.get("name") or document.source
    return replace(document, text=text, id=identify(known, text), language=language(text))


def _say_once(documents: Sequence[Document], near: bool) -> tuple[list[Document], list[Refusal]]:
    """Leaves out repetitions, exact ones and then near ones. Of a held-out text and its copy in training, the one in
    training goes: else the held-out one would have been seen."""
    order = sorted(range(len(documents)), key=lambda place: (documents[place].split != "held_out", place))
    gone: dict[int, Refusal] = {}
    for rule, grouping in (("exact_duplicate", duplicates.exact), ("near_duplicate", duplicates.near)):
        if rule == "near_duplicate" and not near:
            continue
        places = [place for place in order if place not in gone]
        first = grouping([python_docs.body(documents[place]) for place in places])
        for position, place in enumerate(places):
            if first[position] != position:
                original = documents[places[first[position]]]
                name = original.metadata.get("name") or original.source
                gone[place] = Refusal(documents[place], rule, f"repeats {name}", original.id)
    kept = [document for place, document in enumerate(documents) if place not in gone]
    return kept, sorted(gone.values(), key=lambda refusal: refusal.rule)


def _tell(run: Run, kept: Sequence[Document], refusals: Sequence[Refusal]) -> None:
    refused = Counter(refusal.rule for refusal in refusals)
    held_out = sum(document.split == "held_out" for document in kept)
    size = sum(len(document.text.encode()) for document in kept)
    why = ", ".join(f"{rule} {count:,}" for rule, count in refused.items()) or "none"
    run.note(
        f"{len(kept):,} documents of {size / 1e6:.1f} MB, {held_out:,} of them held out; "
        f"{len(refusals):,} refused: {why}"
    )
    run.measure(
        0,
        documents=len(kept),
        train=len(kept) - held_out,
        held_out=held_out,
        bytes=size,
        refused=len(refusals),
        **{f"refused_{rule}": count for rule, count in refused.items()},
    )
