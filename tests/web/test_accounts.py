import threading

import argon2
import pytest
import sqlalchemy as sa
from site_of_tests import PASSWORD, Site, code, refused

from tutelage.web import audit, passwords, schema, sessions
from tutelage.web.refusal import Refusal
from tutelage.web.sessions import Sessions


def whole_database(site: Site) -> str:
    """All text in all rows of all tables."""
    tables = schema.metadata.tables.values()
    return repr(site.database.read(lambda c: [list(c.execute(sa.select(table))) for table in tables]))


def test_a_first_owner_comes_by_a_link_that_works_once(site: Site):
    link = site.accounts.invite_owner()
    session = site.accounts.accept(link, "Anna@Example.org", PASSWORD, name="  Anna  安娜 ", locale="zh")
    assert (session.name, session.owner, session.locale) == ("Anna 安娜", True, "zh")
    assert site.sessions.session(session.token) == session
    assert code(site.accounts.accept, link, "eve@example.org", PASSWORD, name="Eve") == "bad_link"
    assert code(site.accounts.accept, "made up", "eve@example.org", PASSWORD, name="Eve") == "bad_link"
    assert site.actions() == ["link.owner", "account.make", "account.owner", "session.make"]


def test_a_link_is_old_after_seven_days(site: Site):
    link = site.accounts.invite_owner()
    site.clock.pass_(7 * 24 * 60)
    assert code(site.accounts.accept, link, "anna@example.org", PASSWORD, name="Anna") == "bad_link"


