"""Coming in: cookies, the word of the forms, limits, links, and nothing that tells who has an account."""

import json
import re

import httpx
import pytest
from house import House
from site_of_tests import PASSWORD

from tutelage.errors import SettingsError
from tutelage.web.label.gate import Gate
from tutelage.web.label.visit import ANYONE, MAX_BODY, SIGNED_IN, Route, check, json_object
from tutelage.web.refusal import Refusal


def test_a_stranger_is_asked_to_sign_in_and_comes_to_where_they_wanted(house: House):
    session = house.person("a")
    visitor = house.visitor()
    answer = visitor.get("/account")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/account")
    visitor.get("/sign-in?next=/account")
    answer = visitor.form("/sign-in", email="a@example.org", password=PASSWORD, next="/account")
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    assert visitor.get("/account").status_code == 200
    assert visitor.client.cookies["session"] != session.token


@pytest.mark.parametrize("next", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1", "/\n"])
def test_signing_in_leads_nowhere_else(house: House, next: str):
    house.person("a")
    visitor = house.visitor()
    visitor.get("/sign-in")
    answer = visitor.form("/sign-in", email="a@example.org", password=PASSWORD, next=next)
    assert answer.headers["location"] == "/"


def test_the_session_is_a_new_one_and_the_old_one_ends(house: House):
    house.person("a")
    visitor = house.visitor()
    visitor.client.cookies.set("session", "fixed" * 8)
    visitor.get("/sign-in")
    visitor.form("/sign-in", email="a@example.org", password=PASSWORD)
    token = visitor.client.cookies.get("session", domain="127.0.0.1") or ""
    assert token not in ("", "fixed" * 8)
    visitor.client.cookies.clear()
    visitor.client.cookies.set("session", token)
    visitor.get("/")
    assert visitor.form("/sign-out").status_code == 303
    visitor.client.cookies.set("session", token)
    assert visitor.get("/").status_code == 303


def test_cookies_are_out_of_reach(house: House):
    house.person("a")
    visitor = house.visitor()
    visitor.get("/sign-in")
    cookie = visitor.form("/sign-in", email="a@example.org", password=PASSWORD).headers.get_list("set-cookie")[0]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie
    gate = Gate("https://label.example.org")
    assert gate.session_cookie == "__Host-session"
    assert gate.secure
    response = __import__("starlette.responses").responses.Response()
    gate.set_cookie(response, gate.session_cookie, "x")
    assert "Secure" in response.headers["set-cookie"]


def test_nobody_learns_who_has_an_account(house: House):
    house.person("known")
    answers: list[httpx.Response] = []
    for email in ("known@example.org", "unknown@example.org"):
        visitor = house.visitor()
        visitor.get("/sign-in")
        answers.append(visitor.form("/sign-in", email=email, password="not this one"))
    assert [answer.status_code for answer in answers] == [401, 401]
    plain = [re.sub(r'value="\w{64}"|\w+@example.org', "", answer.text) for answer in answers]
    assert plain[0] == plain[1]
    assert not any("set-cookie" in answer.headers for answer in answers)


def test_guessing_is_slowed_down_even_for_nobody(house: House):
    visitor = house.visitor()
    visitor.get("/sign-in")
    statuses = [visitor.form("/sign-in", email="x@example.org", password=str(n)).status_code for n in range(8)]
    assert statuses[:5] == [401] * 5
    assert statuses[-1] == 429
    assert int(visitor.form("/sign-in", email="x@example.org", password="y").headers["retry-after"]) >= 1


def test_an_invitation_works_once(house: House):
    owner = house.person("owner")
    project = house.project(owner)
    link = house.accounts.invite(owner.account, project, "annotator")
    visitor = house.visitor()
    assert "Annotator" in visitor.get(f"/invite/{link}").text
    weak = visitor.form(f"/invite/{link}", email="new@example.org", name="New", password="password1234")
    assert weak.status_code == 422
    assert "among the first" in weak.text
    answer = visitor.form(f"/invite/{link}", email="new@example.org", name="New", password=PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/p/{project}")
    assert visitor.get(f"/p/{project}").headers["location"] == f"/p/{project}/guideline"
    assert house.visitor().get(f"/invite/{link}").status_code == 410
    other = house.visitor(house.person("other"))
    assert other.form(f"/invite/{link}").status_code == 410


def test_who_has_an_account_comes_in_with_it(house: House):
    owner, other = house.person("owner"), house.person("other")
    project = house.project(owner)
    visitor = house.visitor(other)
    link = house.accounts.invite(owner.account, project, "reviewer")
    visitor.get(f"/invite/{link}")
    assert visitor.form(f"/invite/{link}").headers["location"] == f"/p/{project}"
    # The rights have changed: the next page comes with a new token, and the old one is worth nothing.
    old = visitor.client.cookies["session"]
    page = visitor.get("/")
    assert page.status_code == 200
    assert re.search("session=([^;]+)", page.headers["set-cookie"])[1] != old  # type: ignore[index]
    assert house.visitor(other).get("/").status_code == 303


def test_a_reset_link_sets_a_password_once_and_ends_all_sessions(house: House):
    owner = house.person("owner")
    project = house.project(owner)
    session = house.member(owner, project, "member")
    link = house.accounts.invite_reset(owner.account, project, session.account)
    visitor = house.visitor()
    visitor.get(f"/reset/{link}")
    assert visitor.form(f"/reset/{link}", password="another tram 85 hums").status_code == 303
    assert house.visitor(session).get("/").status_code == 303
    assert visitor.form(f"/reset/{link}", password="another tram 86 hums").status_code == 410
    assert house.visitor().get(f"/invite/{link}").status_code == 410


def test_the_pages_speak_the_language_that_was_asked_for(house: House):
    visitor = house.visitor()
    assert "登录" in visitor.get("/sign-in", **{"Accept-Language": "zh-CN,zh;q=0.9"}).text
    assert "Sign in" in visitor.get("/sign-in", **{"Accept-Language": "de"}).text
    assert visitor.form("/language", language="zh", next="/sign-in").headers["location"] == "/sign-in"
    assert '<html lang="zh-CN">' in visitor.get("/sign-in").text


def test_one_takes_ones_data_along_and_goes(house: House):
    owner = house.person("owner")
    project = house.project(owner)
    house.fill(owner, project, 1)
    house.answer(owner.account, house.queue.claim(owner.account, project), 6)
    visitor = house.visitor(owner)
    data = visitor.get("/account/data").json()
    assert (data["email"], data["judgements"][0]["question"]) == ("owner@example.org", "better")
    visitor.get("/account")
    assert visitor.form("/account/erase").status_code == 422
    assert visitor.form("/account/erase", sure="yes").status_code == 303
    assert visitor.get("/").status_code == 303
    assert house.rows("select name, email, status from account") == [("", None, "erased")]
    house.sound()


def test_the_pages_are_fenced_in(house: House):
    for path in ("/sign-in", "/nowhere", "/static/label/label.css", "/health"):
        headers = house.visitor().get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers
    assert house.visitor().get("/sign-in").headers["cache-control"] == "no-store"


def test_the_site_has_its_own_name(house: House):
    assert house.visitor(Host="label.evil.example").get("/sign-in").status_code == 403
    assert house.visitor(Host="localhost:80").get("/sign-in").status_code == 200
    assert house.visitor(Host="[").get("/sign-in").status_code == 403


def test_a_route_says_who_may_use_it():
    async def endpoint(_visit):
        raise AssertionError

    wrong = [
        Route("GET", "/x", None, endpoint),  # type: ignore[arg-type]
        Route("GET", "/p/{project}/x", SIGNED_IN, endpoint),
        Route("POST", "/x", SIGNED_IN, endpoint),
        Route("GET", "/x", SIGNED_IN, endpoint, takes="form"),
    ]
    for route in wrong:
        with pytest.raises(SettingsError, match="route"):
            check([route])
    with pytest.raises(SettingsError, match="twice"):
        check([Route("GET", "/x/{a}", ANYONE, endpoint), Route("GET", "/x/{b}", ANYONE, endpoint)])


def test_bodies_are_of_one_kind_and_not_long(house: House):
    visitor = house.visitor(house.person("a"))
    form = visitor.client.post("/seats/claim", data={"project": "x"}, headers={"X-CSRF": visitor.csrf})
    assert (form.status_code, form.json()["code"]) == (415, "wrong_type")
    long = visitor.post("/seats/claim", {"project": "x" * MAX_BODY})
    assert (long.status_code, long.json()["code"]) == (413, "too_large")
    assert visitor.client.post("/sign-out", json={}).status_code == 415
    assert (
        visitor.client.post("/sign-out", data={"csrf": visitor.csrf, **{str(n): "" for n in range(300)}}).status_code
        == 422
    )


@pytest.mark.parametrize(
    "raw",
    [
        "[" * 10**5, '{"a":' * 100 + "1" + "}" * 100, '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": Infinity}', "[]", "1",
        "", '{"a": 1', '"\\ud800"', "\x00",
    ],
)  # fmt: skip
def test_bad_json_is_refused(raw: str):
    with pytest.raises(Refusal):
        json_object(raw.encode(errors="surrogatepass"))


def test_brackets_in_a_text_are_not_deep():
    assert json_object(json.dumps({"a": "[{" * 100}).encode()) == {"a": "[{" * 100}
