"""Making a project: its questions and guideline, and the files that fill its lines and its quiz."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from sqlalchemy import Connection, func, select
from starlette.responses import JSONResponse, RedirectResponse, Response

from tutelage.web import choosing, intake, schema
from tutelage.web.answers import Kind, Question, clean
from tutelage.web.label.presets import PRESETS
from tutelage.web.label.rendering import page, rendered
from tutelage.web.label.visit import MAKER, Route, Visit, may
from tutelage.web.label.words import script_words
from tutelage.web.projects import NewProject
from tutelage.web.refusal import Refusal
from tutelage.web.talk_rules import KIND, rules_of

MAX_FILE = 256 * 1024 * 1024
"""Bytes of a file of items, at most."""
MAX_PREVIEW = 200_000


async def new_page(visit: Visit) -> Response:
    presets = [preset.shown(visit.language) for preset in PRESETS]
    models = await asyncio.to_thread(visit.site.models.names)
    return page(visit, "new_project", presets=presets, words=script_words(visit.language), models=models)


async def make(visit: Visit) -> Response:
    """A project that rests until its owner opens it."""
    new = await asyncio.to_thread(_new_project, visit)
    project = await asyncio.to_thread(visit.site.projects.make, visit.account, new, origin=visit.origin)
    await asyncio.to_thread(visit.site.projects.set_state, visit.account, project, "paused", origin=visit.origin)
    return JSONResponse({"project": project}, 201)


async def add_items(visit: Visit) -> Response:
    """Items from a file, which is sent as it is: all of them, or as many as are asked for, by what each is worth."""
    ask = _ask(visit)
    settings = await visit.site.read(lambda c: settings_of(c, visit.project))
    need = int(settings.get("overlap", 1))
    with tempfile.TemporaryDirectory() as folder:
        path = await received(visit, Path(folder))
        name = file_name(visit)

        def work() -> int:
            found = intake.items(path, name, need=need)
            projects, by, project = visit.site.projects, visit.account, visit.project
            if ask is None:
                return len(projects.add_items(by, project, found, origin=visit.origin))
            return len(choosing.by_worth(projects, by, project, list(found), ask, origin=visit.origin))

        count = await visit.site.slowly(work)
    return JSONResponse({"items": count}, 201)


async def fill_quiz(visit: Visit) -> Response:
    """The quiz from a file whose rows have known answers."""
    with tempfile.TemporaryDirectory() as folder:
        path = await received(visit, Path(folder))
        name = file_name(visit)

        def work() -> int:
            found = list(intake.items(path, name, need=1))
            return visit.site.quiz.fill(visit.account, visit.project, found, origin=visit.origin)

        count = await visit.site.slowly(work)
    return JSONResponse({"items": count}, 201)


async def set_state(visit: Visit) -> Response:
    state = visit.form.get("state", "")
    if state not in ("open", "paused", "closed"):
        raise Refusal("bad_input", "state: open, paused or closed")
    await asyncio.to_thread(visit.site.projects.set_state, visit.account, visit.project, state, origin=visit.origin)
    return RedirectResponse(f"/p/{visit.project}/board", 303)


async def editor_page(visit: Visit) -> Response:
    """The guideline with its versions, and how many answers were given under each."""

    def look(c: Connection) -> dict[str, Any]:
        guide, judgment = schema.guideline, schema.judgment
        row = c.execute(select(schema.project).where(schema.project.c.id == visit.project)).one()
        given = (
            select(judgment.c.guideline, func.count())
            .where(judgment.c.project == visit.project, judgment.c.kind.in_(("answer", "correction")))
            .group_by(judgment.c.guideline)
        )
        counts: dict[int, int] = {row[0]: row[1] for row in c.execute(given)}
        versions = c.execute(
            select(guide).where(guide.c.project == visit.project).order_by(guide.c.version.desc())
        ).all()  # fmt: skip
        quiz = select(func.count()).select_from(schema.quiz).where(schema.quiz.c.project == visit.project)
        return {
            "project_name": row.name, "versions": versions, "counts": counts, "newest": versions[0],
            "quiz": c.scalar(quiz) or 0,
        }  # fmt: skip

    return page(visit, "editor", project=visit.project, **await visit.site.read(look))


async def publish(visit: Visit) -> Response:
    text = visit.form.get("text", "").replace("\r\n", "\n")
    major = visit.form.get("major") == "yes"
    await asyncio.to_thread(
        visit.site.projects.publish, visit.account, visit.project, text, major=major, origin=visit.origin
    )  # fmt: skip
    return RedirectResponse(f"/p/{visit.project}/editor", 303)


async def render(visit: Visit) -> Response:
    """How a text will look; for the owner who writes a guideline."""
    return JSONResponse({"html": await asyncio.to_thread(rendered, visit.text("text", longest=MAX_PREVIEW))})


def _ask(visit: Visit) -> int | None:
    """How many of a file's items are to be asked about; None for all."""
    given = visit.request.query_params.get("ask", "")
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and int(given[:8]) > 0):
        raise Refusal("bad_input", f"ask {given[:20]!r}: how many of the items, as a number from 1")
    return int(given[:8])


