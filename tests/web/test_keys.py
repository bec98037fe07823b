"""Keys for programs, and choosing what to ask."""

from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import sqlalchemy as sa
from site_of_tests import Site, code, new_item

from tutelage.web import choosing, schema
from tutelage.web.keys import Keys
from tutelage.web.sessions import DAY


@pytest.fixture
def site(where: Path | str):
    site = Site(where)
    yield site
    site.database.close()


def test_a_key_is_shown_once_and_good_for_what_it_says(site: Site) -> None:
    owner, keys = site.person("owner"), Keys(site.database)
    project = site.project(owner)
    new = keys.make(owner.account, project, "robot", ["read", "items"], days=2)
    assert new.secret.startswith("tut_")
    held = keys.holder(new.secret, project, "items")
    assert (held.account, held.project, held.scopes) == (owner.account, project, {"read", "items"})
    assert code(keys.holder, new.secret, project, "export") == "not_allowed"
    assert code(keys.holder, new.secret[:-1] + "x", project, "read") == "sign_in"
    assert code(keys.holder, "", project, "read") == "sign_in"
    assert code(keys.holder, new.secret, site.project(owner, name="other"), "read") == "unknown"
    (info,) = keys.listed(owner.account, project)
    assert (info.name, info.scopes, info.revoked) == ("robot", ("items", "read"), None)
    assert info.used == site.clock()
    assert new.secret.startswith(info.prefix)
    everything = site.rows("select * from api_key") + site.rows("select * from audit")
    assert new.secret not in str(everything)
    site.clock.pass_(3 * 24 * 60)
    assert code(keys.holder, new.secret, project, "read") == "sign_in"
    assert site.clock() > info.expires == info.made + 2 * DAY


def test_a_key_ends_with_its_holders_rights(site: Site) -> None:
    owner, keys = site.person("owner"), Keys(site.database)
    project = site.project(owner)
    manager = site.member(owner, project, "manager", "manager")
    new = keys.make(manager.account, project, "robot", ["items"])
    keys.holder(new.secret, project, "items")
    change = sa.update(schema.membership).where(schema.membership.c.account == manager.account)
    site.database.write(lambda t: t.connection.execute(change.values(role="viewer")) and None)
    assert code(keys.holder, new.secret, project, "items") == "not_allowed"
    pause = sa.update(schema.account).where(schema.account.c.id == manager.account).values(status="paused")
    site.database.write(lambda t: t.connection.execute(pause) and None)
    assert code(keys.holder, new.secret, project, "items") == "sign_in"


def test_only_those_who_may_make_and_take_back(site: Site) -> None:
    owner, keys = site.person("owner"), Keys(site.database)
    project, other = site.project(owner), site.project(owner, name="other")
    (person,) = site.annotators(project, 1)
    assert code(keys.make, person, project, "x", ["read"]) == "not_allowed"
    assert code(keys.listed, person, project) == "not_allowed"
    for scopes, days in ((["all"], 1), ([], 1), (["read"], 0), (["read"], 1000)):
        assert code(keys.make, owner.account, project, "x", scopes, days) == "bad_input"
    assert code(keys.make, owner.account, project, " ", ["read"]) == "bad_input"
    new = keys.make(owner.account, project, "x", ["read"])
    assert code(keys.revoke, owner.account, other, new.id) == "unknown"
    assert code(keys.revoke, person, project, new.id) == "not_allowed"
    keys.revoke(owner.account, project, new.id)
    assert code(keys.holder, new.secret, project, "read") == "sign_in"
    site.sound()


def test_some_of_a_file_are_asked_about_by_their_worth(site: Site) -> None:
    owner = site.person("owner")
    project = site.project(owner)
    items = [replace(new_item(n), worth=float(n >= 40)) for n in range(50)]
    gold = replace(new_item(99), lane="gold", gold={"better": 2})
    assert len(choosing.by_worth(site.projects, owner.account, project, [*items, gold], 10)) == 11
    rows = site.rows("select sampled, p_select, lane from item order by number")
    assert [row[2] for row in rows].count(schema.GOLD) == 1
    chosen = [row for row in rows if row[2] != schema.GOLD]
    assert {row[0] for row in chosen} <= {"uniform", "worth"}
    assert [row[1] for row in chosen].count(pytest.approx(0.2 * 10 / 50 + 0.8 * 10 / 10)) >= 6
    none = [*items, replace(new_item(60), worth=None)]
    assert code(choosing.by_worth, site.projects, owner.account, project, none, 10) == "bad_input"
    assert code(choosing.by_worth, site.projects, owner.account, project, items, 51) == "bad_input"


def test_what_was_chosen_is_known_with_its_probability(site: Site) -> None:
    owner = site.person("owner")
    project = site.project(owner)
    values = numpy.arange(60.0)
    added = choosing.add(
        site.projects, owner.account, project, [new_item(n) for n in range(60)], values, 20, "disagreement",
        uniform_share=0.3, seed=7,
    )  # fmt: skip
    rows = site.rows("select sampled, p_select, id from item order by number")
    assert [row[2] for row in rows] == added
    assert {row[0] for row in rows} == {"uniform", "disagreement"}
    assert all(0.1 - 1e-9 <= row[1] <= 1 for row in rows)  # 0.3 * 20 / 60 at least
    assert code(choosing.add, site.projects, owner.account, project, [], [], 1, "x") == "bad_input"
    assert code(choosing.add, site.projects, owner.account, project, [new_item(1)], [1], 1, "uniform") == "bad_input"
