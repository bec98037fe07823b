"""The server: an OpenAI-compatible API and a chat page, for one model.

Nothing is asked of the outside, nothing is told to it. A request is checked whole, then waits at the `Desk`; every
answer is in the log before it ends, so that feedback finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from tutelage.errors import SettingsError, TutelageError
from tutelage.inference.language_model import LanguageModel, Reply, Sampling
from tutelage.records import Message
from tutelage.web import chat, protocol
from tutelage.web.completions import FEEDBACKS, AnswersLog, Pair, Score, Thumb, keep_feedback, new_id
from tutelage.web.desk import Desk, FullError, Question, Streamed, choice_id
from tutelage.web.guard import Guard
from tutelage.web.protocol import ApiError

MAX_BODY = 1024 * 1024
"""Bytes of a request's body, at most."""

Reward = Callable[[Sequence[Message], str], float]

T = TypeVar("T")


def application(
    model: LanguageModel,
    answers: Path | None,
    reward: Reward | None = None,
    *,
    model_hash: str = "",
    sampling: Sampling | None = None,
    hosts: Sequence[str] | None = None,
    room: int = 32,
) -> FastAPI:
    """The app that serves a model.

    Args:
        model: used by one thread alone.
        answers: where answers are kept; feedback is kept beside them. None keeps neither.
        reward: marks an answer to a prompt, for ``POST /v1/score``.
        model_hash: the content hash of the model's folder, kept with each answer.
        sampling: how an answer is drawn where a request leaves it open.
        hosts: the names under which the server may be called (``Host``), so that a web page elsewhere cannot reach
            it by a name of its own; None allows all.
        room: how many may wait; the next is told 429 and when to come again.
    """
    service = _Service(model, AnswersLog(answers, model.name, model_hash), reward, sampling or Sampling(), room)
    app = FastAPI(title="tutelage", docs_url=None, redoc_url=None, openapi_url=None, lifespan=service.lifespan)
    app.add_middleware(Guard, hosts=hosts)
    for path, method, endpoint in (
        ("/", "GET", service.page),
        ("/health", "GET", service.health),
        ("/v1/models", "GET", service.models),
        ("/v1/models/{name:path}", "GET", service.one_model),
        ("/v1/chat/completions", "POST", service.chat_completions),
        ("/v1/feedback", "POST", service.feedback),
        ("/v1/score", "POST", service.score),
    ):
        app.add_api_route(path, endpoint, methods=[method], response_model=None)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(TutelageError, _tutelage_error)
    app.add_exception_handler(FullError, _full)
    app.add_exception_handler(Exception, _fault)
    return app


class _Service:
    """The routes, and what they share."""

    def __init__(
        self, model: LanguageModel, log: AnswersLog, reward: Reward | None, sampling: Sampling, room: int
    ) -> None:
        self.model = model
        self.log = log
        self.reward = reward
        self.sampling = sampling
        self.room = room
        self.fingerprint = f"fp_{log.model_hash[:12]}" if log.model_hash else None
        self.desk: Desk

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncGenerator[None]:
        self.desk = Desk(self.model, self.log, self.room)
        work = asyncio.create_task(self.desk.work())
        yield
        work.cancel()
        await asyncio.wait([work])

    async def page(self, request: Request) -> Response:
        return chat.page(request, self.model.name, self.sampling.temperature, feedback=self.log.path is not None)

    async def health(self) -> Response:
        return JSONResponse({"status": "ok", "model": self.model.name, "waiting": self.desk.waiting})

    async def models(self) -> Response:
        return JSONResponse({"object": "list", "data": [self._model_card()]})

    async def one_model(self, name: str) -> Response:
        self._same_model(name)
        return JSONResponse(self._model_card())

    async def chat_completions(self, request: Request) -> Response:
        asked = protocol.chat_request(protocol.parse(await _body(request)))
        self._same_model(asked.model)
        question = Question(
            id=new_id(), prompt=protocol.messages(asked.messages), sampling=protocol.sampling(asked, self.sampling),
            seeded=asked.seed is not None, choices=asked.n or 1,
        )  # fmt: skip
        if asked.stream:
            return await self._stream(request, question, asked.stream_options or protocol.StreamOptions())
        place = self.desk.ask(question)
        replies = await _unless_gone(request, place.replies, [place])
        return JSONResponse(protocol.completion(question.id, self.model.name, self.fingerprint, replies))

    async def _stream(self, request: Request, question: Question, options: protocol.StreamOptions) -> Response:
        """The choices one after the other; choice k is drawn with the seed + k."""
        seeds = [(question.sampling.seed + number) % 2**32 for number in range(question.choices)]
        places = self.desk.stream(
            [
                replace(
                    question, id=choice_id(question.id, k), sampling=replace(question.sampling, seed=seed), choices=1
                )
                for k, seed in enumerate(seeds)
            ]
        )
        # The first piece is awaited before the answer begins, so that a refusal still has its own status.
        first = await _unless_gone(request, places[0].next(), places)
        frame = protocol.frame(question.id, self.model.name, self.fingerprint)
        return _Stream(places, _events(frame, places, first, options.include_usage))

    async def feedback(self, request: Request) -> Response:
        values = protocol.parse(await _body(request))
        try:
            feedback = FEEDBACKS.validate_python(values)
        except ValueError:
            feedback = self._mend(values)
        if self.log.path is None:
            raise ApiError(404, "this server keeps no answers, so there is nothing to judge", code="no_log")
        await self.desk.settled(feedback.completion_id)
        await asyncio.to_thread(self._check, feedback)
        await asyncio.to_thread(keep_feedback, self.log.path, feedback)
        return JSONResponse({"object": "feedback", "completion_id": feedback.completion_id, "kind": feedback.kind})

    async def score(self, request: Request) -> Response:
        reward = self.reward
        if reward is None:
            raise ApiError(404, "this server has no reward model", code="no_reward")
        asked = protocol.checked(protocol.ScoreRequest, protocol.parse(await _body(request)))
        self._same_model(asked.model)
        prompt = protocol.messages(asked.messages)
        errand = self.desk.run(lambda: reward(prompt, asked.response))
        value = await _unless_gone(request, errand.result, [errand])
        return JSONResponse({"object": "score", "model": self.model.name, "score": float(value)})

    def _same_model(self, name: str | None) -> None:
        if name is not None and name != self.model.name:
            raise ApiError(
                404, f"no model {name!r} here: this server has {self.model.name!r}", param="model",
                code="model_not_found",
            )  # fmt: skip

    def _model_card(self) -> dict[str, Any]:
        return {"id": self.model.name, "object": "model", "created": 0, "owned_by": "tutelage"}

    def _mend(self, values: dict[str, Any]) -> Thumb | Pair | Score:
        """Says what is wrong with a judgement, in the words of its kind."""
        kinds = {"thumb": Thumb, "pair": Pair, "score": Score}
        kind = kinds.get(str(values.get("kind")))
        if kind is None:
            raise ApiError(400, f"kind {values.get('kind')!r}: write thumb, pair or score", param="kind")
        return protocol.checked(kind, values)

    def _check(self, feedback: Thumb | Pair | Score) -> None:
        """That a judgement is of something that was said, and can be meant."""
        answer = self._answer(feedback.completion_id, "completion_id")
        match feedback:
            case Pair():
                other = self._answer(feedback.other_id, "other_id")
                if other.id == answer.id or other.prompt != answer.prompt:
                    raise ApiError(400, "a pair is two answers to the same prompt", param="other_id")
            case Score(scale=(low, high), value=value) if not low <= value <= high or low == high:
                raise ApiError(400, f"value {value:g}: outside its scale {low:g} to {high:g}", param="value")
            case _:
                pass

    def _answer(self, id: str, param: str) -> Any:
        answer = self.log.find(id)
        if answer is None:
            raise ApiError(404, f"no answer {id!r} was given here", param=param, code="completion_not_found")
        return answer


