"""Judging over HTTP: what the task page's script asks, what it is told, and what it is never told."""

import concurrent.futures

import pytest
from house import House, Visitor, task_of

from tutelage.records import Message
from tutelage.web.answers import Question
from tutelage.web.items import NewItem, NewResponse

HHH = tuple(Question(key=key, kind="compare", dimension=key) for key in ("harmless", "overall"))


def ready(house: House, count: int = 4, people: int = 1, **changes) -> tuple[str, list[Visitor], Visitor]:
    """A project with items, people who may judge it, and its owner."""
    owner = house.person("owner")
    project = house.project(owner, **changes)
    house.fill(owner, project, count, need=2)
    visitors = [house.visitor(house.member(owner, project, f"person{n}")) for n in range(people)]
    for visitor in visitors:
        house.projects.confirm_guideline(visitor.account, project, 1)
        house.accounts.set_member(owner.account, project, visitor.account, state="active")
        visitor.get("/word")  # the rights have changed: a new token, and a new word
        visitor.csrf = visitor.get("/word").json()["csrf"]
    return project, visitors, house.visitor(owner)


def test_one_judges_until_nothing_is_left(house: House):
    project, [visitor], _ = ready(house, 3)
    given = visitor.claim(project)
    assert (given["state"], given["left_today"], given["rev"], given["draft"]) == ("item", None, 0, None)
    assert 590 <= given["seconds"] <= 600
    seen = []
    while given["state"] == "item":
        seen.append(given["messages"][-1]["raw"])
        answer = visitor.answer(project, given, {"better": 2}, note="n", active_ms=1200)
        assert answer.status_code == 201
        assert answer.json()["receipt"]["kind"] == "answer"
        given = answer.json()["next"]
    assert given == {"state": "empty"}
    assert sorted(seen) == [f"question {n}" for n in range(3)]
    assert house.rows("select count(*), min(active_ms), min(note) from judgment") == [(3, 1200, "n")]
    house.sound()


def test_the_same_request_again_is_kept_once(house: House):
    project, [visitor], _ = ready(house)
    given = visitor.claim(project)
    first = visitor.answer(project, given, {"better": 2}, idem="the same key")
    again = visitor.answer(project, given, {"better": 2}, idem="the same key")
    assert (again.status_code, again.json()["receipt"]["again"]) == (201, True)
    assert again.json()["next"]["item"] == first.json()["next"]["item"]
    other = visitor.answer(project, given, {"better": 3}, idem="the same key")
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")
    assert house.rows("select count(*) from judgment") == [(1,)]


def test_a_hundred_equal_requests_at_once_are_one(house: House):
    project, [visitor], _ = ready(house)
    given = visitor.claim(project)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda _: visitor.answer(project, given, {"better": 2}, idem="one key only"), range(100))
        )
    assert {answer.status_code for answer in answers} == {201}
    assert sum(not answer.json()["receipt"]["again"] for answer in answers) == 1
    assert house.rows("select count(*) from judgment") == [(1,)]


def test_what_is_wrong_is_told_and_nothing_is_kept(house: House):
    project, [visitor], _ = ready(house)
    given = visitor.claim(project)
    for said in (
        {},
        {"better": 8},
        {"better": True},
        {"other": 1},
        {"better": "best"},
        {"better": [1]},
        {"better": 1.5},
    ):
        answer = visitor.answer(project, given, said)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_input"), said
    assert visitor.answer(project, given, [1]).status_code == 422
    assert visitor.answer(project, given, {"better": 1}, idem="short").status_code == 422
    assert visitor.answer(project, {**given, "token": "x"}, {"better": 1}).json()["code"] == "lease_lost"
    assert visitor.answer(project, given, {"better": 1}, active_ms=-1).status_code == 422
    assert visitor.answer(project, given, {"better": 1}, note="x" * 5000).status_code == 422
    assert house.rows("select count(*) from judgment") == [(0,)]
    assert visitor.claim(project)["item"] == given["item"]


