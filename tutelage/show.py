"""`show`: what a trainer will see, token by token: which are trained, which are not, and where the template stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.text import Text

from tutelage import browse
from tutelage.browse import ANY, Wanted
from tutelage.errors import RecordError, SettingsError
from tutelage.instruction import formats
from tutelage.records import Comparison, Conversation, Document, Message, Verdict, read
from tutelage.sentences import counted

if TYPE_CHECKING:
    from tutelage.model.chat import Chat

TRAINED = "bold green"
READ = "default"
MARK = "reverse dim"
TRAINED_MARK = "reverse bold green"
NAMES = ("conversations.jsonl", "comparisons.jsonl", "verdicts.jsonl")
OPEN, CLOSE = "⟦", "⟧"
BROKEN = "�"
"""What a token shows that is only part of a character."""


def show(
    data: Path, model: str | None = None, limit: int = 3, brackets: bool = False, wanted: Wanted = ANY
) -> Iterator[Text | str]:
    """The first records of a file or a run, for `rich`.

    data: conversations, comparisons or verdicts in JSONL, documents, or a run that holds some. model: whose tokenizer
    and template; by default the ones of the course that the data are of, and where that has none, only text is shown.
    brackets: puts what is trained in brackets too, where there are no colours. wanted: which documents of a run of
    prepare; it may also ask for refused ones.

    Raises:
        RecordError: there are no records, or a line is wrong.
        ModelError: the model has no tokenizer or template.
    """
    if limit < 1:
        raise SettingsError(f"--limit {limit}: show at least 1")
    file = _find(data)
    if wanted and not browse.is_prepared(file):
        raise SettingsError(f"{data}: no run of prepare: --rule, --source and --language choose among its documents")
    where = model or _course_tokenizer(file)
    chat = _load(where) if where else None
    dropped: Counter[str] = Counter()
    found: Iterable[Any]
    if browse.is_prepared(file):
        found = browse.show(file, wanted if wanted else Wanted(rule=browse.KEPT), limit)
    else:
        found = _first(file, limit, dropped)
    yield f"[dim]{escape(str(file))}{f', tokens of {escape(str(where))}' if where else ''}[/dim]"
    if chat:
        legend = Text.assemble(("trained", TRAINED), " ", ("only read", READ), " ", ("mark of the template", MARK), " ",
                            ("trained mark", TRAINED_MARK), " ", "· between tokens")  # fmt: skip
        yield _bracketed(legend) if brackets else legend
    else:
        yield "[yellow]no tokenizer beside it: give --model RUN to see tokens[/yellow]"
    for reason, count in dropped.most_common():
        yield f"[yellow]{counted(count, 'row')}: {escape(reason)}[/yellow]"
    for record in found:
        if isinstance(record, Text | str):
            yield record
            continue
        yield ""
        for part in _record(record, chat):
            yield _bracketed(part) if brackets and isinstance(part, Text) else part


def _first(file: Path, limit: int, dropped: Counter[str]) -> list[Any]:
    """The first records, as the trainers read them."""
    if file.is_dir() or file.suffix == ".parquet":
        return list(islice(read(file, Document), limit))
    where, row = next(formats.rows(file))
    if not isinstance(row, dict):
        raise RecordError(f"{where}: found {row!r}: a row is a JSON object")
    if "text" in row and "source" in row:
        return list(islice(read(file, Document), limit))
    if row.keys() & {"ranks", "ranking", "chosen", "chosen_messages"}:
        return formats.comparisons(file, 1, dropped)[:limit]
    if row.keys() & {"good", "label", "kto_tag"}:
        return formats.verdicts(file, 1, dropped)[:limit]
    return formats.conversations(file, 1, dropped)[:limit]


def _find(data: Path) -> Path:
    if not data.is_dir():
        return data
    for name in NAMES:
        if (data / name).exists():
            return data / name
    if (data / "documents").is_dir() or any(data.glob("*.parquet")):
        return data
    raise RecordError(f"{data}: holds no records: give a run of prepare, instruct or collect, or a .jsonl file")


def _course_tokenizer(file: Path) -> Path | None:
    """The tokenizer of the course in whose folder the data lie."""
    for folder in list(file.absolute().parents)[:3]:
        for name in ("sft", "pretrain", "tokenizer"):
            if (folder / name / "done").exists() and (folder / name / "tokenizer.json").exists():
                return folder / name
    return None


def _load(where: str | Path) -> Chat:
    from tutelage.model.chat import Chat

    return Chat.load(where)


def _record(record: Document | Conversation | Comparison | Verdict, chat: Chat | None) -> Iterator[Text | str]:
    about = [record.split]
    if not isinstance(record, Document):
        about = [record.task, f"judged by a {record.judge}", record.rater, record.split]
    head = ", ".join(part for part in about if part)
    yield f"[bold]{type(record).__name__.lower()} {escape(record.id)}[/bold] [dim]{escape(head)}[/dim]"
    match record:
        case Document():
            yield f"[dim]{escape(record.source)}, {escape(record.licence)}, {escape(record.language)}[/dim]"
            yield _pieces(chat, chat.text(record.text), None) if chat else Text(record.text)
        case Conversation():
            yield from _conversation(record.messages, chat)
        case Comparison():
            for place in sorted(range(len(record.responses)), key=lambda place: record.ranks[place]):
                yield f"[bold]rank {record.ranks[place]}[/bold]"
                yield from _conversation(_answered(record.prompt, record.responses[place]), chat)
        case Verdict():
            yield "[bold]good[/bold]" if record.good else "[bold]bad[/bold]"
            yield from _conversation(_answered(record.prompt, record.response), chat)


def _answered(prompt: Sequence[Message], response: str) -> tuple[Message, ...]:
    return (*prompt, Message(role="assistant", content=response))


def _conversation(messages: Sequence[Message], chat: Chat | None) -> Iterator[Text]:
    if chat is None:
        for message in messages:
            style = TRAINED if message.role == "assistant" else READ
            yield Text.assemble((f"{message.role}: ", "cyan"), (message.content, style))
        return
    encoded = chat.encode(messages)
    yield _pieces(chat, encoded.ids, encoded.trained)
    learned = sum(encoded.trained)
    yield Text(f"{counted(len(encoded.ids), 'token')}, {learned:,} trained", style="dim")


def _pieces(chat: Chat, ids: Sequence[int], trained: Sequence[bool] | None) -> Text:
    """The tokens, each in the colour of what happens to it."""
    marks = set(chat.tokenizer.all_special_ids) | {
        i for i, t in chat.tokenizer.added_tokens_decoder.items() if t.special
    }
    text = Text()
    for begin, end in _whole_characters(chat, ids, trained):
        learned = trained is None or trained[begin]
        if ids[begin] in marks:
            style = TRAINED_MARK if learned and trained is not None else MARK
        else:
            style = TRAINED if learned else READ
        text.append("".join(_visible(chat, ids[begin:end])), style=style)
        text.append("·", style="dim")
    return text


def _bracketed(text: Text) -> Text:
    """The same without colours: each trained stretch in brackets of its own."""
    learned = [False] * len(text.plain)
    for span in text.spans:
        if str(span.style) in (TRAINED, TRAINED_MARK):
            learned[span.start : span.end] = [True] * (span.end - span.start)
    shown = ""
    inside = False
    for place, character in enumerate(text.plain):
        between = character == "·" and any(s.start == place and str(s.style) == "dim" for s in text.spans)
        if not between and learned[place] != inside:
            shown += CLOSE if inside else OPEN
            inside = learned[place]
        shown += character
    return Text(shown + (CLOSE if inside else ""))


def _visible(chat: Chat, ids: Sequence[int]) -> str:
    if len(ids) == 1:
        return chat.decode_each(ids)[0]
    return chat.decode(ids)


def _whole_characters(chat: Chat, ids: Sequence[int], trained: Sequence[bool] | None) -> Iterator[tuple[int, int]]:
    """Spans of one token, or of the few that make a character together."""
    begin = 0
    while begin < len(ids):
        end = begin + 1
        while (
            BROKEN in _visible(chat, ids[begin:end])
            and end < len(ids)
            and end - begin < 8
            and (trained is None or trained[end] == trained[begin])
        ):
            end += 1
        if BROKEN in _visible(chat, ids[begin:end]):
            end = begin + 1  # the text itself is broken there
        yield begin, end
        begin = end