def test_a_link_given_to_many_lets_one_in(site: Site):
    link = site.accounts.invite_owner()
    inside: list[str] = []
    refusals: list[str] = []

    def come(number: int) -> None:
        try:
            site.accounts.accept(link, f"p{number}@example.org", PASSWORD, name=f"p{number}")
            inside.append(str(number))
        except Refusal as refusal:
            refusals.append(refusal.code)

    threads = [threading.Thread(target=come, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(inside), refusals) == (1, ["bad_link"] * 9)
    assert site.database.read(lambda c: c.scalar(sa.select(sa.func.count()).select_from(schema.account))) == 1


def test_one_address_is_one_person(site: Site):
    anna = site.person("anna")
    link = site.accounts.invite(anna.account, site.bare_project(anna), "viewer")
    assert code(site.accounts.accept, link, "ANNA@example.ORG", "another long password", name="A") == "sign_in"
    other = site.person("other")
    again = site.accounts.invite(anna.account, "P", "viewer")
    assert site.accounts.accept(again, "ｏther@example.org", PASSWORD).account == other.account
    assert site.accounts.member(other.account, "P").role == "viewer"


def test_nothing_secret_is_in_the_database(site: Site):
    anna = site.person("anna")
    link = site.accounts.invite(anna.account, site.bare_project(anna), "viewer")
    held = whole_database(site)
    for secret in (anna.token, anna.csrf, link, PASSWORD):
        assert secret not in held
    assert "$argon2id$" in held


def test_signing_in_gives_a_new_session_and_ends_the_old_one(site: Site):
    first = site.person("anna")
    second = site.sessions.sign_in("anna@example.org", PASSWORD, old=first.token)
    assert second.token != first.token
    assert code(site.sessions.session, first.token) == "sign_in"
    site.sessions.sign_out(second.token)
    site.sessions.sign_out(second.token)
    assert code(site.sessions.session, second.token) == "sign_in"
    assert code(site.sessions.session, "") == "sign_in"


def test_a_session_ends_when_it_idles_and_in_the_end(site: Site):
    session = site.person("anna")
    for _ in range(2):
        site.clock.pass_(11 * 60)
        assert site.sessions.session(session.token).account == session.account
    site.clock.pass_(12 * 60)
    assert code(site.sessions.session, session.token) == "sign_in"
    session = site.sessions.sign_in("anna@example.org", PASSWORD)
    for _ in range(33):
        site.clock.pass_(10 * 60)
        site.sessions.session(session.token)
    site.clock.pass_(6.1 * 60)
    assert code(site.sessions.session, session.token) == "sign_in"


def test_a_form_brings_the_secret_of_its_session(site: Site):
    anna, ben = site.person("anna"), site.person("ben")
    assert anna.brings(anna.csrf)
    for wrong in (ben.csrf, "", anna.token, "ü", anna.csrf[:-1]):
        assert not anna.brings(wrong)


def test_whoever_is_unknown_looks_like_a_wrong_password(site: Site):
    site.person("anna")
    wrong = refused(site.sessions.sign_in, "anna@example.org", "not the password", address="1.2.3.4")
    assert wrong.code == "sign_in"
    unknown = refused(site.sessions.sign_in, "nobody@example.org", "not the password", address="1.2.3.4")
    assert unknown.code == "sign_in"
    odd = refused(site.sessions.sign_in, "\x00\ud800", "\x00", address="1.2.3.4")
    assert odd.code == "sign_in"
    assert str(wrong) == str(unknown) == str(odd)


def test_an_unknown_person_costs_one_hash_as_well(site: Site, monkeypatch: pytest.MonkeyPatch):
    """Same time by same work: measured times would be luck on a busy machine."""
    site.person("anna")
    checks: list[str] = []
    monkeypatch.setattr(
        Sessions, "_matches", lambda self, hashed, _password: checks.append(hashed) or self._hasher is None
    )  # fmt: skip
    before = len(site.actions())
    for who in ("anna", "nobody"):
        assert code(site.sessions.sign_in, f"{who}@example.org", "wrong") == "sign_in"
    assert len(checks) == 2
    parameters = [argon2.extract_parameters(hashed) for hashed in checks]
    assert parameters[0] == parameters[1]
    assert site.actions()[before:] == ["session.refuse"] * 2


def test_guessing_is_slowed_down_for_known_and_unknown_alike(site: Site):
    site.person("anna")
    waits: dict[str, list[int | None]] = {"anna": [], "nobody": []}
    for who, seen in waits.items():
        for _ in range(5):
            assert code(site.sessions.sign_in, f"{who}@example.org", "wrong", address=who) == "sign_in"
        for _ in range(3):
            refusal = refused(site.sessions.sign_in, f"{who}@example.org", PASSWORD, address=who)
            assert refusal.code == "slow_down"
            seen.append(refusal.retry_after)
            site.clock.now += (refusal.retry_after or 0) * sessions.SECOND
            assert code(site.sessions.sign_in, f"{who}@example.org", "wrong", address=who) == "sign_in"
    assert waits["anna"] == waits["nobody"] == [1, 2, 4]
    site.clock.pass_(15)
    assert site.sessions.sign_in("anna@example.org", PASSWORD, address="anna").name == "anna"
    assert code(site.sessions.sign_in, "anna@example.org", "wrong", address="anna") == "sign_in"


def test_one_address_that_guesses_at_many_people_is_slowed_down(site: Site):
    site.person("anna")
    for number in range(20):
        assert code(site.sessions.sign_in, f"p{number}@example.org", "wrong", address="9.9.9.9") == "sign_in"
    assert code(site.sessions.sign_in, "anna@example.org", PASSWORD, address="9.9.9.9") == "slow_down"
    assert site.sessions.sign_in("anna@example.org", PASSWORD, address="8.8.8.8").name == "anna"


def test_a_success_does_not_wash_an_address_clean(site: Site):
    site.person("anna")
    for number in range(19):
        assert code(site.sessions.sign_in, f"p{number}@example.org", "wrong", address="9.9.9.9") == "sign_in"
    site.sessions.sign_in("anna@example.org", PASSWORD, address="9.9.9.9")
    assert code(site.sessions.sign_in, "p@example.org", "wrong", address="9.9.9.9") == "sign_in"
    assert code(site.sessions.sign_in, "anna@example.org", PASSWORD, address="9.9.9.9") == "slow_down"


def test_thirty_guesses_at_once_are_thirty_guesses(site: Site):
    site.person("anna")
    codes: list[str] = []

    def guess() -> None:
        try:
            site.sessions.sign_in("anna@example.org", "wrong")
        except Refusal as refusal:
            codes.append(refusal.code)

    threads = [threading.Thread(target=guess) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == ["sign_in"] * 5 + ["slow_down"] * 25


def test_a_clock_that_went_back_locks_nobody_out(site: Site):
    site.person("anna")
    for _ in range(5):
        assert code(site.sessions.sign_in, "anna@example.org", "wrong") == "sign_in"
    site.clock.pass_(-24 * 60)
    assert site.sessions.sign_in("anna@example.org", PASSWORD).name == "anna"


def test_rights_change_the_token(site: Site):
    anna = site.person("anna")
    project = site.bare_project(anna)
    ben = site.member(anna, project, "ben")
    site.accounts.set_member(anna.account, project, ben.account, role="reviewer")
    assert site.sessions.session(ben.token).renew
    fresh = site.sessions.renew(ben.token)
    assert fresh.token != ben.token
    assert not site.sessions.session(fresh.token).renew
    assert code(site.sessions.session, ben.token) == "sign_in"
    assert code(site.sessions.renew, ben.token) == "sign_in"


def test_roles_and_their_rights(site: Site):
    anna = site.person("anna")
    project = site.bare_project(anna)
    people = {role: site.member(anna, project, role, role) for role in ("manager", "reviewer", "annotator", "viewer")}
    may = {role: site.accounts.member(person.account, project) for role, person in people.items()}
    assert may["manager"].may("export")
    assert may["reviewer"].may("adjudicate")
    assert not may["reviewer"].may("manage_people")
    assert may["annotator"].may("judge")
    assert not may["annotator"].may("see_board")
    assert not may["viewer"].may("judge")
    for role in ("reviewer", "annotator", "viewer"):
        assert code(site.accounts.invite, people[role].account, project, "viewer") == "not_allowed"
        assert (
            code(site.accounts.set_member, people[role].account, project, anna.account, role="viewer") == "not_allowed"
        )
    manager = people["manager"].account
    site.accounts.invite(manager, project, "annotator")
    for work in (
        lambda: site.accounts.invite(manager, project, "manager"),
        lambda: site.accounts.set_member(manager, project, manager, role="owner"),
        lambda: site.accounts.set_member(manager, project, anna.account, state="paused"),
    ):
        assert code(work) == "not_allowed"
    assert code(site.accounts.invite, anna.account, project, "boss") == "bad_input"
    assert code(site.accounts.set_member, anna.account, project, manager, state="asleep") == "bad_input"
    site.accounts.set_member(anna.account, project, manager, state="paused")
    assert not site.accounts.member(manager, project).may("export")
    assert code(site.accounts.invite, manager, project, "annotator") == "not_allowed"


def test_for_strangers_a_project_does_not_exist(site: Site):
    anna, eve = site.person("anna"), site.person("eve")
    project = site.bare_project(anna)
    there = refused(site.accounts.member, eve.account, project)
    assert there.code == "unknown"
    nowhere = refused(site.accounts.member, eve.account, "no such")
    assert nowhere.code == "unknown"
    assert str(there) == str(nowhere)
    assert code(site.accounts.invite, eve.account, project, "viewer") == "unknown"
    assert code(site.accounts.set_member, anna.account, project, eve.account, role="viewer") == "unknown"


def test_a_project_keeps_an_owner(site: Site):
    anna = site.person("anna")
    project = site.bare_project(anna)
    assert code(site.accounts.set_member, anna.account, project, anna.account, role="viewer") == "last_owner"
    assert code(site.accounts.set_member, anna.account, project, anna.account, state="paused") == "last_owner"
    ben = site.member(anna, project, "ben", "owner")
    site.accounts.set_member(ben.account, project, anna.account, role="viewer")
    assert site.accounts.member(anna.account, project).role == "viewer"


def test_a_link_to_a_new_password(site: Site):
    anna = site.person("anna")
    project = site.bare_project(anna)
    ben = site.member(anna, project, "ben")
    link = site.accounts.invite_reset(anna.account, project, ben.account)
    assert code(site.accounts.accept, link, "eve@example.org", PASSWORD, name="Eve") == "bad_link"
    assert code(site.accounts.join, link, anna.account) == "bad_link"
    assert code(site.accounts.reset, link, "short") == "weak_password"
    site.accounts.reset(link, "another tram 59 hums")
    assert code(site.sessions.session, ben.token) == "sign_in"
    assert code(site.sessions.sign_in, "ben@example.org", PASSWORD) == "sign_in"
    assert site.sessions.sign_in("ben@example.org", "another tram 59 hums").account == ben.account
    assert code(site.accounts.reset, link, "yet another tram 60") == "bad_link"


def test_a_new_password_is_not_a_way_into_other_projects(site: Site):
    anna, carl = site.person("anna"), site.person("carl")
    site.bare_project(anna, "P")
    site.bare_project(carl, "Q")
    ben = site.member(anna, "P", "ben")
    site.accounts.join(site.accounts.invite(carl.account, "Q", "manager"), ben.account)
    assert code(site.accounts.invite_reset, anna.account, "P", ben.account) == "not_allowed"
    site.accounts.join(site.accounts.invite(anna.account, "P", "viewer"), carl.account)
    assert code(site.accounts.invite_reset, anna.account, "P", carl.account) == "not_allowed"


def test_who_wants_to_be_forgotten_is(site: Site):
    anna = site.person("anna")
    project = site.bare_project(anna)
    ben = site.member(anna, project, "benedikt")
    site.accounts.erase(ben.account, by=ben.account)
    assert "benedikt" not in whole_database(site)
    assert code(site.sessions.session, ben.token) == "sign_in"
    assert code(site.sessions.sign_in, "benedikt@example.org", PASSWORD) == "sign_in"
    assert site.database.read(audit.verify).fault == ""
    assert code(site.accounts.erase, "no such", by=anna.account) == "unknown"
    assert site.member(anna, project, "benedikt").account != ben.account


def test_a_password_is_hashed_anew_when_hashing_gets_stronger(site: Site):
    site.person("anna")
    stronger = Sessions(site.database, argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    stronger.sign_in("anna@example.org", PASSWORD)
    ask = sa.select(schema.account.c.password)
    hashed = str(site.database.read(lambda c: c.scalar(ask)))
    assert argon2.extract_parameters(hashed).memory_cost == 16
    assert stronger.sign_in("anna@example.org", PASSWORD).name == "anna"


def test_the_real_hash_is_argon2id_as_recommended():
    hashed = sessions.HASHER.hash("x")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize(
    "weak",
    [
        "short", "password1234", "Passw0rd!!!!2024", "qwertyuiop123", "aaaaaaaaaaaa", "123456789012", "abcdefghijklm",
        "anna.lindgren", "Lindgren-Anna1", "iloveyou12345", "abababababab", "letmeinletmein", "x" * 300, "🦊" * 12,
        "monkeydragon12", "correcthorsebatterystaple", "",
    ],
)  # fmt: skip
def test_a_weak_password_is_refused(weak: str):
    assert code(passwords.check, weak, "anna.lindgren@example.org", "Anna Lindgren") == "weak_password"


@pytest.mark.parametrize(
    "strong", [PASSWORD, "mf7-Kd0q,x2!uT", "钢琴在雨里唱歌给猫听一整夜", "tea for seven otters", "Kt7m" * 3 + "z9-Q"]
)
def test_a_strong_password_is_taken(strong: str):
    passwords.check(strong, "anna.lindgren@example.org", "Anna Lindgren")


@pytest.mark.parametrize("bad", ["", "anna", "a b@c", "@", "a@", "a@b@c", "a\x00@b", "\ud800@b", "a@" + "b" * 300])
def test_what_is_no_address(bad: str):
    assert code(passwords.email, bad) == "bad_input"


@pytest.mark.parametrize("bad", ["", "  ", "a" * 81, "a\x00b", "\ud800"])
def test_what_is_no_name(bad: str):
    assert code(passwords.clean_name, bad) == "bad_input"
