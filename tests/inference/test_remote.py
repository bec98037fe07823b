import http.server
import json
import sys
import threading
import time
from collections.abc import Callable, Generator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tutelage.errors import ModelError, SettingsError
from tutelage.inference import remote
from tutelage.inference.language_model import LanguageModel, Reply, Sampling
from tutelage.inference.remote import RemoteModel
from tutelage.records import Message
from tutelage.web.app import application

sys.path.append(str(Path(__file__).parents[1] / "web"))
from parrot import Parrot, served

Answer = tuple[int, Any, dict[str, str]]


def asked(*contents: str) -> list[Message]:
    return [Message(role="user", content=content) for content in contents]


class Stub:
    """A server that answers each request with the next of its answers, and keeps what it was asked."""

    def __init__(self, answers: Callable[[str, Any], Answer]) -> None:
        self.seen: list[tuple[str, Any, dict[str, str]]] = []
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.seen.append((self.path, body, dict(self.headers)))
                status, value, headers = answers(self.path, body)
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for key, text in ({"Content-Length": str(len(data))} | headers).items():
                    self.send_header(key, text)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def stub() -> Generator[Callable[..., Stub]]:
    opened: list[Stub] = []

    def open_stub(*answers: Answer, by_path: Callable[[str, Any], Answer] | None = None) -> Stub:
        waiting = list(answers)
        opened.append(Stub(by_path or (lambda _path, _body: waiting.pop(0))))
        return opened[-1]

    yield open_stub
    for one in opened:
        one.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, none of which is waited for."""
    found: list[float] = []
    monkeypatch.setattr(remote.time, "sleep", found.append)
    return found


def whole(text: str, reason: str = "stop") -> Answer:
    return 200, {"choices": [{"message": {"content": text}, "finish_reason": reason}]}, {}


def refused(status: int, message: str = "no", **headers: str) -> Answer:
    return status, {"error": {"message": message}}, headers


def test_our_own_server_is_a_language_model(tmp_path: Path):
    with served(application(Parrot(), tmp_path / "answers.jsonl")) as url:
        model: LanguageModel = RemoteModel(f"{url}/v1/", "parrot", api_key="secret")
        replies = model.replies([asked("one two three"), asked("你好")], Sampling(max_new_tokens=2))
        assert replies == [
            Reply(text="one two", finish_reason="length", prompt_tokens=3, completion_tokens=2),
            Reply(text="你好", finish_reason="stop", prompt_tokens=1, completion_tokens=1),
        ]
        assert model.replies([], Sampling()) == []
        assert list(model.reply(asked("a b c"), Sampling(stop=("c",)))) == ["a", " b", " "]
        with pytest.raises(SettingsError, match="does not fit the context"):
            model.replies([asked("fine"), asked("word " * 70)], Sampling())
        with pytest.raises(SettingsError, match="does not fit the context"):
            next(iter(model.reply(asked("word " * 70), Sampling())))
        with pytest.raises(ModelError, match=r"404: .*log-probabilities need a model folder, or a server"):
            model.loglikelihood(asked("a"), "b")
        with pytest.raises(ModelError, match="no model 'other' here"):
            RemoteModel(f"{url}/v1", "other").replies([asked("a")], Sampling())


def test_the_stream_ends_with_the_whole_reply():
    with served(application(Parrot(), None)) as url:
        pieces = RemoteModel(f"{url}/v1", "parrot").reply(asked("a b c"), Sampling(max_new_tokens=2))
        assert (next(pieces), next(pieces)) == ("a", " b")
        with pytest.raises(StopIteration) as end:
            next(pieces)
        whole = Reply(text="a b", finish_reason="length", prompt_tokens=3, completion_tokens=2)
        assert end.value.value == whole


def test_equal_prompts_are_drawn_differently_and_the_rest_is_not():
    with served(application(Parrot(), None)) as url:
        model = RemoteModel(f"{url}/v1", "parrot", together=1)
        drawn = model.replies([asked("seed"), asked("other"), asked("seed"), asked("x", "seed")], Sampling(seed=7))
        assert [reply.text for reply in drawn] == ["7/0", "other", "8/0", "7/0"]


def test_what_is_sent(stub: Callable[..., Stub]):
    server = stub(whole("a"), whole("b"))
    model = RemoteModel(server.url, "teacher", api_key="secret")
    model.replies([asked("hi")], Sampling(temperature=0.5, max_new_tokens=9, seed=3))
    model.replies([asked("hi")], Sampling(top_k=4, stop=("x",)))
    path, body, headers = server.seen[0]
    assert path == "/v1/chat/completions"
    assert body == {
        "model": "teacher", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "top_p": 1.0,
        "max_tokens": 9, "seed": 3,
    }  # fmt: skip
    assert headers["Authorization"] == "Bearer secret"
    assert (server.seen[1][1]["top_k"], server.seen[1][1]["stop"]) == (4, ["x"])


def test_passing_trouble_is_tried_again(stub: Callable[..., Stub], pauses: list[float]):
    later = formatdate(time.time() + 30, usegmt=True)
    server = stub(
        refused(429, **{"Retry-After": "7"}), refused(503, **{"Retry-After": later}), refused(500),
        refused(429, **{"Retry-After": "9999"}), refused(502, **{"Retry-After": "soon"}), whole("at last"),
    )  # fmt: skip
    assert RemoteModel(server.url, "m").replies([asked("a")], Sampling())[0].text == "at last"
    assert pauses[0] == 7
    assert 27 < pauses[1] <= 30
    assert 1.5 <= pauses[2] <= 2.5
    assert pauses[3] == 60
    assert 6 <= pauses[4] <= 10


def test_lasting_trouble_is_told(stub: Callable[..., Stub], pauses: list[float]):
    server = stub(*[refused(503, "overloaded")] * 9)
    with pytest.raises(ModelError, match="gave up after 6 tries: 503: overloaded"):
        RemoteModel(server.url, "m").replies([asked("a")], Sampling())
    assert len(server.seen) == 6
    assert len(pauses) == 5


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (refused(400, "too long"), SettingsError, "refused: too long"),
        (refused(401, "bad key"), ModelError, "401: bad key: check the API key"),
        (refused(404, "nothing"), ModelError, "404: nothing: check the address"),
        ((302, {}, {"Location": "http://127.0.0.1:1/steal"}), ModelError, "302: .*sends us elsewhere"),
        ((418, b"<h1>a  teapot</h1>", {}), ModelError, "418: <h1>a teapot</h1>"),
        ((200, b"<html>", {}), ModelError, "not JSON"),
        ((200, [1], {}), ModelError, "not a JSON object"),
        ((200, {"choices": []}, {}), ModelError, "not an answer"),
        ((200, b"{", {"Content-Length": "9"}), ModelError, "not JSON"),
    ],
)
def test_what_cannot_pass_is_told_at_once(
    stub: Callable[..., Stub], pauses: list[float], answer: Answer, kind: type[Exception], message: str
):
    server = stub(answer)
    with pytest.raises(kind, match=message):
        RemoteModel(server.url, "m", api_key="secret", timeout=1).replies([asked("a")], Sampling())
    assert len(server.seen) == 1
    assert pauses == []


def test_nobody_there(pauses: list[float]):
    with pytest.raises(ModelError, match=r"gave up after 6 tries: .*refused.*is the server up"):
        RemoteModel("http://127.0.0.1:9/v1", "m").replies([asked("a")], Sampling())
    assert len(pauses) == 5


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/v1", "host:80", "http://", ""])
def test_an_address_is_http(url: str):
    with pytest.raises(SettingsError, match="write http"):
        RemoteModel(url, "m")


@pytest.mark.parametrize(
    "stream",
    [
        b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "a"}}]}\n\ndata: {"error": {"message": "fell over"}}\n\n',
        b'data: {"choices": [{"delta": {"content": "a"}}]}\n\ndata: {"choi\n\n',
    ],
)
def test_a_stream_that_breaks_off_is_told(stub: Callable[..., Stub], stream: bytes):
    pieces = RemoteModel(stub((200, stream, {})).url, "m").reply(asked("a"), Sampling())
    assert next(pieces) == "a"
    with pytest.raises(ModelError, match=r"broke off|fell over"):
        next(pieces)


def test_the_loglikelihood_where_a_server_tells_it(stub: Callable[..., Stub]):
    def answer(path: str, body: Any) -> Answer:
        if path == "/tokenize":
            return 200, {"tokens": [1, 2, 3] if "messages" in body else [7, 8]}, {}
        assert path == "/v1/completions"
        assert body["prompt"] == [1, 2, 3, 7, 8]
        assert body["echo"] is True
        values = [None, -9.0, -9.0, -0.5, -0.25, -4.0]
        return 200, {"choices": [{"logprobs": {"token_logprobs": values}}]}, {}

    server = stub(by_path=answer)
    assert RemoteModel(server.url, "m").loglikelihood(asked("a"), "b c") == pytest.approx(-0.75, abs=1e-12)
    assert server.seen[0][1]["add_generation_prompt"] is True


def test_a_server_that_echoes_nothing_is_told(stub: Callable[..., Stub]):
    def answer(path: str, _body: Any) -> Answer:
        return (200, {"tokens": [1]}, {}) if path == "/tokenize" else (200, {"choices": [{"logprobs": None}]}, {})

    with pytest.raises(ModelError, match="echoes no log-probabilities"):
        RemoteModel(stub(by_path=answer).url, "m").loglikelihood(asked("a"), "b")
