"""Chat and compare over HTTP: turns, choices, what goes on, what is kept of it, and what nobody is told."""

import concurrent.futures
import json
from pathlib import Path
from typing import Any

import pytest
from house import House, Visitor, served, task_of
from test_owning import NEW, QUESTION, rows

from tutelage.feedback import snapshot
from tutelage.feedback.judged import judged
from tutelage.stages import collect
from tutelage.web import snapshots
from tutelage.web.models import Models

CHAT = {"model_a": "runs/one", "model_b": "runs/two", "turns": 3, "max_new_tokens": 16}


@pytest.fixture
def house(talking: House) -> House:
    return talking


def ready(house: House, people: int = 1, chat: dict[str, Any] = {}, **changes) -> tuple[str, list[Visitor], Visitor]:  # noqa: B006
    """A project in which people talk, open, with people who may judge in it."""
    owner = house.owner("owner")
    made = owner.post("/projects", {**NEW, "kind": "chat", "overlap": 1, "chat": {**CHAT, **chat}, **changes})
    assert made.status_code == 201, made.text
    project = made.json()["project"]
    house.projects.set_state(owner.account, project, "open")
    visitors = [house.visitor(house.member(owner.session, project, f"person{n}")) for n in range(people)]
    for visitor in visitors:
        house.projects.confirm_guideline(visitor.account, project, 1)
        house.accounts.set_member(owner.account, project, visitor.account, state="active")
        visitor.get("/word")
        visitor.csrf = visitor.get("/word").json()["csrf"]
    return project, visitors, owner


def ask(visitor: Visitor, project: str, text: str, idem: str | None = None) -> dict[str, Any]:
    answer = visitor.post("/chat/ask", {"project": project, "text": text, "idem": idem or f"idem of {text}"})
    assert answer.status_code == 201, answer.text
    return answer.json()


def turns(given: dict[str, Any]) -> list[str]:
    return [message["raw"] for message in given["messages"]]


def test_the_better_answer_goes_on(house: House):
    project, [visitor], _ = ready(house, chat={"system": "Be brief."})
    first = visitor.claim(project)
    assert (first["state"], turns(first), first["chat"]["turn"]) == ("chat", ["Be brief."], 1)
    given = ask(visitor, project, "hello")
    assert (given["state"], turns(given), given["chat"]["turn"]) == ("item", ["Be brief.", "hello"], 1)
    texts = [response["raw"] for response in given["responses"]]
    assert all(text.endswith("of **hello**") for text in texts)
    assert visitor.claim(project)["item"] == given["item"], "the same after the page is loaded again"
    answer = visitor.answer(project, given, {"better": 6})
    assert answer.status_code == 201
    then = answer.json()["next"]
    assert (then["state"], turns(then)) == ("chat", ["Be brief.", "hello", texts[1]])
    assert (then["chat"]["turn"], then["chat"]["chosen"], then["chat"]["over"]) == (2, True, False)
    second = ask(visitor, project, "and then?")
    assert turns(second) == ["Be brief.", "hello", texts[1], "and then?"]
    then = visitor.answer(project, second, {"better": 4}).json()["next"]
    assert turns(then)[-1] == second["responses"][0]["raw"], "of two that are alike the first goes on"
    last = ask(visitor, project, "one more")
    then = visitor.answer(project, last, {"better": {"cannot_tell": "equal_values"}}).json()["next"]
    assert then["chat"]["over"] is True
    closed = visitor.post("/chat/ask", {"project": project, "text": "more", "idem": "one too many"})
    assert (closed.status_code, closed.json()["code"]) == (409, "closed")
    mine = visitor.get("/account/data").json()["conversations"]
    assert [talk["turns"] for talk in mine] == [["hello", "and then?", "one more"]]
    fresh = visitor.post("/chat/end", {"project": project}).json()
    assert (fresh["state"], turns(fresh), fresh["chat"]["begun"]) == ("chat", ["Be brief."], False)
    assert house.rows("select turns, state from dialogue") == [(3, "ended")]
    house.sound()


def test_both_bad_is_said_again(house: House):
    project, [visitor], _ = ready(house)
    given = ask(visitor, project, "hello")
    then = visitor.answer(project, given, {"better": "both_bad"}).json()["next"]
    assert (then["state"], turns(then), then["chat"]["turn"], then["chat"]["text"]) == ("chat", [], 1, "hello")
    assert then["chat"]["chosen"] is False
    refused = visitor.post("/chat/again", {"project": project, "idem": "another one"})
    assert (refused.status_code, refused.json()["code"]) == (409, "full")
    again = ask(visitor, project, "hello", "said again")
    assert again["item"] != given["item"]
    skipped = visitor.post(
        "/seats/skip",
        {"project": project, "item": again["item"], "token": again["token"], "idem": "skip this", "reason": "other"},
    )
    assert skipped.json()["next"]["chat"]["text"] == "hello"
    house.sound()


