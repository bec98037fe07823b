"""A program with a key: it adds items, reads the board, makes a snapshot and takes it out."""

import json
import re

import httpx
from house import House, Visitor

LINE = {"prompt": "What is a set?", "responses": ["each value once", "a list"]}


def key_of(owner: Visitor, project: str, *scopes: str) -> str:
    """A key as its owner makes it: by the page, which shows it once."""
    path = f"/p/{project}/keys"
    owner.get(path)
    made = owner.form(path, name="robot", days="7", **dict.fromkeys(scopes, "yes"))
    assert made.status_code == 200, made.text
    found = re.search(r'value="(tut_[\w-]+)"', made.text)
    assert found
    assert found[1] not in owner.get(path).text
    return found[1]


def program(house: House, secret: str) -> httpx.Client:
    visitor = house.visitor(None, Authorization=f"Bearer {secret}")
    del visitor.client.headers["Origin"]
    return visitor.client


def test_a_program_fills_a_project_and_takes_out_what_was_said(house: House):
    session = house.person("owner")
    owner, project = house.visitor(session), house.project(session)
    robot = program(house, key_of(owner, project, "items", "read", "export"))
    base = f"/api/p/{project}"
    lines = "".join(json.dumps({**LINE, "prompt": f"question {n}"}) + "\n" for n in range(3))
    added = robot.post(f"{base}/items?name=pairs.jsonl", content=lines.encode())
    assert (added.status_code, added.json()) == (201, {"items": 3})
    [person] = house.annotators(project, 1)
    for _ in range(2):
        lease = house.queue.claim(person, project)
        assert lease is not None
        house.answer(person, lease)
    board = robot.get(f"{base}/board").json()
    assert (board["answers"], board["queue"]["waiting"]) == (2, 1)
    made = robot.post(f"{base}/snapshots", json={"name": "round 1"})
    assert made.status_code == 201, made.text
    [listed] = robot.get(f"{base}/snapshots").json()["snapshots"]
    assert (listed["id"], listed["name"], listed["answers"]) == (made.json()["snapshot"], "round 1", 2)
    head, *rows = robot.get(f"{base}/snapshots/{listed['id']}/snapshot").text.splitlines()
    assert json.loads(head)["sha256"] == listed["sha256"]
    assert sorted(json.loads(row)["prompt"][0]["content"] for row in rows) == ["question 0", "question 1"]
    [(key,)] = house.rows("select id from api_key")
    logged = dict(house.rows("select action, origin from audit where origin like 'key %'"))
    assert logged == {"items.add": f"key {key}", "snapshot.make": f"key {key}"}
    refused = robot.post(f"{base}/snapshots", json={"name": "x", "gold": "yes"})
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_input")
    house.sound()


def test_an_owner_sees_and_revokes_keys(house: House):
    session = house.person("owner")
    owner, project = house.visitor(session), house.project(session)
    path = f"/p/{project}/keys"
    robot = program(house, key_of(owner, project, "read"))
    assert robot.get(f"/api/p/{project}/board").status_code == 200
    assert robot.get(f"/api/p/{project}/snapshots").status_code == 403
    [(key,)] = house.rows("select id from api_key")
    assert owner.form(f"{path}/revoke", key=key).status_code == 303
    assert robot.get(f"/api/p/{project}/board").status_code == 401
    assert "revoked" in owner.get(path).text
    for wrong in ({"name": "x"}, {"name": "x", "read": "yes", "days": "0"}, {"read": "yes", "days": "x"}):
        assert owner.form(path, **wrong).status_code == 422
