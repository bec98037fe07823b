"""`trace`: from an answer or a checkpoint to the records and documents it was made from, and back from a document.

Which run was made from which is known by content hash, and which record was made from which document by id. Which
training record made a model give an answer nobody knows: those that share the most words with it are called just that.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tutelage.ancestry import Archive, Known, document_tables, record_files
from tutelage.errors import RecordError
from tutelage.records import json_lines

SHORTEST = 6
"""Characters that an abbreviated id has at least."""
NEAREST = 5
HEAD = "chatcmpl-"
WORD = re.compile(r"[㐀-鿿]|\w+")


def trace(anything: str, runs: Path = Path("runs")) -> dict[str, Any]:
    """Where something comes from and what came of it, for JSON.

    anything: a run, model folder or file; or the id of an answer, a record or a document, or its beginning.

    Raises:
        RecordError: nothing is called so, or several things are.
    """
    archive = Archive(runs)
    path = Path(anything)
    if path.exists():
        return _run(path, archive)
    if len(anything.removeprefix(HEAD)) < SHORTEST:
        raise RecordError(f"{anything}: no such path, and too short for an id: give {SHORTEST} characters at least")
    found = [*_answers(anything, runs), *_records(anything, archive), *_documents(anything, archive)]
    ids = sorted({item["id"] for item in found})
    if not ids:
        raise RecordError(f"{anything}: no path, and no answer, record or document under {runs} has an id like that")
    if len(ids) > 1:
        raise RecordError(f"{anything}: stands for {len(ids)} ids: {', '.join(ids[:4])}: give more of it")
    first = found[0]
    if first["what"] == "answer":
        return _of_answer(first, archive)
    if first["what"] == "record":
        return _of_record([item for item in found if item["what"] == "record"], archive)
    return _of_document([item for item in found if item["what"] == "document"], archive)


def _run(path: Path, archive: Archive) -> dict[str, Any]:
    node = archive.ancestry(path)
    run = archive.of_hash(str(node["hash"]))
    return {"what": "run", "ancestry": node, "made_from_it": archive.descendants(run) if run else []}


def _matches(value: object, prefix: str) -> bool:
    return isinstance(value, str) and (value.startswith(prefix) or value.startswith(HEAD + prefix))


def _lines(file: Path, prefix: str) -> Iterator[dict[str, Any]]:
    """The lines whose id begins so. Most are passed over without being parsed."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if prefix in line:
                try:
                    value = json.loads(line)
                except json.JSONDecodeError:
                    continue  # the last line of a log, while it is written
                if isinstance(value, dict) and _matches(value.get("id"), prefix):
                    yield value


def _answers(prefix: str, runs: Path) -> Iterator[dict[str, Any]]:
    for file in sorted(runs.rglob("answers.jsonl")):
        for value in _lines(file, prefix):
            yield {"what": "answer", "id": value["id"], "file": str(file), "value": value}


def _records(prefix: str, archive: Archive) -> Iterator[dict[str, Any]]:
    for run in archive.runs:
        for file in record_files(run.path):
            for value in _lines(file, prefix):
                yield {"what": "record", "id": value["id"], "file": str(file), "run": run, "value": value}


def _documents(prefix: str, archive: Archive) -> Iterator[dict[str, Any]]:
    import pyarrow.compute
    import pyarrow.parquet

    for run in archive.runs:
        for state, tables in (("kept", document_tables(run.path)), ("refused", _refused(run.path))):
            for table in tables:
                rows = pyarrow.parquet.read_table(table)
                begins = pyarrow.compute.starts_with(rows["id"], prefix)  # pyright: ignore[reportAttributeAccessIssue]
                for value in rows.filter(begins).to_pylist():
                    yield {"what": "document", "id": value["id"], "state": state, "run": run, "value": value}


def _refused(path: Path) -> list[Path]:
    return sorted((path / "refused").glob("*.parquet"))


def _of_answer(found: dict[str, Any], archive: Archive) -> dict[str, Any]:
    value = found["value"]
    run = archive.of_hash(str(value.get("model_hash", "")))
    traced: dict[str, Any] = {"what": "answer", "id": found["id"], "file": found["file"]}
    traced |= {"prompt": _text(value.get("prompt")), "response": str(value.get("response", ""))}
    traced["ancestry"] = (
        archive.ancestry(run.path)
        if run
        else {"path": value.get("model"), "stage": None, "hash": value.get("model_hash") or None, "state": "not here"}
    )
    holders = _holders(traced["ancestry"], archive)
    files = [f for holder in holders for f in record_files(holder.path) if f.name != "held_out.jsonl"]
    traced["learned_from"] = {str(file): sum(1 for _ in json_lines(file)) for file in files}
    traced["nearest_by_shared_words"] = _nearest(f"{traced['prompt']} {traced['response']}", files)
    known = _describe({i for item in traced["nearest_by_shared_words"] for i in item["documents"]}, holders)
    for item in traced["nearest_by_shared_words"]:
        item["documents"] = [known.get(i, {"id": i, "state": "not here"}) for i in item["documents"]]
    return traced