def test_another_answer_is_compared_with_the_last(house: House):
    project, [visitor], _ = ready(house)
    given = ask(visitor, project, "hello")
    then = visitor.answer(project, given, {"better": 1}).json()["next"]
    chosen = turns(then)[-1]
    again = visitor.post("/chat/again", {"project": project, "idem": "another one"}).json()
    assert (again["state"], again["chat"]["turn"]) == ("item", 1)
    last = again["chat"]["last"]
    assert again["responses"][last]["raw"] == chosen
    new = again["responses"][1 - last]["raw"]
    assert new != chosen
    then = visitor.answer(project, again, {"better": 2 if last else 6}).json()["next"]
    assert (turns(then)[-1], then["chat"]["turn"]) == (new, 2)
    third = visitor.post("/chat/again", {"project": project, "idem": "a third one"}).json()
    then = visitor.answer(project, third, {"better": 4}).json()["next"]
    assert turns(then)[-1] == new, "no better is no reason to change"
    assert [row[0] for row in house.rows("select sampled from item order by number")] == [
        "all", "regenerated", "regenerated",
    ]  # fmt: skip
    house.sound()


def test_the_same_turn_sent_again_is_one_turn(house: House):
    project, [visitor], _ = ready(house)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        given = list(pool.map(lambda _: ask(visitor, project, "slow", "the same key"), range(4)))
    assert len({one["item"] for one in given}) == 1
    assert ask(visitor, project, "slow", "the same key")["item"] == given[0]["item"]
    other = visitor.post("/chat/ask", {"project": project, "text": "x", "idem": "another key"})
    assert (other.status_code, other.json()["code"]) == (409, "full")
    assert house.rows("select count(*) from item") == [(1,)]


def test_the_site_answers_while_models_do(house: House):
    project, [one, two], _ = ready(house, people=2)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, one, project, "slow", "the slow one")
        looked = 0
        while not slow.done():
            assert two.claim(project)["state"] == "chat"
            assert two.post("/chat/draft", {"project": project, "text": "half a"}).status_code == 200
            looked += 1
        assert looked > 5
        assert slow.result()["state"] == "item"
    assert two.claim(project)["chat"]["text"] == "half a"


def test_undo_correction_and_a_lease_that_ran_out(house: House):
    project, [visitor, other], _ = ready(house, people=2)
    given = ask(visitor, project, "hello")
    visitor.answer(project, given, {"better": 1})
    back = visitor.post("/seats/undo", {"project": project, "idem": "undo this"}).json()
    assert (back["item"], back["chat"]["turn"], json.loads(back["draft"])["said"]) == (given["item"], 1, {"better": 1})
    then = visitor.answer(project, back, {"better": 7}).json()["next"]
    assert turns(then)[-1] == back["responses"][1]["raw"]
    body = {"item": given["item"], "said": {"better": 2}, "idem": "correct this"}
    assert visitor.post("/seats/correct", body).status_code == 201
    assert turns(visitor.claim(project))[-1] == back["responses"][0]["raw"], "the last word counts"
    given = ask(visitor, project, "again")
    house.clock.pass_(11)
    assert other.claim(project)["state"] == "item", "who comes for it has it, as any other item"
    assert visitor.claim(project)["chat"]["turn"] == 2
    house.sound()


def test_a_lease_that_nobody_came_for_is_there_again(house: House):
    project, [visitor, other], owner = ready(house, people=2)
    given = ask(visitor, project, "hello")
    house.clock.pass_(11)
    owner.file(f"/p/{project}/items", "x.jsonl", rows(1))
    lease = house.queue.claim(other.account, project)
    assert lease is not None
    house.answer(other.account, lease)
    back = visitor.claim(project)
    assert (back["item"], back["chat"]["turn"], back["responses"]) == (given["item"], 1, given["responses"])
    assert visitor.answer(project, back, {"better": 1}).json()["next"]["chat"]["turn"] == 2
    house.sound()


def test_others_judge_a_turn_where_more_are_wanted(house: House):
    project, [one, two], _ = ready(house, people=2, overlap=2)
    given = ask(one, project, "hello")
    same = two.claim(project)
    assert (same["item"], "chat" in same) == (given["item"], False)
    assert one.answer(project, given, {"better": 1}).json()["next"]["state"] == "chat"
    assert two.answer(project, same, {"better": 2}).json()["next"]["state"] == "chat"
    assert house.rows("select done, need from item") == [(2, 2)]
    house.sound()


