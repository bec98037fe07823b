"""The OpenAI-compatible shapes: a request as it comes over the wire, an answer as it goes back, and errors.

A request is checked whole before anyone waits for the model. What we do not offer (tools, logprobs, penalties) is
refused when it is asked for and let pass when it is switched off; what cannot change an answer is ignored.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, TypeVar, cast, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from tutelage.inference.language_model import Reply, Sampling
from tutelage.records import Message, Role
from tutelage.settings import nearest

MAX_CHOICES = 16

# What asks for nothing: the values with which a parameter that we do not offer is let pass.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "audio": (None,), "best_of": (None, 1), "echo": (None, False), "frequency_penalty": (None, 0),
    "function_call": (None, "none", "auto"), "functions": (None, []), "logit_bias": (None, {}),
    "logprobs": (None, False), "modalities": (None, ["text"]), "prediction": (None,), "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}), "tool_choice": (None, "none", "auto"), "tools": (None, []),
    "top_logprobs": (None, 0), "web_search_options": (None,),
}  # fmt: skip
_IGNORED = (
    "metadata", "parallel_tool_calls", "prompt_cache_key", "reasoning_effort", "safety_identifier", "service_tier",
    "store", "user", "verbosity",
)  # fmt: skip

T = TypeVar("T")


class ApiError(Exception):
    """An answer other than 200, in OpenAI's shape."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None,
        type: str = "invalid_request_error", headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {"error": {"message": message, "type": type, "param": param, "code": code}}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """What a stream ends with."""

    include_usage: bool = False
    include_obfuscation: bool = False

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """The body of ``POST /v1/chat/completions``, as far as it can change the answer."""

    messages: list[dict[str, Any]]
    model: str | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    max_tokens: Annotated[int, Field(gt=0, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(gt=0, le=1_000_000)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """The body of ``POST /v1/score``: a prompt, and the answer to mark."""

    messages: list[dict[str, Any]]
    response: str
    model: str | None = None

    __pydantic_config__ = ConfigDict(extra="forbid")


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ApiError: 400, it is not one.
    """
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the body is not a JSON object: write {...}", code="invalid_json")
    return cast(dict[str, Any], value)


def chat_request(values: dict[str, Any]) -> ChatRequest:
    """The request of these values.

    Raises:
        ApiError: 400, an unknown parameter, one that we do not offer, or a value out of bounds.
    """
    asked = dict(values)
    for name, neutral in _NEUTRAL.items():
        if asked.pop(name, None) not in neutral:
            raise ApiError(400, f"{name} is not offered here: leave it out", param=name, code="unsupported_parameter")
    for name in _IGNORED:
        asked.pop(name, None)
    return checked(ChatRequest, asked)


def checked(kind: type[T], values: dict[str, Any]) -> T:
    """A body of one of our shapes.

    Raises:
        ApiError: 400, naming the parameter.
    """
    try:
        return _adapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"]]
        param = ".".join(place) or None
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            known = list(getattr(kind, "__dataclass_fields__", {}))
            raise ApiError(
                400, f"unknown parameter {param}: {nearest(place[-1], known)}", param=param, code="unknown_parameter"
            ) from None
        if first["type"] in ("missing", "missing_argument"):
            raise ApiError(400, f"{param} is missing", param=param, code="missing_required_parameter") from None
        raise ApiError(400, f"{param}: {_lower(first['msg'])}", param=param, code="invalid_value") from None


def messages(values: list[dict[str, Any]]) -> tuple[Message, ...]:
    """The prompt of a request. The role "developer" is today's name for "system".

    Raises:
        ApiError: 400, none, an unknown role, an empty turn, or nobody left to answer.
    """
    if not values:
        raise ApiError(400, "messages is empty: send at least one", param="messages", code="empty_array")
    prompt = tuple(_message(place, value) for place, value in enumerate(values))
    if prompt[-1].role == "assistant":
        raise ApiError(
            400, "messages end with the assistant's: the last turn is what it answers", param="messages",
            code="invalid_value",
        )  # fmt: skip
    return prompt


def sampling(request: ChatRequest, default: Sampling) -> Sampling:
    """How to answer the request; what it leaves open comes from the default. The seed is the request's or 0.

    Raises:
        ApiError: 400, an empty stop text.
    """
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    if "" in stop:
        raise ApiError(400, "stop holds an empty text: leave it out", param="stop", code="invalid_value")
    length = request.max_completion_tokens or request.max_tokens or default.max_new_tokens
    return replace(
        default,
        temperature=default.temperature if request.temperature is None else request.temperature,
        top_p=default.top_p if request.top_p is None else request.top_p,
        top_k=default.top_k if request.top_k is None else max(0, request.top_k),
        max_new_tokens=length,
        seed=(request.seed or 0) % 2**32,
        stop=stop or default.stop,
    )


def completion(id: str, model: str, fingerprint: str | None, replies: list[Reply]) -> dict[str, Any]:
    """A whole answer: ``chat.completion``."""
    choices = [
        {
            "index": place,
            "message": {"role": "assistant", "content": reply.text, "refusal": None},
            "logprobs": None,
            "finish_reason": reply.finish_reason,
        }
        for place, reply in enumerate(replies)
    ]
    return {
        "id": id, "object": "chat.completion", "created": int(time.time()), "model": model,
        "system_fingerprint": fingerprint, "choices": choices, "usage": usage(replies),
    }  # fmt: skip


def chunk(frame: dict[str, Any], place: int, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    """A piece of a streamed answer: ``chat.completion.chunk``. The frame is what all pieces share."""
    choice = {"index": place, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {**frame, "choices": [choice]}


def frame(id: str, model: str, fingerprint: str | None) -> dict[str, Any]:
    """What all pieces of a streamed answer share."""
    return {
        "id": id, "object": "chat.completion.chunk", "created": int(time.time()), "model": model,
        "system_fingerprint": fingerprint,
    }  # fmt: skip


def usage(replies: list[Reply]) -> dict[str, int]:
    """Tokens read and written. The prompt of several choices is read once."""
    prompt, written = replies[0].prompt_tokens, sum(reply.completion_tokens for reply in replies)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _message(place: int, value: dict[str, Any]) -> Message:
    where = f"messages.{place}"
    role = "system" if value.get("role") == "developer" else value.get("role")
    if role not in get_args(Role):
        raise ApiError(
            400, f"{where}.role {role!r}: write {', '.join(get_args(Role))}", param=f"{where}.role",
            code="invalid_value",
        )  # fmt: skip
    for key in ("tool_calls", "function_call", "audio"):
        if value.get(key):
            raise ApiError(400, f"{where}.{key} is not offered here: leave it out", param=f"{where}.{key}")
    content = _text(value.get("content"), f"{where}.content")
    if not content.strip() and role != "assistant":
        raise ApiError(400, f"{where}: empty {role} turn", param=f"{where}.content", code="invalid_value")
    return Message(role=cast(Role, role), content=content)


def _text(content: object, where: str) -> str:
    """A content of text, or of parts that are all text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts: list[str] = []
        for place, part in enumerate(cast(list[object], content)):
            text = cast(dict[str, object], part).get("text") if isinstance(part, dict) else None
            if not isinstance(text, str):
                raise ApiError(
                    400, f'{where}.{place}: only {{"type": "text", "text": ...}} is offered here',
                    param=f"{where}.{place}", code="unsupported_content",
                )  # fmt: skip
            parts.append(text)
        return "".join(parts)
    raise ApiError(400, f"{where}: found {content!r}: write a text", param=where, code="invalid_value")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
