import json
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from parrot import Parrot, served

from tutelage.inference.language_model import Sampling
from tutelage.web import completions
from tutelage.web.app import application


@dataclass
class House:
    """A served parrot."""

    url: str
    parrot: Parrot
    answers: Path

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers=headers, timeout=20)

    def chat(self, *contents: str, **settings: Any) -> httpx.Response:
        return self.post(
            "/v1/chat/completions", {"messages": [{"role": "user", "content": c} for c in contents], **settings}
        )

    @property
    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def house(tmp_path: Path) -> Generator[House]:
    parrot = Parrot()
    answers = tmp_path / "answers.jsonl"
    app = application(parrot, answers, lambda prompt, response: len(prompt) + len(response), model_hash="cafe" * 16)
    with served(app) as url:
        yield House(url, parrot, answers)


@pytest.fixture
def slow(tmp_path: Path) -> Generator[House]:
    parrot = Parrot(sleep=0.1)
    with served(application(parrot, tmp_path / "answers.jsonl", room=3)) as url:
        yield House(url, parrot, tmp_path / "answers.jsonl")


def error(response: httpx.Response) -> tuple[int, str | None, str | None]:
    body = response.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert body["message"]
    return response.status_code, body["param"], body["code"]


def test_the_openai_client_gets_a_whole_answer(house: House):
    with house.openai as client:
        answer = client.chat.completions.create(
            model="parrot", messages=[{"role": "user", "content": "one two three four"}], max_completion_tokens=3
        )
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == "one two three"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (4, 3, 7)
    kept = completions.find_answer(house.answers, answer.id)
    assert kept is not None
    assert (kept.response, kept.finish_reason, kept.model_hash) == ("one two three", "length", "cafe" * 16)


def test_the_openai_client_gets_a_stream(house: House):
    with house.openai as client:
        chunks = list(
            client.chat.completions.create(
                model="parrot", messages=[{"role": "user", "content": "你好 wide world"}], stream=True,
                stream_options={"include_usage": True},
            )
        )  # fmt: skip
    assert [c.choices[0].delta.content for c in chunks if c.choices] == ["", "你好", " wide", " world", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3
    assert {c.id for c in chunks} == {chunks[0].id}
    kept = completions.find_answer(house.answers, chunks[0].id)
    assert kept is not None
    assert kept.response == "你好 wide world"


def test_the_openai_client_sees_our_errors_as_its_own(house: House):
    with house.openai as client:
        with pytest.raises(openai.NotFoundError, match="no model 'gpt-5' here"):
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(openai.BadRequestError, match="does not fit the context") as caught:
            client.chat.completions.create(model="parrot", messages=[{"role": "user", "content": "a " * 70}])
        assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.BadRequestError, match="does not fit the context"):
            client.chat.completions.create(
                model="parrot", messages=[{"role": "user", "content": "a " * 70}], stream=True
            )
        assert [model.id for model in client.models.list()] == ["parrot"]
        assert client.models.retrieve("parrot").id == "parrot"


def test_sampling_reaches_the_model(house: House):
    assert house.chat("a b STOP c", stop="STOP").json()["choices"][0]["message"]["content"] == "a b "
    assert house.chat("a b c d", stop=["x", "c"]).json()["choices"][0]["message"]["content"] == "a b "
    body = house.chat("hi", temperature=0.25, top_p=0.5, top_k=7, max_tokens=9, seed=-1).json()
    kept = completions.find_answer(house.answers, body["id"])
    assert kept is not None
    assert kept.sampling == Sampling(temperature=0.25, top_p=0.5, top_k=7, max_new_tokens=9, seed=2**32 - 1)


def test_a_seed_is_kept_and_none_is_fresh(house: House):
    def drawn(**settings: Any) -> list[str]:
        return [choice["message"]["content"] for choice in house.chat("seed", **settings).json()["choices"]]

    assert drawn(seed=5) == drawn(seed=5) == ["5/0"]
    assert drawn(seed=5, n=3) == ["5/0", "5/1", "5/2"]
    assert drawn() != drawn()