async def received(visit: Visit, folder: Path) -> Path:
    """The body, on the disk."""
    path, size = folder / "received", 0
    with path.open("wb") as file:
        async for piece in visit.request.stream():
            size += len(piece)
            if size > MAX_FILE:
                raise Refusal("too_large", f"a file of at most {MAX_FILE // 1024**2} MiB: cut it in parts")
            await asyncio.to_thread(file.write, piece)
    if size == 0:
        raise Refusal("bad_input", "the file is empty")
    return path


def file_name(visit: Visit) -> str:
    """The file's name as the user has it, for its ending and for what is said of it."""
    return clean(visit.request.query_params.get("name", "items.jsonl"), 200, "name").replace("/", "_")


def settings_of(c: Connection, project: str) -> dict[str, Any]:
    return json.loads(c.scalar(select(schema.project.c.settings).where(schema.project.c.id == project)) or "{}")


def _new_project(visit: Visit) -> NewProject:
    """A project as the page sends it, checked.

    Raises:
        Refusal: "bad_input".
    """
    body = visit.body
    given = body.get("questions")
    if not isinstance(given, list) or not 1 <= len(cast(list[Any], given)) <= 20:
        raise Refusal("bad_input", "questions: 1 to 20")
    rows = [_row(row, place) for place, row in enumerate(cast(list[Any], given), start=1)]
    labels = {row["key"]: clean(row["label"], 200, "label") for row in rows if row["label"]}
    cap = visit.number("daily_cap", 0, 0, 100_000)
    rules = body.get("conflict_rules", [])
    if not isinstance(rules, list) or not all(isinstance(rule, str) for rule in cast(list[Any], rules)):
        raise Refusal("bad_input", "conflict_rules: a list of texts")
    name = visit.text("name", longest=200).strip()
    if not name:
        raise Refusal("bad_input", "name: give the project one")
    kind, questions = visit.text("kind", "own", 40), tuple(_question(row) for row in rows)
    return NewProject(
        name=name, kind=kind, guideline=visit.text(
            "guideline", longest=200_000
        ),
        questions=questions,
        lease_seconds=visit.number("lease_minutes", 10, 1, 24 * 60) * 60, daily_cap=cap or None,
        gold_share=_share(body, "gold_share", 0.05),
        conflict_rules=tuple(clean(rule, 200, "rule") for rule in cast(list[str], rules)[:20]),
        settings={
            "labels": labels, "overlap": visit.number("overlap", 1, 1, 100),
            "pass_share": _share(body, "pass_share", 0.8), "currency": visit.text("currency", "EUR", 8),
            "per_answer": _amount(body, "per_answer"), **(_chat(visit, questions) if kind == KIND else {}),
        },
    )  # fmt: skip


def _chat(visit: Visit, questions: Sequence[Question]) -> dict[str, Any]:
    """How the conversations of a project go."""
    given = visit.body.get(KIND)
    if not isinstance(given, dict):
        raise Refusal("bad_input", "chat: who answers, and how many turns there are")
    return {KIND: rules_of(cast(dict[str, Any], given), questions, visit.site.models)}


def _row(row: Any, place: int) -> dict[str, Any]:
    """A question as it was sent, with all that it may have."""
    where = f"question {place}"
    if not isinstance(row, dict):
        raise Refusal("bad_input", f"{where}: an object")
    values = cast(dict[str, Any], row)
    found = {name: values.get(name, default) for name, default in _QUESTION.items()}
    for name, default in _QUESTION.items():
        if type(found[name]) is not type(default):
            raise Refusal("bad_input", f"{where}: {name}: {type(default).__name__} is wanted")
    if found["kind"] not in get_args(Kind):
        raise Refusal("bad_input", f"{where}: kind: one of {', '.join(get_args(Kind))}")
    return found


def _question(row: Mapping[str, Any]) -> Question:
    return Question(
        key=row["key"], kind=row["kind"], dimension=row["dimension"], low=row["low"], high=row["high"],
        per_response=row["per_response"], required=row["required"],
    )  # fmt: skip


_QUESTION: dict[str, Any] = {
    "key": "", "label": "", "kind": "", "dimension": "overall", "low": 1, "high": 5, "per_response": False,
    "required": True,
}  # fmt: skip


def _share(body: Mapping[str, Any], name: str, default: float) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise Refusal("bad_input", f"{name}: a share from 0 to 1")
    return float(value)


def _amount(body: Mapping[str, Any], name: str) -> float:
    value = body.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e6:
        raise Refusal("bad_input", f"{name}: an amount of money")
    return float(value)


ROUTES = (
    Route("GET", "/projects/new", MAKER, new_page),
    Route("POST", "/projects", MAKER, make, takes="json", page=False),
    Route("POST", "/p/{project}/items", may("manage_project"), add_items, takes="file", page=False),
    Route("POST", "/p/{project}/quiz/file", may("manage_project"), fill_quiz, takes="file", page=False),
    Route("POST", "/p/{project}/state", may("manage_project"), set_state, takes="form"),
    Route("GET", "/p/{project}/editor", may("manage_project"), editor_page),
    Route("POST", "/p/{project}/editor", may("manage_project"), publish, takes="form"),
    Route("POST", "/p/{project}/render", may("manage_project"), render, takes="json", page=False),
)