def test_limits_are_kept(house: House):
    project, [visitor], owner = ready(house, chat={"conversations": 1}, daily_cap=2)
    for text in ("", "  \n", "x" * 20_001, 3):
        bad = visitor.post("/chat/ask", {"project": project, "text": text, "idem": "a long key"})
        assert (bad.status_code, bad.json()["code"]) == (422, "bad_input"), text
    assert visitor.post("/chat/ask", {"project": project, "text": "x", "idem": "short"}).status_code == 422
    given = ask(visitor, project, "hello")
    visitor.answer(project, given, {"better": 1})
    assert visitor.post("/chat/end", {"project": project}).json() == {"state": "empty"}
    more = visitor.post("/chat/ask", {"project": project, "text": "x", "idem": "another key"})
    assert (more.status_code, more.json()["code"]) == (409, "closed")
    owner.post("/chat/ask", {"project": project, "text": "x", "idem": "another key"})
    owner.post("/chat/end", {"project": project})
    assert house.rows(f"select given_today from membership where account = '{owner.account}'") == [(1,)]
    assert house.rows("select count(*) from dialogue where state = 'open'") == [(0,)]
    project, [visitor], _ = ready_again(house, owner)
    given = ask(visitor, project, "one")
    visitor.answer(project, given, {"better": 1})
    capped = visitor.post("/chat/ask", {"project": project, "text": "two", "idem": "another key"})
    assert (capped.status_code, capped.json()["code"]) == (429, "daily_cap")


def ready_again(house: House, owner: Visitor) -> tuple[str, list[Visitor], Visitor]:
    project = owner.post("/projects", {**NEW, "kind": "chat", "chat": CHAT, "daily_cap": 1}).json()["project"]
    house.projects.set_state(owner.account, project, "open")
    return project, [owner], owner


def test_strangers_and_other_projects_have_no_conversations(house: House):
    project, [_], owner = ready(house)
    plain = owner.post("/projects", NEW).json()["project"]
    stranger = house.visitor(house.person("stranger"))
    for path, more in (("ask", {"text": "x", "idem": "a long key"}), ("again", {"idem": "a long key"}), ("end", {}),
                       ("draft", {"text": "x"})):  # fmt: skip
        told = {stranger.post(f"/chat/{path}", {"project": id, **more}).text for id in (project, plain, "0" * 26)}
        assert len(told) == 1, path
        assert owner.post(f"/chat/{path}", {"project": plain, **more}).status_code == 404, path
    assert house.rows("select count(*) from dialogue") == [(0,)]


def test_no_byte_tells_who_answers(house: House):
    project, [visitor], _ = ready(house, chat={"model_b": "runs/one"})
    sent = [visitor.get(f"/p/{project}/task").text]
    for text in ("hello", "word " * 80, "hush", "die", "well"):
        answer = visitor.post("/chat/ask", {"project": project, "text": text, "idem": f"idem of {text[:20]}"})
        sent += [answer.text, str(answer.headers)]
        if answer.status_code == 201:
            sent.append(visitor.answer(project, answer.json(), {"better": 3}).text)
    assert [json.loads(text)["code"] for text in sent if text.startswith('{"code"')] == [
        "closed", "no_answer", "no_answer",
    ]  # fmt: skip
    sent += [visitor.get(f"/p/{project}/{page}").text for page in ("history", "guideline", "task")]
    sent += [visitor.get(path).text for path in ("/", "/account/data")]
    everything = "\n".join(sent)
    assert everything.count("of **well**") >= 1
    for secret in ("runs/", "seed", "model"):
        assert secret not in everything.replace("data models", ""), secret


@pytest.mark.parametrize(
    ("chat", "said"),
    [
        (None, "who answers"), ({}, "choose who answers"), ({**CHAT, "model_a": "runs/three"}, "there are runs/one"),
        ({**CHAT, "turns": 0}, "turns"), ({**CHAT, "turns": "3"}, "turns"), ({**CHAT, "temperature": -1}, "temper"),
        ({**CHAT, "model_b": "runs/one", "temperature": 0}, "same answer twice"), ({**CHAT, "system": 3}, "system"),
    ],
)  # fmt: skip
def test_a_wrong_conversation_is_not_made(house: House, chat: Any, said: str):
    answer = house.owner("owner").post("/projects", {**NEW, "kind": "chat", "chat": chat})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_input")
    assert said in answer.json()["message"]


def test_only_comparisons_are_asked_of_a_conversation(house: House):
    scale = {**QUESTION, "key": "fluency", "kind": "scale"}
    new = {**NEW, "kind": "chat", "chat": CHAT, "questions": [QUESTION, scale]}
    assert "nothing else is asked" in house.owner("owner").post("/projects", new).json()["message"]