def test_choices_have_ids_of_their_own_in_the_log(house: House):
    body = house.chat("a b", n=2).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert [a.id for a in completions.read_answers(house.answers)] == [body["id"], f"{body['id']}.1"]
    streamed = house.chat("seed", n=2, seed=7, stream=True).text
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    said = [(e["choices"][0]["index"], e["choices"][0]["delta"].get("content")) for e in events]
    assert [entry for entry in said if entry[1]] == [(0, "7/0"), (1, "8/0")]
    assert streamed.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        ({}, 400, "messages", "missing_required_parameter"),
        ({"messages": []}, 400, "messages", "empty_array"),
        ({"messages": "hi"}, 400, "messages", "invalid_value"),
        ({"messages": [{"role": "usr", "content": "a"}]}, 400, "messages.0.role", "invalid_value"),
        ({"messages": [{"content": "a"}]}, 400, "messages.0.role", "invalid_value"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, 400, "messages.0.role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, 400, "messages.0.content", "invalid_value"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "messages.0.content", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            400, "messages", "invalid_value",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            400, "messages.0.content.0", "unsupported_content",
        ),
        ({"temperature": -1}, 400, "temperature", "invalid_value"),
        ({"temperature": 1e999}, 400, None, "invalid_json"),
        ({"top_p": 0}, 400, "top_p", "invalid_value"),
        ({"max_tokens": 0}, 400, "max_tokens", "invalid_value"),
        ({"n": 17}, 400, "n", "invalid_value"),
        ({"stop": ["a", ""]}, 400, "stop", "invalid_value"),
        ({"seed": 2**64}, 400, "seed", "invalid_value"),
        ({"tools": [{"type": "function"}]}, 400, "tools", "unsupported_parameter"),
        ({"logprobs": True}, 400, "logprobs", "unsupported_parameter"),
        ({"temprature": 1}, 400, "temprature", "unknown_parameter"),
        ({"model": "other"}, 404, "model", "model_not_found"),
    ],
)  # fmt: skip
def test_bad_input_is_named(house: House, body: dict[str, Any], status: int, param: str | None, code: str):
    good = {"messages": [{"role": "user", "content": "hi"}]}
    whole = body if "messages" in body or not body else good | body
    sent = json.dumps(whole).encode()
    response = httpx.post(
        f"{house.url}/v1/chat/completions", content=sent, headers={"Content-Type": "application/json"}
    )
    assert error(response) == (status, param, code)
    assert not house.answers.exists()


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b'{"a": "\\ud800"}', b"[" * 100_000, b'{"a": NaN}', b""])
def test_what_is_no_json_object_is_refused(house: House, body: bytes):
    response = httpx.post(
        f"{house.url}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert error(response) == (400, None, "invalid_json")


def test_what_asks_for_nothing_is_let_pass(house: House):
    idle = {"tools": [], "presence_penalty": 0, "logprobs": False, "user": "u", "store": True, "n": None}
    assert house.chat("hi", response_format={"type": "text"}, **idle).status_code == 200
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "x", "name": "n"},
        {"role": "assistant", "content": "", "refusal": None, "tool_calls": None},
        {"role": "user", "content": parts},
    ]
    response = house.post("/v1/chat/completions", {"messages": messages})
    assert response.json()["choices"][0]["message"]["content"] == "a b"
    kept = completions.find_answer(house.answers, response.json()["id"])
    assert kept is not None
    assert [m.role for m in kept.prompt] == ["system", "user", "assistant", "user"]


def test_a_long_body_is_refused_whether_or_not_it_says_its_length(house: House):
    text = "a" * (1024 * 1024)
    assert error(house.chat(text))[0] == 413

    def pieces() -> Generator[bytes]:
        for _ in range(17):
            yield b" " * 65536

    with httpx.Client() as client:
        response = client.post(
            f"{house.url}/v1/chat/completions", content=pieces(), headers={"Content-Type": "application/json"}
        )
    assert error(response)[0] == 413
    assert house.chat("hi").status_code == 200


def test_unknown_pages_and_methods_answer_in_the_same_shape(house: House):
    assert error(httpx.get(f"{house.url}/v1/nothing"))[0] == 404
    assert error(house.post("/v1/completions", {}))[0] == 404
    assert error(httpx.get(f"{house.url}/v1/chat/completions"))[0] == 405
    assert error(httpx.get(f"{house.url}/v1/models/other")) == (404, "model", "model_not_found")
    assert error(httpx.get(f"{house.url}/static/../app.py"))[0] == 404
    assert httpx.get(f"{house.url}/health").json() == {"status": "ok", "model": "parrot", "waiting": 0}


