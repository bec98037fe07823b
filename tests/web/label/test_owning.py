"""What an owner does: a project from a file, people, items, decisions, the log, and what leaves."""

import json

import pytest
from house import House, Visitor, task_of
from site_of_tests import new_item

QUESTION = {
    "key": "better", "label": "Which is <b>better</b>?", "kind": "compare", "dimension": "overall", "low": 1, "high": 5,
    "per_response": False, "required": True,
}  # fmt: skip
NEW = {
    "name": "Pairs",
    "kind": "compare",
    "questions": [QUESTION],
    "guideline": "# Be fair",
    "overlap": 2,
    "gold_share": 0,
}


def rows(count: int, **more) -> bytes:
    lines = [{"prompt": f"question {n}", "responses": [f"left {n}", f"right {n}"], **more} for n in range(count)]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def made(house: House, **changes) -> tuple[str, Visitor]:
    owner = house.owner("owner")
    answer = owner.post("/projects", {**NEW, **changes})
    assert answer.status_code == 201, answer.text
    return answer.json()["project"], owner


def judged(house: House, project: str) -> list[str]:
    """Two people who have answered all there is, the first for the left and the other for the right; and a third."""
    people = house.annotators(project, 3)
    for number, account in enumerate(people[:2]):
        while lease := house.queue.claim(account, project):
            said = 1 if lease.shown[0] == (0 if number == 0 else 1) else 7
            house.answer(account, lease, said)
    return people


def test_a_project_is_made_from_a_page_and_a_file(house: House):
    owner = house.owner("owner")
    page = owner.get("/projects/new")
    assert "Helpful, honest, harmless" in page.text
    project, _ = made_by(owner)
    assert house.rows("select state, name from project") == [("paused", "Pairs")]
    added = owner.file(f"/p/{project}/items", "pairs.jsonl", rows(4))
    assert (added.status_code, added.json()) == (201, {"items": 4})
    assert house.rows("select distinct need from item") == [(2,)]
    task = task_of(owner.get(f"/p/{project}/preview"))
    assert (task["mode"], task["given"]["responses"][0]["raw"]) == ("preview", "left 0")
    assert task["labels"] == {"better": "Which is <b>better</b>?"}
    owner.get(f"/p/{project}/board")
    assert owner.form(f"/p/{project}/state", state="open").headers["location"] == f"/p/{project}/board"
    assert owner.form(f"/p/{project}/state", state="gone").status_code == 422
    assert owner.claim(project)["state"] == "item"


def made_by(owner: Visitor, **changes) -> tuple[str, Visitor]:
    return owner.post("/projects", {**NEW, **changes}).json()["project"], owner


@pytest.mark.parametrize(
    "changes",
    [
        {"questions": []}, {"questions": "x"}, {"questions": [1]}, {"questions": [{**QUESTION, "kind": "vote"}]},
        {"questions": [{**QUESTION, "key": "two words"}]}, {"questions": [{**QUESTION, "low": "1"}]},
        {"questions": [QUESTION, QUESTION]}, {"questions": [{**QUESTION, "kind": "scale", "low": 1, "high": 1}]},
        {"name": ""}, {"name": 3}, {"guideline": "  "}, {"overlap": 0}, {"overlap": True}, {"gold_share": 2},
        {"gold_share": "x"}, {"daily_cap": -1}, {"lease_minutes": 0}, {"conflict_rules": [1]}, {"per_answer": -1},
        {"name": "x" * 300}, {"name": "\x00"},
    ],
)  # fmt: skip
def test_a_wrong_project_is_not_made(house: House, changes: dict):
    owner = house.owner("owner")
    answer = owner.post("/projects", {**NEW, **changes})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_input")
    assert house.rows("select count(*) from project") == [(0,)]


def test_what_is_sent_beside_the_form_does_nothing(house: House):
    """Mass assignment: fields that only the server sets."""
    project, owner = made(house, state="open", id="mine", owner=False, secret="x", tail=99)
    assert house.rows("select state, tail from project") == [("paused", 0)]
    link = house.accounts.invite(owner.account, project, "viewer")
    visitor = house.visitor()
    visitor.get(f"/invite/{link}")
    fields = {"email": "v@example.org", "name": "V", "password": "violet tram 58 sings", "role": "owner", "owner": "1"}
    visitor.form(f"/invite/{link}", **fields)
    assert house.rows("select role from membership order by role") == [("owner",), ("viewer",)]
    assert house.rows("select count(*) from account where owner") == [(1,)]


