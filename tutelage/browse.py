"""What `prepare` kept and what it refused, row by row, for people who want to see for themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.text import Text

from tutelage.errors import RecordError, SettingsError
from tutelage.records import Document, read
from tutelage.settings import nearest

KEPT = "kept"
SHOWN = 1200
"""Characters of a document."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which documents to show; what is empty is not asked."""

    rule: str = ""
    """A rule that refused them, or "kept"."""
    source: str = ""
    """Part of the name of their source."""
    language: str = ""

    def __bool__(self) -> bool:
        return bool(self.rule or self.source or self.language)

    def suits(self, source: str, language: str) -> bool:
        """Whether a document is one of them, as far as it goes by itself."""
        return self.source in source and self.language in ("", language)


ANY = Wanted()


def is_prepared(data: Path) -> bool:
    """Whether a folder is what `prepare` made."""
    return (data / "documents").is_dir() and (data / "refused").is_dir()


def told(run: Path) -> Text:
    """How many were kept, and how many each rule refused."""
    import pyarrow.parquet

    kept = sum(pyarrow.parquet.read_metadata(file).num_rows for file in sorted((run / "documents").glob("*.parquet")))
    text = Text.assemble((f"{kept:,} kept", "bold green"))
    for rule, count in _rules(run).most_common():
        text.append(f"  {rule} ", style="dim")
        text.append(f"{count:,}", style="bold")
    return text


def kept(run: Path, wanted: Wanted, limit: int) -> list[Document]:
    """The first kept documents that are wanted."""
    found = (one for one in read(run, Document) if wanted.suits(one.source, one.language))
    return list(islice(found, limit))


def refused(run: Path, wanted: Wanted, limit: int) -> Iterator[Text | str]:
    """The first refused documents that are wanted, each with its reason.

    Raises:
        SettingsError: no rule of that name refused anything.
    """
    rules = _rules(run)
    if wanted.rule and wanted.rule not in rules:
        known = [KEPT, *rules]
        raise SettingsError(f"--rule {wanted.rule}: refused nothing in {run}: {nearest(wanted.rule, known)}")
    found = (
        row for row in _rows(run) if wanted.rule in ("", row["rule"]) and wanted.suits(row["source"], row["language"])
    )
    for row in islice(found, limit):
        known = {name: escape(value or "") for name, value in row.items()}
        yield f"[bold]{known['name'] or known['id']}[/bold] [bold red]{known['rule']}[/bold red] {known['reason']}"
        yield f"[dim]{known['id']}, {known['source']}, {known['licence'] or 'unknown'}, {known['language']}[/dim]"
        for name, words in (("duplicate_of", "stands for it"), ("leaks", "gives away")):
            if row[name]:
                yield f"[dim]{words}: {escape(row[name])}[/dim]"
        yield Text(row["text"][:SHOWN])


def show(run: Path, wanted: Wanted, limit: int) -> Iterator[Text | str | Document]:
    """What was kept and refused, by number; then the documents that are wanted: kept ones to be shown by whoever calls,
    refused ones with their reason.

    Raises:
        SettingsError: no such rule.
        RecordError: nothing suits.
    """
    yield told(run)
    documents = kept(run, wanted, limit) if wanted.rule in ("", KEPT) else []
    yield from documents
    refusals = [] if wanted.rule == KEPT else list(refused(run, wanted, limit))
    yield from refusals
    if not documents and not refusals:
        raise RecordError(
            f"{run}: no document of source {wanted.source or 'any'!r} and language {wanted.language or 'any'!r}"
        )


def _rules(run: Path) -> Counter[str]:
    import pyarrow.parquet

    found: Counter[str] = Counter()
    for file in sorted((run / "refused").glob("*.parquet")):
        found.update(pyarrow.parquet.read_table(file, columns=["rule"]).column("rule").to_pylist())
    return found


def _rows(run: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet

    for file in sorted((run / "refused").glob("*.parquet")):
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(1024):
            yield from batch.to_pylist()