def test_questions_that_wait_together_are_answered_together(slow: House):
    def ask(text: str, results: list[Any], **settings: Any) -> None:
        results.append((text, slow.chat(text, **settings).json()))

    blocker = threading.Thread(target=ask, args=("a b c d e f", []))
    blocker.start()
    time.sleep(0.2)
    results: list[Any] = []
    askers = [threading.Thread(target=ask, args=(text, results)) for text in ("one", "two", "three")]
    for asker in askers:
        asker.start()
    for thread in [blocker, *askers]:
        thread.join()
    assert slow.parrot.batches == [1, 3]
    assert all(body["choices"][0]["message"]["content"] == text for text, body in results)
    assert slow.parrot.threads == {"model_0"}


def test_a_question_with_a_seed_is_answered_as_if_alone(slow: House):
    blocker = threading.Thread(target=slow.chat, args=("a b c d e f",), kwargs={"top_k": 1})
    blocker.start()
    time.sleep(0.2)
    drawn: list[str] = []

    def ask(**settings: Any) -> None:
        drawn.append(slow.chat("seed", **settings).json()["choices"][0]["message"]["content"])

    askers = [threading.Thread(target=ask, kwargs=settings) for settings in ({}, {"seed": 4}, {"seed": 4})]
    for asker in askers:
        asker.start()
        time.sleep(0.05)
    for thread in [blocker, *askers]:
        thread.join()
    assert drawn.count("4/0") == 2


def test_a_full_line_says_when_to_come_again(slow: House):
    threads = [threading.Thread(target=slow.chat, args=("a b c d e f",), kwargs={"top_k": k}) for k in range(4)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    response = slow.chat("hi")
    assert error(response) == (429, None, "queue_full")
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    for thread in threads:
        thread.join()
    assert slow.chat("hi").status_code == 200


def test_a_reader_who_leaves_stops_the_model(slow: House):
    began = time.monotonic()
    with (
        httpx.Client(timeout=20) as client,
        client.stream(
            "POST", f"{slow.url}/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "word " * 60}], "stream": True},
        ) as response,
    ):  # fmt: skip
        for line in response.iter_lines():
            if '"content": " word"' in line:
                break
    assert slow.chat("hi").status_code == 200
    assert time.monotonic() - began < 3, "the model went on for nobody"
    assert slow.parrot.closed == 1
    first = next(completions.read_answers(slow.answers))
    assert first.finish_reason == "cancelled"
    assert "word word" in first.response


@pytest.mark.parametrize("stream", [False, True])
def test_an_asker_who_leaves_gives_up_the_place(slow: House, stream: bool):
    blocker = threading.Thread(target=slow.chat, args=("a b c d e f g h",))
    blocker.start()
    time.sleep(0.15)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{slow.url}/v1/chat/completions", timeout=0.2,
            json={"messages": [{"role": "user", "content": "nobody reads this"}], "stream": stream, "top_k": 3},
        )  # fmt: skip
    blocker.join()
    assert slow.chat("hi").status_code == 200
    assert [answer.response for answer in completions.read_answers(slow.answers)] == ["a b c d e f g h", "hi"]