def test_turns_become_comparisons_for_training(house: House, tmp_path: Path):
    """A conversation, snapshotted, exported and taken by `collect`."""
    project, [visitor], owner = ready(house)
    texts: list[str] = []
    for number, choice in enumerate((1, 7, "both_bad")):
        given = ask(visitor, project, f"turn {number}")
        texts += [response["raw"] for response in given["responses"]]
        visitor.answer(project, given, {"better": choice})
    made = snapshots.make(house.database, owner.account, project, "round")
    folder = snapshots.write(house.database, made, tmp_path / "round")
    said = judged(snapshot.header(folder).questions, snapshot.rows(folder))
    first, second, third = said.comparisons
    assert [message.content for message in second.prompt] == ["turn 0", texts[0], "turn 1"]
    assert {message.role for message in second.prompt} == {"user", "assistant"}
    assert first.responses[first.ranks.index(1)] == texts[0]
    assert second.responses[second.ranks.index(1)] == texts[3]
    assert third.ranks == (1, 1)
    assert first.task == "chat"
    assert sorted(first.metadata["models"].split()) == ["runs/one", "runs/two"]
    assert len(collect._said(folder).comparisons) == 3
    lines = [json.loads(line) for line in b"".join(snapshots.export(house.database, made, "preference")).splitlines()]
    assert len(lines) == 2
    assert texts[3] in json.dumps(lines, ensure_ascii=False)
    for page in ("board", "items?show=all", "people", "data", "log", "preview"):
        assert owner.get(f"/p/{project}/{page}").status_code == 200, page
    assert task_of(owner.get(f"/p/{project}/preview"))["given"]["state"] == "chat"


def test_prompts_are_sampled_from_the_page(house: House):
    owner = house.owner("owner")
    project = owner.post("/projects", NEW).json()["project"]
    page = owner.get(f"/p/{project}/sample")
    assert "runs/one" in page.text
    prompts = b"".join(json.dumps({"prompt": f"q{n}"}).encode() + b"\n" for n in range(3))
    path = f"/p/{project}/sample?models=runs/one&models=runs/two&answers=1&temperature=0.7&seed=4&name="
    begun = owner.client.post(f"{path}p.jsonl", content=prompts, headers={"X-CSRF": owner.csrf})
    assert (begun.status_code, begun.json()["total"]) == (202, 3)
    while (job := owner.get(f"/p/{project}/sample/progress").json())["state"] == "running":
        pass
    assert (job["state"], job["added"], job["models"]) == ("done", 3, ["runs/one", "runs/two"])
    assert house.rows("select distinct need from item") == [(2,)]
    for query, said in (
        ("models=runs/none", "there are runs/one, runs/two"), ("", "models: name 1 to 8"),
        ("models=runs/one&answers=0", "answers: a number from 1 to 26"),
        ("models=runs/one&answers=27", "answers: a number from 1 to 26"),
        ("models=runs/one&answers=2&temperature=nan", "temperature: a number from 0 to 5"),
        ("models=runs/one&answers=2&top_p=0", "top_p: a number from 0.01 to 1"),
        ("models=runs/one&answers=2&max_new_tokens=5000", "max_new_tokens: a number from 1 to 4096"),
        ("models=runs/one&answers=2&seed=-1", "seed: a number from 0 to 2147483647"),
    ):  # fmt: skip
        bad = owner.client.post(
            f"/p/{project}/sample?{query}&name=p.jsonl", content=prompts, headers={"X-CSRF": owner.csrf}
        )
        assert (bad.status_code, bad.json()["code"]) == (422, "bad_input"), query
        assert said in bad.json()["message"], query
    assert owner.post(f"/p/{project}/sample/stop").json()["state"] == "done"


def test_a_conversation_on_either_database(where: Path | str, models: Models):
    with served(where, models) as house:
        project, [visitor], owner = ready(house)
        given = ask(visitor, project, "hello 你好", "the first key")
        assert visitor.post("/chat/ask", {"project": project, "text": "x", "idem": "another key"}).status_code == 409
        visitor.answer(project, given, {"better": 1})
        again = visitor.post("/chat/again", {"project": project, "idem": "another one"}).json()
        then = visitor.answer(project, again, {"better": 6}).json()["next"]
        assert turns(then) == ["hello 你好", again["responses"][1]["raw"]], "whichever of the two that is"
        assert visitor.post("/chat/draft", {"project": project, "text": "half"}).status_code == 200
        assert visitor.claim(project)["chat"]["text"] == "half"
        assert visitor.post("/chat/end", {"project": project}).json()["chat"]["begun"] is False
        for page in ("board", "items?show=all", "sample", "log"):
            assert owner.get(f"/p/{project}/{page}").status_code == 200, page
        house.sound()