def test_people_are_invited_change_and_rest(house: House):
    project, owner = made(house)
    owner.get(f"/p/{project}/people")
    page = owner.form(f"/p/{project}/people/invite", role="annotator")
    link = page.text.split("/invite/")[1].split('"')[0]
    visitor = house.visitor()
    visitor.get(f"/invite/{link}")
    visitor.form(f"/invite/{link}", email="n@example.org", name="<i>N</i>", password="violet tram 58 sings")
    account = house.rows("select id from account where not owner")[0][0]
    page = owner.get(f"/p/{project}/people")
    assert "&lt;i&gt;N&lt;/i&gt;" in page.text
    assert "<i>" not in page.text
    assert owner.form(f"/p/{project}/people/change", account=account, state="paused").status_code == 303
    assert visitor.get(f"/p/{project}/task").status_code == 403
    assert owner.form(f"/p/{project}/people/change", account=account, state="active").status_code == 303
    assert owner.form(f"/p/{project}/people/change", account=account, role="king").status_code == 422
    assert owner.form(f"/p/{project}/people/change", account=owner.account, role="viewer").status_code == 409
    reset = owner.form(f"/p/{project}/people/reset", account=account)
    assert "/reset/" in reset.text


def test_a_manager_does_not_make_owners(house: House):
    project, owner = made(house)
    session = house.member(owner.session, project, "manager", "manager")
    manager = house.visitor(session)
    manager.get(f"/p/{project}/people")
    assert manager.form(f"/p/{project}/people/invite", role="owner").status_code == 403
    assert manager.form(f"/p/{project}/people/invite", role="viewer").status_code == 200
    assert manager.form(f"/p/{project}/people/change", account=owner.account, state="paused").status_code == 403


def test_answers_are_set_aside_and_counted_again(house: House):
    project, owner = made(house)
    owner.file(f"/p/{project}/items", "x.jsonl", rows(3))
    house.projects.set_state(owner.account, project, "open")
    accounts = judged(house, project)
    owner.get(f"/p/{project}/people")
    page = owner.form(f"/p/{project}/people/what-if", account=accounts[0], since="0")
    assert "What would change" in page.text
    done = owner.form(f"/p/{project}/people/set-aside", account=accounts[0], since="0", reason="careless")
    assert done.status_code == 303
    [(id, lifted)] = house.rows("select id, lifted_at from set_aside")
    assert lifted is None
    assert "careless" in owner.get(f"/p/{project}/people").text
    assert owner.form(f"/p/{project}/people/lift", id=id).status_code == 303
    assert owner.form(f"/p/{project}/people/lift", id=id).status_code == 404
    assert owner.form(f"/p/{project}/people/set-aside", account="nobody", since="0").status_code == 404
    assert owner.form(f"/p/{project}/people/set-aside", account=accounts[0], since="x").status_code == 422
    assert [name for name in house.actions() if name.startswith("answers")] == ["answers.set_aside", "answers.lift"]
    house.sound()


def test_items_are_decided_sent_back_and_made_known(house: House):
    project, owner = made(house)
    owner.file(f"/p/{project}/items", "x.jsonl", rows(3))
    house.projects.set_state(owner.account, project, "open")
    *_, fresh = judged(house, project)
    ids = [row[0] for row in house.rows("select id from item order by number")]
    for which in ("disputed", "flagged", "open", "closed", "gold", "all", "no such"):
        assert owner.get(f"/p/{project}/items?show={which}").status_code == 200
    page = owner.get(f"/p/{project}/items/{ids[0]}")
    assert task_of(page)["mode"] == "decide"
    assert "A much better" in page.text
    assert "B much better" in page.text
    assert "person " not in page.text, "reviewers see letters, not people"
    decided = owner.post(f"/p/{project}/items/{ids[0]}", {"kind": "decide", "said": {"better": 1}, "note": "clear"})
    assert decided.status_code == 201
    assert owner.post(f"/p/{project}/items/{ids[1]}", {"kind": "send_back"}).status_code == 201
    assert owner.post(f"/p/{project}/items/{ids[2]}", {"kind": "gold", "said": {"better": 7}}).status_code == 201
    assert owner.post(f"/p/{project}/items/{ids[2]}", {"kind": "gold", "said": {}}).status_code == 422
    assert owner.post(f"/p/{project}/items/{ids[2]}", {"kind": "forget", "said": {}}).status_code == 422
    assert house.rows("select state, need, lane from item order by number") == [
        ("closed", 2, 1), ("open", 3, 1), ("open", 1_000_000, 2),
    ]  # fmt: skip
    assert [row[0] for row in house.rows("select kind from decision order by number")] == [
        "decide",
        "send_back",
        "gold",
    ]
    assert "Decided" in owner.get(f"/p/{project}/items/{ids[0]}").text
    # Nobody looks behind them: what is asked again stands at the end of its line.
    places = [row[0] for row in house.rows("select position from item order by number")]
    assert min(places[1:]) > 3
    # Whoever has not judged it yet is asked.
    lease = house.queue.claim(fresh, project)
    assert lease is not None
    assert lease.item == ids[1]
    house.sound()


