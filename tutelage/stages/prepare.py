"""raw files -> clean documents, and what was refused and why

Text is read, must pass the licence gate, is cleaned, must pass the rules of quality and of harm, must give no test
away, and is said only once: documents, and passages that many documents share. Whole clusters of documents are held
out: they are never trained on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from tutelage import settings
from tutelage.errors import RecordError, SettingsError
from tutelage.run import Run, write_json
from tutelage.sentences import counted
from tutelage.settings import Input

if TYPE_CHECKING:
    from tutelage.corpus.engine import Engine

MAKES = "documents"

WITHOUT_TRACE = ("engine", "processes", "address")
"""Who did the work: of that the result tells nothing."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Which text, and what it must be like."""

    sources: Annotated[tuple[str, ...], Input("files")] = ("python",)
    """What to read: ``python`` for the documentation of this Python and its packages, or paths of files and folders, or
    patterns of paths: text, Markdown, HTML, WARC, EPUB, JSONL, Parquet and CSV, compressed or not."""
    tests: Annotated[tuple[Path, ...], Input("files")] = ()
    """Test sets that must stay out: a document that gives one of their items away is refused."""
    licence: str = ""
    """The licence of the files given by path, as SPDX names it, or ``own`` for your own text. A record may state its
    own, a file a card beside it; what is known of none is refused."""
    allow_licences: tuple[str, ...] = ()
    """SPDX identifiers to allow besides the open ones that are allowed anyway."""
    refuse_licences: tuple[str, ...] = ()
    """SPDX identifiers to refuse though they are open."""
    ask_licences: tuple[str, ...] = ()
    """SPDX identifiers of which you will decide later: refused for now, by a rule of their own."""
    leave_out: Annotated[tuple[Path, ...], Input("files")] = ()
    """Files of the ids of documents whose removal was asked for, one a line."""
    extraction: Literal["fast", "precise"] = "fast"
    """How the main text of web pages is found; precise asks trafilatura and takes several times as long."""
    mask_personal: bool = True
    """Whether addresses, telephone, identity and card numbers and keys of persons are replaced by a mark."""
    profile: Literal["auto", "web", "manual", "poem", "book"] = "auto"
    """Which bounds the rules of quality have; auto looks at each document."""
    rules_off: tuple[str, ...] = ()
    """Rules of quality that are not asked."""
    min_characters: Annotated[int, Field(ge=1)] = 40
    """Shorter documents are refused; a Chinese character counts as two."""
    max_characters: Annotated[int, Field(ge=0)] = 0
    """Longer documents are cut into pieces, at a blank line where there is one; nothing is lost. 0 cuts none."""
    quality_classifier: Path | None = None
    """A trained classifier; what it calls bad is refused."""
    lexicons: tuple[Path, ...] = ()
    """Lists of words of harmful pages, one a line; without any the ones that come along."""
    harm_classifier: Path | None = None
    """A trained classifier of harmful pages."""
    near_duplicates: bool = True
    """Whether to leave out documents that nearly repeat another one; exact repetitions always go."""
    repeated_paragraphs: bool = True
    """Whether to leave out passages that many documents share, but once."""
    shared_stretches: Annotated[int, Field(ge=0)] = 0
    """Words, or Chinese characters, of the shortest stretch that goes where an earlier document has it word for word,
    such as 100; 20 or more. 0 leaves all."""
    held_out_share: Annotated[float, Field(ge=0, le=0.5)] = 0.04
    """Share of the parts of packages, of the files or of the rows of tables that are held out, each with what is like
    it."""
    seed: int = 1
    """Chooses what is held out."""
    engine: Literal["processes", "ray"] = "processes"
    """Who works: processes of this machine, or a Ray cluster by way of Daft. The result is the same."""
    processes: Annotated[int, Field(ge=0)] = 0
    """How many of this machine; 0 takes one for each core."""
    address: str = ""
    """Where the Ray cluster is; empty starts one here. All its machines must see the folder of the output."""


def execute(recipe: Recipe, run: Run) -> None:
    """Writes ``documents/``, ``refused/``, ``card.json`` and ``card.html``.

    Raises:
        SettingsError: a licence, a rule or a profile that there is none of, or stretches too short.
        RecordError: a source cannot be read, or everything in it is refused.
    """
    from tutelage.corpus import engine

    # First, for workers load what they need while this process does the same.
    workers = engine.engine(recipe.engine, recipe.processes or os.cpu_count() or 1, recipe.address)
    try:
        _prepare(recipe, run, workers)
    finally:
        workers.close()