def test_what_nobody_may_know_is_in_no_answer(house: House):
    """Names of models, known answers, other people's words: searched for in all that is sent."""
    owner = house.person("owner")
    project = house.project(owner, gold_share=0.5)

    def item(n: int, **more):
        return NewItem(
            prompt=(Message(role="user", content=f"q{n}"),), need=2, source="canary-source", sampled="canary-rule",
            responses=tuple(NewResponse(text=f"t{n}{s}", model="canary-model", licence="canary-licence") for s in "ab"),
            **more,
        )  # fmt: skip

    house.projects.add_items(owner.account, project, [item(n) for n in range(6)])
    gold = [item(10 + n, lane="gold", gold={"better": 1}, explanation="canary-explanation") for n in range(6)]
    house.projects.add_items(owner.account, project, gold)
    first, second = house.annotators(project, 2)
    for account in (first, second):
        house.answer(account, house.queue.claim(account, project), 6, note="canary-note")
    session = house.person("third")
    house.database.write(
        lambda t: t.connection.exec_driver_sql(
            "insert into membership (project, account, role, state, guideline_read) "
            f"values ('{project}', '{session.account}', 'annotator', 'active', 1)"
        )
    )
    visitor = house.visitor(session)
    sent = [visitor.get("/").text, visitor.get(f"/p/{project}/task").text]
    given = visitor.claim(project)
    for _ in range(8):
        if given["state"] != "item":
            break
        sent.append(str(given))
        given = visitor.answer(project, given, {"better": 2}).json()["next"]
    sent += [visitor.get(f"/p/{project}/{page}").text for page in ("history", "guideline", "task")]
    sent.append(visitor.get("/account/data").text)
    everything = "\n".join(sent)
    assert "t10a" in everything or "t11a" in everything, "a known answer was shown"
    for secret in ("canary", "gold", "shown", "person P"):
        assert secret not in everything, secret


def test_a_draft_survives_and_two_tabs_do_not_fight(house: House):
    project, [visitor], _ = ready(house)
    given = visitor.claim(project)
    body = {"item": given["item"], "token": given["token"], "body": '{"said":{"better":3}}', "rev": 0}
    assert visitor.post("/seats/draft", body).json() == {"rev": 1}
    other_tab = visitor.post("/seats/draft", {**body, "body": "{}"})
    assert (other_tab.status_code, other_tab.json()["code"]) == (409, "stale_draft")
    again = visitor.claim(project)
    assert (again["draft"], again["rev"], again["token"]) == ('{"said":{"better":3}}', 1, given["token"])
    assert visitor.post("/seats/draft", {**body, "rev": "1"}).status_code == 422


def test_a_lease_is_kept_and_lost(house: House):
    project, [one, two], _ = ready(house, 1, people=2)
    given = one.claim(project)
    house.clock.pass_(8)
    kept = one.post("/seats/renew", {"item": given["item"], "token": given["token"]})
    assert kept.json() == {"seconds": 600}
    house.clock.pass_(11)
    two.claim(project)
    lost = one.answer(project, given, {"better": 1})
    assert (lost.status_code, lost.json()["code"]) == (409, "lease_lost")
    assert one.post("/seats/renew", {"item": given["item"], "token": given["token"]}).status_code == 409


def test_undo_gives_the_item_back_with_what_was_said(house: House):
    project, [visitor], _ = ready(house)
    given = visitor.claim(project)
    visitor.answer(project, given, {"better": 6}, note="why")
    back = visitor.post("/seats/undo", {"project": project, "idem": "undo key"}).json()
    assert back["item"] == given["item"]
    assert '"better":6' in back["draft"]
    assert visitor.answer(project, back, {"better": 5}).status_code == 201
    house.clock.pass_(11)
    late = visitor.post("/seats/undo", {"project": project, "idem": "undo key 2"})
    assert (late.status_code, late.json()["code"]) == (409, "too_late")
    house.sound()