def test_a_model_that_fails_does_not_take_the_server_down(house: House, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> Any:
        raise ZeroDivisionError("secret detail")

    with monkeypatch.context() as patch:
        patch.setattr(house.parrot, "replies", fails)
        response = house.chat("hi", n=2)
    assert error(response)[0] == 500
    assert "secret" not in response.text
    assert house.chat("hi").status_code == 200


def test_an_answer_that_cannot_be_kept_is_not_given(house: House):
    house.answers.mkdir()
    response = house.chat("hi")
    assert response.status_code == 500
    assert "cannot be written" in response.json()["error"]["message"]
    events = house.chat("hi", stream=True).text
    assert "cannot be written" in events
    assert "[DONE]" not in events


def test_feedback_is_kept_beside_the_answers(house: House):
    one, two = (house.chat("same question").json()["id"] for _ in range(2))
    for judgement in (
        {"kind": "thumb", "value": "down"},
        {"kind": "pair", "other_id": two, "value": "better"},
        {"kind": "score", "value": 4, "scale": [0, 10], "axis": "harmless"},
    ):
        response = house.post("/v1/feedback", {"completion_id": one, **judgement})
        assert response.status_code == 200, response.text
    kept = list(completions.read_feedback(house.answers.with_name("feedback.jsonl")))
    assert [judgement.value for judgement in kept] == ["down", "better", 4.0]


def test_feedback_that_means_nothing_is_refused(house: House):
    id, other = house.chat("question").json()["id"], house.chat("another").json()["id"]
    for judgement, status, param in (
        ({"completion_id": "chatcmpl-none", "kind": "thumb", "value": "up"}, 404, "completion_id"),
        ({"completion_id": id, "kind": "pair", "other_id": "chatcmpl-none", "value": "same"}, 404, "other_id"),
        ({"completion_id": id, "kind": "pair", "other_id": other, "value": "same"}, 400, "other_id"),
        ({"completion_id": id, "kind": "pair", "other_id": id, "value": "same"}, 400, "other_id"),
        ({"completion_id": id, "kind": "shrug", "value": "up"}, 400, "kind"),
        ({"completion_id": id, "kind": "thumb", "value": "sideways"}, 400, "value"),
        ({"completion_id": id, "kind": "thumb"}, 400, "value"),
        ({"completion_id": id, "kind": "score", "value": 6}, 400, "value"),
        ({"completion_id": id, "kind": "thumb", "value": "up", "who": "me"}, 400, "who"),
        ({"kind": "thumb", "value": "up"}, 400, "completion_id"),
    ):
        response = house.post("/v1/feedback", judgement)
        assert error(response)[:2] == (status, param), judgement
    assert not house.answers.with_name("feedback.jsonl").exists()


def test_an_answer_that_was_just_stopped_can_be_judged(slow: House):
    slow.parrot.sleep = 1.0
    body = {"messages": [{"role": "user", "content": "a b c d e f"}], "stream": True}
    with (
        httpx.Client(timeout=20) as client,
        client.stream("POST", f"{slow.url}/v1/chat/completions", json=body) as response,
    ):
        event = next(line for line in response.iter_lines() if line.startswith("data: {"))
    judged = {"completion_id": json.loads(event[6:])["id"], "kind": "thumb", "value": "down"}
    assert slow.post("/v1/feedback", judged).status_code == 200
    assert next(completions.read_answers(slow.answers)).response in ("a", "a b")


def test_a_reward_marks_an_answer(house: House):
    body = {"messages": [{"role": "user", "content": "a"}], "response": "four"}
    assert house.post("/v1/score", body).json() == {"object": "score", "model": "parrot", "score": 5.0}
    assert error(house.post("/v1/score", {"messages": body["messages"]}))[:2] == (400, "response")


def test_without_a_log_there_is_nothing_to_judge():
    with served(application(Parrot(), None)) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
        judged = {"completion_id": answer.json()["id"], "kind": "thumb", "value": "up"}
        assert error(httpx.post(f"{url}/v1/feedback", json=judged)) == (404, None, "no_log")
        assert error(httpx.post(f"{url}/v1/score", json={})) == (404, None, "no_reward")
        assert "thumb" not in httpx.get(url).text


def test_a_page_of_another_site_gets_nothing(tmp_path: Path):
    with served(application(Parrot(), tmp_path / "answers.jsonl", hosts=["127.0.0.1", "localhost", "::1"])) as url:
        body = {"messages": [{"role": "user", "content": "hi"}]}
        target = f"{url}/v1/chat/completions"
        assert error(httpx.post(target, json=body, headers={"Origin": "https://evil.example"}))[0] == 403
        assert error(httpx.post(target, json=body, headers={"Origin": "null"}))[0] == 403
        assert error(httpx.post(target, content=json.dumps(body), headers={"Content-Type": "text/plain"}))[0] == 415
        assert error(httpx.get(url, headers={"Host": "evil.example"}))[0] == 403
        assert httpx.get(url, headers={"Host": "localhost:1234"}).status_code == 200
        assert httpx.get(url, headers={"Host": "[::1]:1234"}).status_code == 200
        assert httpx.post(target, json=body, headers={"Origin": url}).status_code == 200


def test_every_response_carries_the_policy(house: House):
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    for path in ("/", "/static/chat.js", "/static/chat.css", "/static/mark.svg", "/health", "/nothing"):
        headers = httpx.get(house.url + path).headers
        assert headers["Content-Security-Policy"] == policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