def test_an_item_of_another_project_is_not_there(house: House):
    project, owner = made(house)
    other = house.project(owner.session)
    [id] = house.fill(owner.session, other, 1)
    assert owner.get(f"/p/{project}/items/{id}").status_code == 404
    assert owner.post(f"/p/{project}/items/{id}", {"kind": "decide", "said": {"better": 1}}).status_code == 404
    assert owner.get(f"/p/{other}/items/{id}").status_code == 200


def test_the_log_tells_and_is_verified(house: House):
    project, owner = made(house)
    page = owner.get(f"/p/{project}/log")
    assert "project.make" in page.text
    assert "The log holds" in owner.form(f"/p/{project}/log/verify").text
    house.database.write(lambda t: t.connection.exec_driver_sql("drop trigger audit_no_update"))
    house.database.write(lambda t: t.connection.exec_driver_sql("update audit set actor = 'x' where seq = 3"))
    page = owner.form(f"/p/{project}/log/verify")
    assert "row 3 has been changed" in page.text


def test_the_log_of_one_project_says_nothing_of_another(house: House):
    project, owner = made(house)
    house.project(house.person("else"), name="canary")
    stranger = house.rows("select id from account where name = 'else'")[0][0]
    page = owner.get(f"/p/{project}/log").text
    assert stranger[-6:] not in page
    assert "else" not in page.replace("else ", "")


def test_the_editor_shows_a_text_as_it_will_be(house: House):
    project, owner = made(house)
    shown = owner.post(f"/p/{project}/render", {"text": "**b** <script>alert(1)</script> ![x](http://evil.example/x)"})
    html = shown.json()["html"]
    assert "<strong>b</strong>" in html
    assert "<script" not in html
    assert "<img" not in html


def test_snapshots_are_made_compared_and_taken_out(house: House):
    project, owner = made(house)
    owner.file(f"/p/{project}/items", "x.jsonl", rows(3))
    house.projects.set_state(owner.account, project, "open")
    judged(house, project)
    owner.get(f"/p/{project}/data")
    for name in ("one", "two"):
        assert owner.form(f"/p/{project}/data", name=name, min_answers="1").status_code == 303
    assert owner.form(f"/p/{project}/data", name="x", min_answers="0").status_code == 422
    page = owner.get(f"/p/{project}/data")
    ids = [part.split("/")[0] for part in page.text.split(f"/p/{project}/data/")[1:]]
    one, two = dict.fromkeys(ids)
    assert owner.get(f"/p/{project}/data?older={one}&newer={two}").status_code == 200
    taken = owner.get(f"/p/{project}/data/{one}/preference")
    assert taken.status_code == 200
    assert "attachment" in taken.headers["content-disposition"]
    assert "question 0" in taken.text
    assert owner.get(f"/p/{project}/data/{one}/no_such_shape").status_code == 404
    assert owner.get(f"/p/{project}/data/{'0' * 26}/preference").status_code == 404
    other = house.owner("other")
    other.post("/projects", NEW)
    mine = house.rows("select id from project order by created desc, id desc")[0][0]
    foreign = other.get(f"/p/{mine}/data/{one}/preference")
    assert foreign.status_code == 404


def test_only_some_of_a_file_are_asked_about(house: House):
    project, owner = made(house)
    rows = [{"prompt": f"q{n}", "responses": ["a", "b"], "worth": n} for n in range(20)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    answer = owner.file(f"/p/{project}/items", "x.jsonl", content, ask="5")
    assert (answer.status_code, answer.json()) == (201, {"items": 5})
    assert house.rows("select count(*) from item where p_select > 0 and p_select <= 1") == [(5,)]
    for ask in ("0", "-1", "many", "21"):
        assert owner.file(f"/p/{project}/items", "x.jsonl", content, ask=ask).status_code == 422
    assert house.rows("select count(*) from item") == [(5,)]


def test_a_file_of_items_is_told_what_is_wrong_with_it(house: House):
    project, owner = made(house)
    bad = owner.file(f"/p/{project}/items", "x.jsonl", b'{"prompt": "q", "responses": ["only one"]}\n')
    assert (bad.status_code, bad.json()["code"]) == (422, "bad_input")
    assert owner.file(f"/p/{project}/items", "x.jsonl", b"\xff\xfe not json").status_code == 422
    assert house.rows("select count(*) from item") == [(0,)]
    house.projects.add_items(owner.account, project, [new_item(1)])
