"""Every route, every role, every fault of session, word and origin: who is let in, and what all others are told.

What each route allows is written out here once more, by hand: a route that is not in the table fails, and so does one
whose permission has changed.
"""

import pytest
from house import HASHER, Visitor
from town import BY_SESSION, EVERYONE, REACHED, Town, name, send

import tutelage.web.label.application as application
from tutelage.web.label.services import Site
from tutelage.web.sessions import DAY

SIGNED_IN = EVERYONE[1:]
MAKERS = ("maker", "owner")
INSIDE = EVERYONE[3:]
JUDGES = ("annotator", "reviewer", "manager", "owner")
BOARD = ("viewer", "reviewer", "manager", "owner")
REVIEWERS = ("reviewer", "manager", "owner")
MANAGERS = ("manager", "owner")

TABLE = {
    "GET /": SIGNED_IN,
    "GET /sign-in": EVERYONE,
    "POST /sign-in": EVERYONE,
    "POST /sign-out": SIGNED_IN,
    "GET /invite/{link}": EVERYONE,
    "POST /invite/{link}": EVERYONE,
    "GET /reset/{link}": EVERYONE,
    "POST /reset/{link}": EVERYONE,
    "POST /language": EVERYONE,
    "GET /account": SIGNED_IN,
    "GET /account/data": SIGNED_IN,
    "POST /account/erase": SIGNED_IN,
    "GET /word": SIGNED_IN,
    "GET /health": EVERYONE,
    "POST /seats/claim": SIGNED_IN,
    "POST /seats/submit": SIGNED_IN,
    "POST /seats/skip": SIGNED_IN,
    "POST /seats/undo": SIGNED_IN,
    "POST /seats/draft": SIGNED_IN,
    "POST /seats/renew": SIGNED_IN,
    "POST /seats/flag": SIGNED_IN,
    "POST /seats/correct": SIGNED_IN,
    "POST /chat/ask": SIGNED_IN,
    "POST /chat/again": SIGNED_IN,
    "POST /chat/end": SIGNED_IN,
    "POST /chat/draft": SIGNED_IN,
    "GET /projects/new": MAKERS,
    "POST /projects": MAKERS,
    "GET /p/{project}": INSIDE,
    "GET /p/{project}/guideline": INSIDE,
    "POST /p/{project}/guideline": INSIDE,
    "GET /p/{project}/quiz": JUDGES,
    "POST /p/{project}/quiz": JUDGES,
    "GET /p/{project}/task": JUDGES,
    "GET /p/{project}/history": INSIDE,
    "GET /p/{project}/history/{item}": JUDGES,
    "GET /p/{project}/preview": MANAGERS,
    "GET /p/{project}/board": BOARD,
    "GET /p/{project}/items": REVIEWERS,
    "GET /p/{project}/items/{item}": REVIEWERS,
    "POST /p/{project}/items/{item}": REVIEWERS,
    "POST /p/{project}/items": MANAGERS,
    "POST /p/{project}/quiz/file": MANAGERS,
    "GET /p/{project}/sample": MANAGERS,
    "POST /p/{project}/sample": MANAGERS,
    "GET /p/{project}/sample/progress": MANAGERS,
    "POST /p/{project}/sample/stop": MANAGERS,
    "POST /p/{project}/state": MANAGERS,
    "GET /p/{project}/editor": MANAGERS,
    "POST /p/{project}/editor": MANAGERS,
    "POST /p/{project}/render": MANAGERS,
    "GET /p/{project}/people": MANAGERS,
    "GET /p/{project}/people/{account}": MANAGERS,
    "POST /p/{project}/people/invite": MANAGERS,
    "POST /p/{project}/people/reset": MANAGERS,
    "POST /p/{project}/people/change": MANAGERS,
    "POST /p/{project}/people/quiz": MANAGERS,
    "POST /p/{project}/people/what-if": MANAGERS,
    "POST /p/{project}/people/set-aside": MANAGERS,
    "POST /p/{project}/people/lift": MANAGERS,
    "GET /p/{project}/data": MANAGERS,
    "POST /p/{project}/data": MANAGERS,
    "GET /p/{project}/data/{snapshot}/{shape}": MANAGERS,
    "GET /p/{project}/log": MANAGERS,
    "POST /p/{project}/log/verify": MANAGERS,
    "GET /p/{project}/keys": MANAGERS,
    "POST /p/{project}/keys": MANAGERS,
    "POST /p/{project}/keys/revoke": MANAGERS,
}


def test_every_route_is_in_the_table():
    assert {name(route) for route in BY_SESSION} == set(TABLE)


@pytest.mark.parametrize("role", EVERYONE)
def test_who_is_let_in(town: Town, role: str):
    visitor = town.visitor(role)
    for route in BY_SESSION:
        answer = town.ask(visitor, route)
        if role in TABLE[name(route)]:
            wanted = REACHED
        elif role == "nobody":
            wanted = 303 if route.method == "GET" and route.page else 401
        elif "{project}" in route.path and role not in INSIDE:
            wanted = 404
        else:
            wanted = 403
        assert answer.status_code == wanted, f"{role}: {name(route)}"


@pytest.mark.parametrize("project", ["0" * 26, "%00", "%F0%9F%90%88"])
def test_what_is_not_there_looks_like_what_is_not_theirs(town: Town, project: str):
    visitor = town.visitor("owner")
    for route in BY_SESSION:
        if "{project}" in route.path:
            assert town.ask(visitor, route, project=project).status_code == 404, name(route)


