"""What `trace` found, as trees for the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from tutelage.sentences import counted

MARKS = {"same": "[green]matches[/green]", "moved": "[green]matches, elsewhere now[/green]",
         "set aside": "[yellow]the older one of this hash, set aside[/yellow]",
         "changed since": "[red]changed since[/red]", "not here": "[red]not here[/red]"}  # fmt: skip


def tree(found: dict[str, Any]) -> Group:
    """For `rich`: the ancestry first, then what came of it."""
    return {"run": _run, "answer": _answer, "record": _record, "document": _document}[found["what"]](found)


def _run(found: dict[str, Any]) -> Group:
    parts: list[Tree | Text] = [_ancestry(found["ancestry"])]
    if found["made_from_it"]:
        parts.append(_readers("made from it", found["made_from_it"]))
    return Group(*parts)


def _answer(found: dict[str, Any]) -> Group:
    said = Tree(f"[bold]answer {found['id']}[/bold] [dim]{escape(found['file'])}[/dim]")
    said.add(f"[cyan]asked[/cyan] {escape(found['prompt'])}")
    said.add(f"[cyan]answered[/cyan] {escape(found['response'])}")
    files = Tree("[bold]the records that its model was made from[/bold]")
    for file, count in found["learned_from"].items():
        files.add(f"{count:,} in {escape(file)}")
    near = Tree("[bold]nearest by shared words[/bold] [dim]what a model learned from which record is not known[/dim]")
    for item in found["nearest_by_shared_words"]:
        branch = near.add(f"{item['share']:.0%} {item['id']} [dim]{escape(item['file'])}[/dim]\n{escape(item['text'])}")
        branch.add(f"[dim]shared: {escape(', '.join(item['words']))}[/dim]")
        for document in item["documents"]:
            branch.add(_one_document(document))
    return Group(said, _ancestry(found["ancestry"]), files, near)


def _record(found: dict[str, Any]) -> Group:
    record = found["record"]
    about = ", ".join(f"{key} {record[key]}" for key in ("task", "judge", "rater", "split") if record.get(key))
    head = Tree(f"[bold]{found['kind']} {found['id']}[/bold] {escape(about)}")
    for message in record.get("messages") or record.get("prompt") or ():
        head.add(f"[cyan]{message['role']}[/cyan] {escape(message['content'])}")
    ranks = record.get("ranks") or ()
    for place, response in enumerate(record.get("responses") or ([record["response"]] if "response" in record else ())):
        head.add(f"[cyan]response{f', rank {ranks[place]}' if ranks else ''}[/cyan] {escape(response)}")
    documents = Tree("[bold]made from[/bold]" if found["documents"] else "[dim]it names no document[/dim]")
    for document in found["documents"]:
        documents.add(_one_document(document))
    answers = Tree(f"[bold]answers to it in evaluations: {len(found['answers'])}[/bold]")
    for answer in found["answers"]:
        answers.add(f"[cyan]{escape(answer['model'])}[/cyan] {escape(answer['response'])}")
    readers = (_readers(place["file"], place["seen_by"]) for place in found["stands_in"])
    return Group(head, documents, *readers, *([answers] if found["answers"] else []))


def _document(found: dict[str, Any]) -> Group:
    parts: list[Tree] = []
    for place in found["stands_in"]:
        head = Tree(f"[bold]document {found['id']}[/bold] in {escape(place['run'])}")
        head.add(_one_document(place))
        if "text" in place:
            head.add(escape(place["text"]))
            head.add(_readers("seen by", place["seen_by"]))
        parts.append(head)
    made = Tree(f"[bold]{counted(len(found['records_made_from_it']), 'record')} made from it[/bold]")
    for record in found["records_made_from_it"]:
        made.add(f"{record['kind']} {record['id']} {escape(record['task'])} [dim]{escape(record['file'])}[/dim]")
    return Group(*parts, made)


def _ancestry(node: dict[str, Any]) -> Tree:
    branch = Tree(_node_line(node))
    if node.get("again"):
        branch.add("[dim]as above[/dim]")
    for line in _contents(node):
        branch.add(line)
    for parent in node.get("parents", ()):
        branch.add(_ancestry(parent))
    return branch


def _node_line(node: dict[str, Any]) -> str:
    field = f"[cyan]{escape(node['as'])}[/cyan] " if node.get("as") else ""
    stage = f"{escape(node['stage'])} " if node.get("stage") else ""
    short = f" [dim]{node['hash'][:12]}[/dim]" if node.get("hash") else ""
    mark = f" {MARKS[node['state']]}" if node.get("state") else ""
    return f"{field}{stage}[bold]{escape(str(node['path']))}[/bold]{short}{mark}"


def _contents(node: dict[str, Any]) -> list[str]:
    lines = [f"{count:,} in {escape(file)}" for file, count in node.get("records", {}).items()]
    if "documents" in node:
        splits = ", ".join(f"{count:,} {split.replace('_', ' ')}" for split, count in node["documents"].items())
        lines.append(f"documents: {splits}; refused: {node.get('refused', 0):,}")
        lines.append("licences: " + ", ".join(f"{escape(name)} {n:,}" for name, n in node["licences"].items()))
        named = ", ".join(
            f"{escape(s['source'])} ({escape(s['licence'])}) {s['documents']:,}" for s in node["largest_sources"]
        )
        more = node["sources"] - len(node["largest_sources"])
        lines.append(f"sources: {named}{f', and {more:,} more' if more > 0 else ''}")
    return lines


def _readers(title: str, readers: list[dict[str, Any]]) -> Tree:
    branch = Tree(f"[bold]{escape(title)}[/bold]")
    for reader in readers:
        through = f" through {escape(reader['through'])}" if reader.get("through") else ""
        how = f"{reader['how']}: " if reader.get("how") else ""
        branch.add(f"{how}{escape(reader['stage'])} [bold]{escape(reader['path'])}[/bold] "
                   f"as {escape(reader['as'])}{through} [dim]{reader['hash'][:12]}[/dim]")  # fmt: skip
    if not readers:
        branch.add("[dim]no run that is here[/dim]")
    return branch


def _one_document(document: dict[str, Any]) -> str:
    name = f"[bold]{escape(document['name'])}[/bold] " if document.get("name") else ""
    identity = f"{document['id']} " if "id" in document else ""
    rest = ", ".join(f"{k} {escape(str(document[k]))}" for k in ("source", "licence", "split") if document.get(k))
    why = ": ".join(str(document[k]) for k in ("rule", "reason") if document.get(k))
    return f"{identity}{name}{document['state']}{': ' + escape(why) if why else ''}{' · ' + rest if rest else ''}"
