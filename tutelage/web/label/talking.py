"""Chat and compare: what the task page's script asks for beside what it asks for at every item."""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse, Response

from tutelage.web.label.judging import following
from tutelage.web.label.visit import SIGNED_IN, Route, Visit
from tutelage.web.talk_rules import MAX_TURN

_LONGEST = 128


async def ask(visit: Visit) -> Response:
    """Two answers to a turn. It comes back when both are there."""
    project = visit.text("project", longest=_LONGEST)
    text, idem = visit.text("text", longest=MAX_TURN), visit.text("idem", longest=_LONGEST)
    await visit.site.dialogues.ask(visit.account, project, text, idem)
    return JSONResponse(await following(visit, project), 201)


async def again(visit: Visit) -> Response:
    """Another answer in place of the one that was chosen, to be compared with it."""
    project = visit.text("project", longest=_LONGEST)
    await visit.site.dialogues.again(visit.account, project, visit.text("idem", longest=_LONGEST))
    return JSONResponse(await following(visit, project), 201)


async def end(visit: Visit) -> Response:
    """The end of a conversation, and what is next."""
    project = visit.text("project", longest=_LONGEST)
    await asyncio.to_thread(visit.site.dialogues.end, visit.account, project)
    return JSONResponse(await following(visit, project))


async def save(visit: Visit) -> Response:
    """Keeps the turn that is being written."""
    project, text = visit.text("project", longest=_LONGEST), visit.text("text", longest=MAX_TURN)
    await asyncio.to_thread(visit.site.dialogues.save, visit.account, project, text)
    return JSONResponse({"kept": True})


ROUTES = (
    Route("POST", "/chat/ask", SIGNED_IN, ask, takes="json", page=False),
    Route("POST", "/chat/again", SIGNED_IN, again, takes="json", page=False),
    Route("POST", "/chat/end", SIGNED_IN, end, takes="json", page=False),
    Route("POST", "/chat/draft", SIGNED_IN, save, takes="json", page=False),
)
