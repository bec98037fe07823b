"""Every route for programs, every key: what it opens, and what it does not."""

import pytest
from house import Visitor
from town import BY_KEY, BY_SESSION, EVERYONE, REACHED, Town, name

from tutelage.web.keys import Keys, NewKey
from tutelage.web.sessions import DAY

KEYED = {
    "POST /api/p/{project}/items": "items",
    "GET /api/p/{project}/board": "read",
    "GET /api/p/{project}/snapshots": "export",
    "POST /api/p/{project}/snapshots": "export",
    "GET /api/p/{project}/snapshots/{snapshot}/{shape}": "export",
}
"""What a program may ask, and for what its key must be."""
SCOPES = ("read", "items", "export")


def test_every_route_for_programs_is_in_the_table():
    assert {name(route) for route in BY_KEY} == set(KEYED)


def keyed(town: Town, secret: str, **headers: str) -> Visitor:
    """A program: it has a key, and neither a cookie nor an origin."""
    visitor = town.house.visitor(None, **{"Authorization": f"Bearer {secret}", **headers})
    if "Origin" not in headers:
        del visitor.client.headers["Origin"]
    return visitor


def key(town: Town, *scopes: str, by: str = "owner", project: str = "", days: int = 90) -> NewKey:
    keys = Keys(town.house.database)
    return keys.make(town.sessions[by].account, project or town.project, "robot", scopes, days)  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", SCOPES)
def test_a_key_opens_what_it_is_for(town: Town, scope: str):
    program = keyed(town, key(town, scope).secret)
    for route in BY_KEY:
        wanted = REACHED if KEYED[name(route)] == scope else 403
        assert town.ask(program, route).status_code == wanted, name(route)


def test_a_key_opens_no_page_and_a_session_no_door_for_keys(town: Town):
    program = keyed(town, key(town, *SCOPES).secret)
    for route in BY_SESSION:
        if route.permission.session:
            assert town.ask(program, route).status_code in (303, 401, 403), name(route)
    for role in EVERYONE:
        for route in BY_KEY:
            assert town.ask(town.visitor(role), route).status_code == 401, f"{role}: {name(route)}"


def test_keys_that_open_nothing(town: Town):
    good, gone = key(town, *SCOPES), key(town, *SCOPES)
    other = town.house.project(town.sessions["owner"], name="other")
    Keys(town.house.database).revoke(town.sessions["owner"].account, town.project, gone.id)
    bad = {
        "none": ("-", 401), "cut": (good.secret[:-1], 401), "no letters": ("%00 ~;=", 401),
        "revoked": (gone.secret, 401),
        "the session's own token": (town.sessions["owner"].token, 401), "its prefix": (good.secret[:12], 401),
        "another project's": (key(town, *SCOPES, project=other).secret, 404),
    }  # fmt: skip
    for fault, (secret, wanted) in bad.items():
        program = keyed(town, secret)
        for route in BY_KEY:
            assert town.ask(program, route).status_code == wanted, f"{fault}: {name(route)}"
    for scheme in ("Basic ", "Token ", "", "Bearer"):
        program = keyed(town, good.secret, Authorization=f"{scheme}{good.secret}")
        assert {town.ask(program, route).status_code for route in BY_KEY} == {401}, scheme
    now = town.house.clock.now
    try:
        town.house.clock.now += 91 * DAY
        assert {town.ask(keyed(town, good.secret), route).status_code for route in BY_KEY} == {401}
    finally:
        town.house.clock.now = now


def test_a_key_needs_no_word_and_only_our_name(town: Town):
    secret = key(town, *SCOPES).secret
    for headers, wanted in (
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, REACHED),
        ({"Host": "evil.example"}, 403),
    ):
        for route in BY_KEY:
            assert town.ask(keyed(town, secret, **headers), route).status_code == wanted, f"{headers}: {name(route)}"


def test_nothing_breaks_whatever_a_program_asks(living: Town):
    program = keyed(living, key(living, *SCOPES).secret)
    for route in BY_KEY:
        for changed in ({}, {"snapshot": "%00"}, {"shape": "no such"}, {"project": "%00"}):
            answer = living.ask(program, route, **changed)
            assert answer.status_code < 500, f"{name(route)} {changed}: {answer.text[:200]}"
            if answer.status_code >= 400:
                assert set(answer.json()) == {"code", "message", "retry_after"}