def faults(town: Town) -> dict[str, tuple[Visitor, dict[str, str], int]]:
    """What a request of the owner lacks, and what it is told."""
    url = town.house.url

    def owner(**headers: str) -> Visitor:
        return town.visitor("owner", **headers)

    def worded(csrf: str) -> Visitor:
        visitor = owner()
        visitor.csrf = csrf
        return visitor

    no_origin = owner()
    del no_origin.client.headers["Origin"]
    tampered = owner()
    tampered.client.cookies.clear()
    tampered.client.cookies.set("session", town.sessions["owner"].token[:-1] + "x")
    return {
        "no word": (worded(""), {}, 403),
        "a wrong word": (worded("0" * 64), {}, 403),
        "another's word": (worded(town.sessions["manager"].csrf), {}, 403),
        "a word that is no letters": (worded("\xff\xfe"), {}, 403),
        "no origin": (no_origin, {}, 403),
        "another origin": (owner(), {"Origin": "https://evil.example"}, 403),
        "no plain origin": (owner(), {"Origin": "null"}, 403),
        "our origin with another scheme": (owner(), {"Origin": url.replace("http:", "https:")}, 403),
        "another port": (owner(), {"Origin": "http://127.0.0.1:1"}, 403),
        "from another site": (owner(), {"Sec-Fetch-Site": "cross-site"}, 403),
        "from a neighbour": (owner(), {"Sec-Fetch-Site": "same-site"}, 403),
        "from nowhere": (owner(), {"Sec-Fetch-Site": "none"}, 403),
        "another host": (owner(), {"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        "a cookie that was changed": (tampered, {}, 401),
    }


def test_what_lacks_something_does_nothing(town: Town):
    for fault, (visitor, headers, wanted) in faults(town).items():
        for route in BY_SESSION:
            if route.method == "GET":
                continue
            if fault == "a word that is no letters" and route.takes != "form":
                continue
            told = 403 if wanted == 401 and not route.permission.session else wanted
            answer = send(visitor, route, town.path(route), **headers)
            assert answer.status_code == told, f"{fault}: {name(route)}"


def test_a_request_from_our_own_page_is_heard(town: Town):
    visitor = town.visitor("owner")
    del visitor.client.headers["Origin"]
    for route in BY_SESSION:
        if route.method == "POST":
            answer = send(visitor, route, town.path(route), **{"Sec-Fetch-Site": "same-origin"})
            assert answer.status_code == REACHED, name(route)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "GETT"])
def test_other_methods_are_none(town: Town, method: str):
    visitor = town.visitor("owner")
    for route in application.ROUTES[::6]:
        answer = visitor.client.request(method, town.path(route), headers={"X-CSRF": visitor.csrf})
        # What is no method of HTTP at all may be turned away before it comes to a route.
        assert answer.status_code in ((400, 405) if method == "GETT" else (405,)), name(route)


def test_a_method_cannot_be_put_on(town: Town):
    visitor = town.visitor("owner")
    for header in ("X-HTTP-Method-Override", "X-Method-Override"):
        assert visitor.client.get("/sign-out", headers={header: "POST"}).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "//p/{}/board", "/p//{}/board", "/p/{}/board/", "/p/{}/board.", "/P/{}/board", "/p/{}/BOARD",
        "/p/{}/x/..;/board",
        "/p/{}/board%00", "/p/{}%2fboard", "/p/{}/board;x", "/static/../p/{}/board", "/static/%2e%2e/p/{}/board",
        "/static/..%2f..%2fschema.py", "/static/label/../../schema.py", "/static/%2e%2e/%2e%2e/label/gate.py",
    ],
)  # fmt: skip
def test_tricks_with_paths_lead_nowhere(town: Town, path: str):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", int(town.house.url.rsplit(":", 1)[1]))
    connection.request("GET", path.format(town.project))
    status = connection.getresponse().status
    connection.close()
    assert status in (303, 404), path
    if status == 303:
        assert "board" in path


def test_an_old_session_opens_nothing(town: Town):
    visitor = town.visitor("owner")
    now = town.house.clock.now
    try:
        town.house.clock.now += 15 * DAY
        for route in application.ROUTES:
            if route.permission.session:
                answer = town.ask(visitor, route)
                assert answer.status_code in (303, 401), name(route)
                assert answer.status_code != 303 or answer.headers["location"].startswith("/sign-in")
    finally:
        town.house.clock.now = now


@pytest.mark.parametrize("role", ["nobody", "stranger", "annotator", "owner"])
def test_nothing_breaks_whatever_is_asked(living: Town, role: str):
    """With empty and with senseless bodies; no answer is a fault of the server."""
    visitor = living.visitor(role)
    for route in application.ROUTES:
        if route.path in ("/account/erase", "/sign-out"):
            continue
        for changed in ({}, {"item": "%00", "link": "%00", "account": "%00", "snapshot": "%00"}):
            answer = living.ask(visitor, route, **changed)
            assert answer.status_code < 500, f"{role}: {name(route)} {changed}: {answer.text[:200]}"
            if answer.status_code in (401, 403, 404, 409, 410, 413, 415, 422, 429) and not route.page:
                assert set(answer.json()) == {"code", "message", "retry_after"}


def test_the_site_can_be_made_with_the_weakest_passwords_in_tests_only():
    assert HASHER.memory_cost == 8
    assert Site.__init__.__defaults__[0].memory_cost >= 19_456
