"""Answers from models: an owner gives prompts, and named models answer them into the project's line."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select
from starlette.responses import JSONResponse, Response

from tutelage.inference.language_model import Sampling
from tutelage.web import intake, schema
from tutelage.web.label.making import file_name, received, settings_of
from tutelage.web.label.rendering import page
from tutelage.web.label.visit import Route, Visit, may
from tutelage.web.refusal import Refusal
from tutelage.web.sampling import Job, Wanted

MAX_MODELS = 8


async def sample_page(visit: Visit) -> Response:
    def look(c: Connection) -> str:
        return c.scalar(select(schema.project.c.name).where(schema.project.c.id == visit.project)) or ""

    return page(
        visit, "sample", project=visit.project, project_name=await visit.site.read(look),
        models=await asyncio.to_thread(visit.site.models.names), job=_told(visit.site.samplings.job(visit.project)),
    )  # fmt: skip


async def begin(visit: Visit) -> Response:
    """Prompts from a file, which is sent as it is; who answers them, and how, stands in the query."""
    settings = await visit.site.read(lambda c: settings_of(c, visit.project))
    wanted = _wanted(visit)
    with tempfile.TemporaryDirectory() as folder:
        path = await received(visit, Path(folder))
        name = file_name(visit)

        def work() -> Job:
            prompts = list(intake.items(path, name, need=int(settings.get("overlap", 1))))
            return visit.site.samplings.start(visit.account, visit.project, prompts, wanted, origin=visit.origin)

        job = await visit.site.slowly(work)
    return JSONResponse(_told(job), 202)


async def progress(visit: Visit) -> Response:
    """How far it is."""
    return JSONResponse(_told(visit.site.samplings.job(visit.project)))


async def stop(visit: Visit) -> Response:
    visit.site.samplings.stop(visit.project)
    return JSONResponse(_told(visit.site.samplings.job(visit.project)))


def _told(job: Job | None) -> dict[str, Any]:
    if job is None:
        return {"state": "none"}
    return {
        "state": job.state, "total": job.total, "done": job.done, "added": job.added, "alike": job.alike,
        "message": job.message, "models": list(job.wanted.models),
    }  # fmt: skip


def _wanted(visit: Visit) -> Wanted:
    query = visit.request.query_params
    models = tuple(query.getlist("models"))
    if not 1 <= len(models) <= MAX_MODELS:
        raise Refusal("bad_input", f"models: name 1 to {MAX_MODELS}")
    sampling = Sampling(
        temperature=_number(visit, "temperature", 1.0, 0, 5), top_p=_number(visit, "top_p", 1.0, 0.01, 1),
        max_new_tokens=int(_number(visit, "max_new_tokens", 256, 1, 4096)),
        seed=int(_number(visit, "seed", 1, 0, 2**31 - 1)),
    )  # fmt: skip
    return Wanted(models=models, answers=int(_number(visit, "answers", 1, 1, 26)), sampling=sampling)


def _number(visit: Visit, name: str, default: float, low: float, high: float) -> float:
    text = visit.request.query_params.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise Refusal("bad_input", f"{name}: a number from {low:.10g} to {high:.10g}")
    return value


ROUTES = (
    Route("GET", "/p/{project}/sample", may("manage_project"), sample_page),
    Route("POST", "/p/{project}/sample", may("manage_project"), begin, takes="file", page=False),
    Route("GET", "/p/{project}/sample/progress", may("manage_project"), progress, page=False),
    Route("POST", "/p/{project}/sample/stop", may("manage_project"), stop, takes="json", page=False),
)
