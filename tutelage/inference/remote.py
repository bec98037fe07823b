"""Any OpenAI-compatible chat server as a `LanguageModel`: a teacher, a judge, vLLM, our own server.

Only the address that is given is ever asked. Requests that fail for the moment are repeated with growing pauses; the
server's own ``Retry-After`` is kept. Redirections are not followed: they would carry the key elsewhere.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import random
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlsplit

from tutelage.errors import ModelError, SettingsError
from tutelage.inference.language_model import Reply, Sampling
from tutelage.records import Message

TRIES = 6
"""How often a request is sent, at most."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries, at most, whatever the server asks for."""

_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


class RemoteModel:
    """A model on a server.

    Args:
        base_url: such as ``http://127.0.0.1:8000/v1``.
        name: the model's name there.
        api_key: sent as a bearer token to this address alone.
        timeout: seconds of silence after which a try is given up.
        together: how many requests are under way at once.
    """

    def __init__(
        self, base_url: str, name: str, api_key: str | None = None, timeout: float = 60, together: int = 8
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f"base_url {base_url!r}: write http:// or https://, a host and its path, such as /v1")
        self.base_url = base_url.rstrip("/")
        self.name = name
        self._api_key = api_key and api_key.strip()
        self._timeout = timeout
        self._together = together
        self._opener = urllib.request.build_opener(_Stay)

    def replies(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Reply]:
        """One answer to each prompt, in order, several requests at a time.

        A prompt that occurs k times is asked with the seed, the seed + 1, ..., so that its answers differ. Token
        counts are 0 where the server does not tell them.

        Raises:
            SettingsError: the server refuses a prompt or a setting.
            ModelError: the server cannot be used.
        """
        seen: Counter[tuple[Message, ...]] = Counter()
        bodies: list[dict[str, Any]] = []
        for prompt in prompts:
            key = tuple(prompt)
            bodies.append(self._body(key, replace(sampling, seed=sampling.seed + seen[key])))
            seen[key] += 1
        with ThreadPoolExecutor(self._together, thread_name_prefix="remote") as pool:
            answers = [pool.submit(self._whole, body) for body in bodies]
            try:
                return [answer.result() for answer in answers]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def reply(self, prompt: Sequence[Message], sampling: Sampling) -> Generator[str, None, Reply]:
        """One answer in pieces, as they come; the generator returns the whole `Reply`.

        Raises:
            SettingsError: the server refuses the prompt or a setting.
            ModelError: the server cannot be used, or breaks off.
        """
        body = self._body(tuple(prompt), sampling) | {"stream": True, "stream_options": {"include_usage": True}}
        text: list[str] = []
        reason: str | None = None
        usage: dict[str, Any] = {}
        with self._open("/chat/completions", body) as response:
            for event in self._events(response):
                usage = event.get("usage") or usage
                for choice in event.get("choices") or []:
                    reason = choice.get("finish_reason") or reason
                    piece = (choice.get("delta") or {}).get("content")
                    if piece:
                        text.append(piece)
                        yield piece
        if reason is None:
            raise ModelError(f"{self.base_url}: the answer broke off: ask again")
        return _reply("".join(text), reason, usage)

    def loglikelihood(self, prompt: Sequence[Message], continuation: str) -> float:
        """The log-probability of the continuation as the answer to the prompt, in nats; its end not included.

        The server must tell us its tokens (``POST /tokenize``, as vLLM does, with the model's own chat template) and
        the log-probabilities of given tokens (``POST /v1/completions`` with ``echo`` and ``logprobs``).

        Raises:
            ModelError: the server does not offer that.
        """
        root = self.base_url.removesuffix("/v1")
        messages = [_message(message) for message in prompt]
        asked = self._likelihood_part(
            f"{root}/tokenize", {"model": self.name, "messages": messages, "add_generation_prompt": True}
        ).get("tokens")
        answer = self._likelihood_part(
            f"{root}/tokenize", {"model": self.name, "prompt": continuation, "add_special_tokens": False}
        ).get("tokens")
        if not asked or not isinstance(asked, list) or not isinstance(answer, list):
            raise ModelError(f"{root}/tokenize: gives no tokens: {_NO_LIKELIHOOD}")
        if not answer:
            return 0.0
        # Some servers want to write at least one token: it stands last, beyond those that are counted.
        body = {"model": self.name, "prompt": asked + answer, "echo": True, "logprobs": 1, "max_tokens": 1}
        body["temperature"] = 0
        choices = self._likelihood_part(f"{self.base_url}/completions", body).get("choices") or [{}]
        found = (choices[0].get("logprobs") or {}).get("token_logprobs") or []
        values = found[len(asked) : len(asked) + len(answer)]
        if len(values) != len(answer) or not all(isinstance(value, int | float) for value in values):
            raise ModelError(f"{self.base_url}/completions: echoes no log-probabilities: {_NO_LIKELIHOOD}")
        return float(sum(values))

    def _likelihood_part(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._json(url, body)
        except SettingsError as error:
            raise ModelError(f"{error}: {_NO_LIKELIHOOD}") from None
        except _NotThereError as error:
            raise ModelError(f"{error}: {_NO_LIKELIHOOD}") from None

    def _body(self, prompt: tuple[Message, ...], sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.name, "messages": [_message(message) for message in prompt],
            "temperature": sampling.temperature, "top_p": sampling.top_p, "max_tokens": sampling.max_new_tokens,
            "seed": sampling.seed,
        }  # fmt: skip
        # Servers that do not know these refuse them: they are sent only where they mean something.
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        return body

    def _whole(self, body: dict[str, Any]) -> Reply:
        value = self._json("/chat/completions", body)
        try:
            choice = value["choices"][0]
            text = choice["message"]["content"] or ""
        except (KeyError, IndexError, TypeError):
            raise ModelError(f"{self.base_url}/chat/completions: not an answer: {json.dumps(value)[:100]}") from None
        return _reply(text, choice.get("finish_reason"), value.get("usage") or {})

    def _json(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with self._open(path, body) as response:
            try:
                value = json.loads(response.read())
            except (ValueError, OSError, http.client.HTTPException) as error:
                raise ModelError(f"{self._url(path)}: not JSON: {error}") from None
        if not isinstance(value, dict):
            raise ModelError(f"{self._url(path)}: not a JSON object: is this an OpenAI-compatible server?")
        return value

    def _events(self, response: Any) -> Iterator[dict[str, Any]]:
        """The events of a stream of server-sent events, up to its end."""
        try:
            for line in response:
                field, _, data = line.decode("utf-8").strip().partition(":")
                if field != "data":
                    continue
                if data.strip() == "[DONE]":
                    return
                event = json.loads(data)
                if event.get("error"):
                    raise ModelError(f"{self.base_url}: {_message_of(event)}")
                yield event
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ModelError(f"{self.base_url}: the answer broke off: {error}") from None

    def _open(self, path: str, body: dict[str, Any]) -> Any:
        """The response to a request, which is repeated while the trouble may pass."""
        url = self._url(path)
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        if self._api_key:
            request.add_unredirected_header("Authorization", f"Bearer {self._api_key}")
        trouble = ""
        for attempt in range(TRIES):
            pause = min(LONGEST_PAUSE, 0.5 * 2**attempt) * random.uniform(0.75, 1.25)
            try:
                return self._opener.open(request, timeout=self._timeout)
            except urllib.error.HTTPError as error:
                with error:
                    said = _said(error)
                if error.code not in _PASSING:
                    raise _refusal(url, error.code, said) from None
                trouble = f"{error.code}: {said}"
                asked = _retry_after(error.headers.get("Retry-After"))
                pause = pause if asked is None else min(LONGEST_PAUSE, asked)
            except (OSError, http.client.HTTPException) as error:
                trouble = str(getattr(error, "reason", error))
            if attempt + 1 < TRIES:
                time.sleep(pause)
        raise ModelError(f"{url}: gave up after {TRIES} tries: {trouble}: is the server up?")

    def _url(self, path: str) -> str:
        return path if "://" in path else self.base_url + path


class _NotThereError(ModelError):
    """The server has no such page or model."""


_NO_LIKELIHOOD = "log-probabilities need a model folder, or a server that gives them, such as vLLM"


def _refusal(url: str, status: int, said: str) -> ModelError | SettingsError:
    match status:
        case 400 | 413 | 422:
            return SettingsError(f"{url}: refused: {said}")
        case 401 | 403:
            return ModelError(f"{url}: {status}: {said}: check the API key")
        case 404 | 405:
            return _NotThereError(f"{url}: {status}: {said}: check the address and the model's name")
        case _ if 300 <= status < 400:
            return ModelError(f"{url}: {status}: sends us elsewhere: give the final address")
        case _:
            return ModelError(f"{url}: {status}: {said}")


def _said(error: urllib.error.HTTPError) -> str:
    """What the server says is wrong, in one line."""
    try:
        text = error.read(65536).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return error.reason
    try:
        return _message_of(json.loads(text))
    except ValueError:
        return " ".join(text.split())[:200] or error.reason


def _message_of(value: Any) -> str:
    error = value.get("error", value) if isinstance(value, dict) else value
    message = error.get("message") if isinstance(error, dict) else error
    return " ".join(str(message).split())[:500]


def _retry_after(header: str | None) -> float | None:
    """Seconds, from a number or a date; None if it is neither."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _message(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _reply(text: str, reason: str | None, usage: dict[str, Any]) -> Reply:
    finish: Literal["stop", "length"] = "length" if reason == "length" else "stop"
    return Reply(
        text=text, finish_reason=finish, prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
    )  # fmt: skip