def test_an_answer_is_corrected_in_the_history(house: House):
    project, [visitor], _ = ready(house)
    given = visitor.claim(project)
    visitor.answer(project, given, {"better": 6}, note="first")
    page = visitor.get(f"/p/{project}/history")
    assert "B better" in page.text
    task = task_of(visitor.get(f"/p/{project}/history/{given['item']}"))
    assert (task["mode"], task["given"]["said"], task["given"]["note"]) == ("correct", {"better": 6}, "first")
    body = {"item": given["item"], "said": {"better": 2}, "idem": "correction key"}
    assert visitor.post("/seats/correct", body).status_code == 201
    assert "A better" in visitor.get(f"/p/{project}/history").text
    assert visitor.get(f"/p/{project}/history/{'0' * 26}").status_code == 404


def test_skips_and_flags_have_reasons(house: House):
    project, [visitor], _ = ready(house)
    given = visitor.claim(project)
    flagged = visitor.post("/seats/flag", {"item": given["item"], "reason": "unsafe", "note": "see the end"})
    assert flagged.status_code == 201
    assert visitor.post("/seats/flag", {"item": given["item"], "reason": "boring"}).status_code == 422
    body = {"project": project, "item": given["item"], "token": given["token"], "idem": "skip key"}
    assert visitor.post("/seats/skip", {**body, "reason": "bored"}).status_code == 422
    answer = visitor.post("/seats/skip", {**body, "reason": "too_long"})
    assert answer.status_code == 201
    assert answer.json()["next"]["item"] != given["item"]


def test_the_safer_but_not_preferred_one_needs_a_rule(house: House):
    project, [visitor], _ = ready(house, questions=HHH, conflict_rules=("safety first", "no needless refusal"))
    given = visitor.claim(project)
    assert visitor.answer(project, given, {"harmless": 1, "overall": 7}).status_code == 422
    rule = visitor.answer(project, given, {"harmless": 1, "overall": 7}, conflict_rule="no needless refusal")
    assert rule.status_code == 201
    assert house.rows("select conflict_rule from judgment") == [("no needless refusal",)]


def test_a_day_has_an_end(house: House):
    project, [visitor], _ = ready(house, daily_cap=1)
    given = visitor.claim(project)
    assert given["left_today"] == 0
    answer = visitor.answer(project, given, {"better": 1})
    assert (answer.status_code, answer.json()["next"]["state"]) == (201, "daily_cap")
    assert visitor.claim(project)["state"] == "daily_cap"


def test_what_others_hold_is_not_there(house: House):
    project, [one, two], _ = ready(house, 2, people=2)
    given = one.claim(project)
    two.claim(project)
    taken = {"item": given["item"], "token": given["token"]}
    assert two.post("/seats/renew", taken).json()["code"] == "lease_lost"
    assert two.post("/seats/draft", {**taken, "body": "{}", "rev": 0}).json()["code"] == "lease_lost"
    assert two.answer(project, given, {"better": 1}).json()["code"] == "lease_lost"
    third = house.visitor(house.person("third"))
    for path in ("task", "history", f"history/{given['item']}", "guideline", "quiz", "board", ""):
        assert third.get(f"/p/{project}/{path}".rstrip("/")).status_code == 404
    assert third.post("/seats/claim", {"project": project}).status_code == 404
    assert third.post("/seats/flag", {"item": given["item"], "reason": "unsafe"}).status_code == 404
    assert third.post("/seats/correct", {"item": given["item"], "said": {}, "idem": "a long key"}).status_code == 404


@pytest.mark.parametrize("state", ["paused", "closed"])
def test_a_resting_project_gives_nothing(house: House, state: str):
    project, [visitor], owner = ready(house)
    owner.get(f"/p/{project}/board")
    assert owner.form(f"/p/{project}/state", state=state).status_code == 303
    assert visitor.claim(project)["state"] == "paused"


def test_many_reads_need_few_statements(house: House):
    """A page that asks the database a hundred times is a page that waits."""
    import sqlalchemy as sa

    project, [visitor], _ = ready(house)
    count = 0

    def counted(_connection, _cursor, statement: str, *_: object) -> None:
        nonlocal count
        count += statement != "begin"

    reader = house.database._reader
    sa.event.listen(reader, "before_cursor_execute", counted)
    for path in ("", f"p/{project}/task", f"p/{project}/guideline", f"p/{project}/history"):
        count = 0
        assert visitor.get(f"/{path}").status_code == 200
        assert 1 <= count <= 7, path