def _of_record(found: list[dict[str, Any]], archive: Archive) -> dict[str, Any]:
    value = found[0]["value"]
    traced: dict[str, Any] = {"what": "record", "kind": _kind(value), "id": found[0]["id"], "record": value}
    traced["stands_in"] = [
        {"file": item["file"], "seen_by": _readers(item["run"], Path(item["file"]).name == "held_out.jsonl", archive)}
        for item in found
    ]
    holders = [h for item in found for h in _holders(archive.ancestry(item["run"].path), archive)]
    known = _describe(set(value.get("documents", ())), holders)
    traced["documents"] = [known.get(i, {"id": i, "state": "not here"}) for i in value.get("documents", ())]
    traced["answers"] = [
        {"model": row["model"], "response": row["response"], "file": str(run.path / "answers.jsonl")}
        for run in archive.runs
        if (run.path / "answers.jsonl").exists()
        for _, row in json_lines(run.path / "answers.jsonl")
        if row.get("prompt") == found[0]["id"]
    ]
    return traced


def _of_document(found: list[dict[str, Any]], archive: Archive) -> dict[str, Any]:
    identity = found[0]["id"]
    traced: dict[str, Any] = {"what": "document", "id": identity, "stands_in": []}
    for item in found:
        run: Known = item["run"]
        place = {"run": str(run.path), **_about(item["value"], item["state"])}
        if item["state"] == "kept":
            place["text"] = _short(item["value"]["text"], 200)
            place["seen_by"] = _readers(run, item["value"].get("split") == "held_out", archive)
        traced["stands_in"].append(place)
    traced["records_made_from_it"] = [
        {"id": value["id"], "kind": _kind(value), "task": value.get("task", ""), "file": str(file)}
        for run in archive.runs
        for file in record_files(run.path)
        for value in _mentioning(file, identity)
    ]
    return traced


def _mentioning(file: Path, identity: str) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if identity in line:
                value = json.loads(line)
                if identity in value.get("documents", ()):
                    yield value


def _readers(run: Known, held_out: bool, archive: Archive) -> list[dict[str, Any]]:
    """The runs that saw it. What is held out is only measured on."""
    how = "measured on" if held_out else "made from"
    return [{**reader, "how": how} for reader in archive.descendants(run)]


def _holders(node: dict[str, Any], archive: Archive) -> list[Known]:
    """The runs in an ancestry that are here, each once."""
    found: dict[Path, Known] = {}

    def walk(node: dict[str, Any]) -> None:
        run = archive.of_hash(str(node.get("hash")))
        if run and node.get("stage"):
            found.setdefault(run.path, run)
        for parent in node.get("parents", ()):
            walk(parent)

    walk(node)
    return list(found.values())


def _describe(ids: set[str], holders: list[Known]) -> dict[str, dict[str, Any]]:
    """What the runs know of these documents."""
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    found: dict[str, dict[str, Any]] = {}
    for run in holders:
        for table in document_tables(run.path):
            rows = pyarrow.parquet.read_table(table, columns=["id", "source", "licence", "split", "metadata"])
            wanted = pyarrow.compute.is_in(rows["id"], pyarrow.array(sorted(ids), pyarrow.string()))  # pyright: ignore
            for value in rows.filter(wanted).to_pylist():
                found.setdefault(value["id"], {"id": value["id"], "run": str(run.path), **_about(value, "kept")})
    return found


def _about(value: dict[str, Any], state: str) -> dict[str, Any]:
    metadata = json.loads(value.get("metadata") or "{}")
    about = {"state": state} | {
        key: value[key] for key in ("source", "licence", "split", "reason", "rule") if value.get(key) is not None
    }
    return about | ({"name": metadata["name"]} if metadata.get("name") else {})


def _nearest(text: str, files: list[Path]) -> list[dict[str, Any]]:
    """The training records that share the most words with a text, rare words counting more.

    The score is the share of the text's words that the record has, each weighted by log(1 + N / n), where n of the N
    records have it.
    """
    records = [(file, value) for file in files for _, value in json_lines(file)]
    bags = [_words(_text(value)) for _, value in records]
    having = Counter(word for bag in bags for word in bag)
    weights = {word: math.log(1 + len(records) / having[word]) for word in _words(text) if having[word]}
    total = sum(weights.values())
    scored = [(sum(weights[word] for word in bag & weights.keys()), place) for place, bag in enumerate(bags)]
    best = sorted(scored, key=lambda item: (-item[0], item[1]))[:NEAREST]
    return [
        {
            "id": value.get("id", ""),
            "file": str(file),
            "share": round(score / total, 3),
            "words": sorted(bags[place] & weights.keys(), key=lambda word: (-weights[word], word))[:8],
            "text": _short(_text(value), 200),
            "documents": list(value.get("documents", ())),
        }
        for score, place in best
        if score > 0
        for file, value in (records[place],)
    ]


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.lower()))


def _text(value: Any) -> str:
    """All that is said in a record or a prompt."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return " ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return " ".join(
            _text(value[k]) for k in ("messages", "prompt", "content", "responses", "response") if k in value
        )
    return ""


def _kind(value: dict[str, Any]) -> str:
    for field, kind in (("messages", "conversation"), ("ranks", "comparison"), ("good", "verdict"), ("axis", "rating")):
        if field in value:
            return kind
    return "record"


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