class _Stream(StreamingResponse):
    """Server-sent events. However it ends, the places in the line are given back."""

    def __init__(self, places: Sequence[Streamed], events: AsyncIterator[str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            for place in self._places:
                place.leave()


async def _events(
    frame: dict[str, Any], places: Sequence[Streamed], first: str | Reply | None, with_usage: bool
) -> AsyncIterator[str]:
    """The answers as server-sent events, one choice after the other."""
    replies: list[Reply] = []
    try:
        for number, place in enumerate(places):
            piece = first if number == 0 else await place.next()
            yield _event(protocol.chunk(frame, number, {"role": "assistant", "content": ""}))
            while isinstance(piece, str):
                yield _event(protocol.chunk(frame, number, {"content": piece}))
                piece = await place.next()
            if piece is not None:
                replies.append(piece)
            yield _event(protocol.chunk(frame, number, {}, piece.finish_reason if piece else "stop"))
    except TutelageError as error:
        # The status has long been sent: the error travels in the stream, as clients expect it.
        yield _event(ApiError(500, str(error), type="server_error").body)
        return
    if with_usage and len(replies) == len(places):
        yield _event({**frame, "choices": [], "usage": protocol.usage(replies)})
    yield "data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


async def _body(request: Request) -> bytes:
    """The body of a request, JSON and not too long."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        # A page of another site cannot send this type without asking first, and we never say yes.
        raise ApiError(415, f"Content-Type {kind!r}: send application/json", code="unsupported_media_type")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise ApiError(413, f"the body is longer than {MAX_BODY} bytes", code="body_too_large")
    return bytes(body)


async def _unless_gone(request: Request, work: Any, places: Sequence[Any]) -> Any:
    """What the work gives. If the client leaves first, its places in the line are given back.

    Raises:
        ApiError: 499, the client has gone, and nobody reads this.
    """
    task = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait([task, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "the client has gone")
        return task.result()
    except BaseException:
        for place in places:
            place.leave()
        raise
    finally:
        task.cancel()
        leaving.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status, error.headers)


async def _http_error(_request: Request, error: Exception) -> Response:
    """No such page, or not by this method."""
    assert isinstance(error, HTTPException)
    body = ApiError(error.status_code, str(error.detail), code=str(error.detail).lower().replace(" ", "_")).body
    return JSONResponse(body, error.status_code, error.headers)


async def _tutelage_error(request: Request, error: Exception) -> Response:
    """A prompt longer than the context, the one thing a model refuses, is the asker's to mend; the rest is ours."""
    if isinstance(error, SettingsError):
        refusal = ApiError(400, str(error), param="messages", code="context_length_exceeded")
        return await _api_error(request, refusal)
    return await _api_error(request, ApiError(500, str(error), type="server_error"))


async def _full(request: Request, error: Exception) -> Response:
    assert isinstance(error, FullError)
    return await _api_error(
        request,
        ApiError(429, str(error), type="rate_limit_error", code="queue_full",
                 headers={"Retry-After": str(error.retry_after)}),
    )  # fmt: skip


async def _fault(request: Request, _error: Exception) -> Response:
    """A fault of ours: the log has the traceback, the client has none of it."""
    return await _api_error(request, ApiError(500, "the server failed: its log says why", type="server_error"))