def _prepare(recipe: Recipe, run: Run, workers: Engine) -> None:
    from tutelage.corpus import card, files, judging, licences, pipeline, quality, reading

    listed = reading.listings(recipe.sources, recipe.tests)
    _check_licences(recipe)
    _check_stretches(recipe)
    gate = licences.Gate(
        licences.OPEN | frozenset(recipe.allow_licences),
        frozenset(recipe.refuse_licences),
        frozenset(recipe.ask_licences),
    )
    rules = judging.Rules(
        root=str(run.checkpoint.resolve()),
        cards=reading.cards(listed, recipe.licence),
        gate=gate,
        leave_out=_places(recipe.leave_out),
        extraction=recipe.extraction,
        mask_personal=recipe.mask_personal,
        quality=quality.Settings(profile=recipe.profile, off=recipe.rules_off, min_characters=recipe.min_characters),
        quality_classifier="".join(_places([recipe.quality_classifier])),
        lexicons=_places(recipe.lexicons),
        harm_classifier="".join(_places([recipe.harm_classifier])),
        tests=_places(recipe.tests),
        near_duplicates=recipe.near_duplicates,
        paragraphs=recipe.repeated_paragraphs,
        stretches=recipe.shared_stretches,
        max_characters=recipe.max_characters,
        share=recipe.held_out_share,
        seed=recipe.seed,
    )
    if not workers.elsewhere and not pipeline.is_compiled(rules):
        run.note("compiles its loops, which is done once: about a minute")
    reading.forget_others(run.checkpoint, listed)
    told: dict[str, Any] = {}
    meter = None if files.PYTHON in recipe.sources else reading.Meter(listed)
    rows = reading.rows(recipe.sources, listed, run.progress, told, workers.elsewhere, meter)
    made = pipeline.run(rules, rows, workers, run.progress, told, meter)
    summary = card.card(made, rules, _stated(recipe))
    if not any(split["name"] == "train" and split["documents"] for split in summary["splits"]):
        shutil.rmtree(run.checkpoint)
        raise RecordError(f"{', '.join(recipe.sources)}: nothing is left to train on: {_why(summary, recipe)}")
    pipeline.publish(rules, made, run.folder)
    write_json(run.folder / "card.json", summary)
    (run.folder / "card.html").write_text(card.page(summary), encoding="utf-8")
    _tell(run, summary, made.pace)


def _places(paths: Sequence[Path | None]) -> tuple[str, ...]:
    """Where files are, for workers that stand elsewhere."""
    return tuple(str(path.resolve()) for path in paths if path)


def _check_licences(recipe: Recipe) -> None:
    from tutelage.corpus import licences

    for name in ("allow_licences", "refuse_licences", "ask_licences"):
        licences.check_names(getattr(recipe, name), f"prepare: {name}")


def _check_stretches(recipe: Recipe) -> None:
    from tutelage.corpus import stretches

    if 0 < recipe.shared_stretches < stretches.LEAST:
        raise SettingsError(
            f"prepare: shared_stretches: {recipe.shared_stretches}: so few words many documents share by chance: "
            f"give {stretches.LEAST} or more, or 0"
        )


def _stated(recipe: Recipe) -> dict[str, Any]:
    """The settings as the card shows them: without absolute paths, and without those that leave no trace."""
    stated = settings.plain(recipe)
    for name in ("sources", "tests", "leave_out", "lexicons"):
        stated[name] = [Path(given).name for given in stated[name]]
    for name in ("quality_classifier", "harm_classifier"):
        stated[name] = Path(stated[name]).name if stated[name] else None
    return {name: value for name, value in stated.items() if name not in WITHOUT_TRACE}


def _why(summary: dict[str, Any], recipe: Recipe) -> str:
    """What everything was refused by, and the first of it."""
    steps = [step for step in summary["funnel"][1:] if step["documents"]]
    told = ", ".join(f"{step['rule']} {step['documents']:,}" for step in steps) or "no rule: there was nothing"
    first = next((sample for rule in summary["refused"] for sample in rule["samples"]), None)
    example = f": such as {first['source']}: {first['reason']}" if first else ""
    hint = "" if recipe.licence or "unknown" not in example else ": state the licence of your files, or own"
    return f"refused by {told}{example}{hint}"


def _tell(run: Run, summary: dict[str, Any], pace: list[tuple[str, float, int]]) -> None:
    refused = {step["rule"]: step["documents"] for step in summary["funnel"][1:] if step["documents"]}
    sides = {split["name"]: split["documents"] for split in summary["splits"]}
    why = ", ".join(f"{rule} {count:,}" for rule, count in refused.items()) or "none"
    run.note(
        f"{counted(summary['documents'], 'document')} of {summary['bytes'] / 1e6:.1f} MB, "
        f"{sides.get('held_out', 0):,} held out; {sum(refused.values()):,} refused: {why}"
    )
    for step, seconds, size in pace:
        if seconds >= 0.01:
            run.note(f"{step}: {seconds:.2f} s of work" + (f", {size / 1e6 / seconds:,.1f} MB/s" if size else ""))
    run.measure(
        0,
        documents=summary["documents"],
        train=sides.get("train", 0),
        held_out=sides.get("held_out", 0),
        bytes=summary["bytes"],
        refused=sum(refused.values()),
        **{f"refused_{rule}": count for rule, count in refused.items()},
    )
