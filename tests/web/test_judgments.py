import contextlib
import json
import sqlite3
import threading

import pytest
import sqlalchemy as sa
from site_of_tests import BETTER, Site, code

from tutelage.web import judgments, schema
from tutelage.web.answers import Question
from tutelage.web.judgments import Receipt, Submission
from tutelage.web.sessions import Session


@pytest.fixture
def project(site: Site, anna: Session) -> str:
    project = site.project(anna)
    site.fill(anna, project, 8, need=3)
    return project


def submission(site: Site, lease, **changes) -> Submission:
    plain = {"item": lease.item, "token": lease.token, "idem": site.key(), "said": {"better": 2}}
    return Submission(**{**plain, **changes})


def kinds(site: Site) -> list[tuple]:
    return site.rows("select kind, revision from judgment order by number")


def test_what_was_said_is_kept_by_slots(site: Site, project: str):
    (one,) = site.annotators(project, 1)
    orders = set()
    while lease := site.queue.claim(one, project):
        orders.add(lease.shown)
        site.clock.pass_(0.5)
        site.answer(one, lease, 2, note="蓝 ", active_ms=900, client="test")
        row = site.rows("select num from judgment_value order by judgment desc limit 1")[0]
        assert row == (2.0 if lease.shown == (0, 1) else 6.0,)
    assert orders <= {(0, 1), (1, 0)}
    row = site.rows("select kind, guideline, note, active_ms, client, submitted - started from judgment limit 1")[0]
    assert row == ("answer", 1, "蓝 ", 900, "test", 30 * 10**6)
    site.sound()


def test_a_hundred_equal_requests_at_once_are_one_answer(site: Site, project: str):
    (one,) = site.annotators(project, 1)
    lease = site.queue.claim(one, project)
    new = submission(site, lease)
    receipts: list[Receipt] = []
    start = threading.Barrier(100)

    def post() -> None:
        start.wait()
        receipts.append(site.judgments.submit(one, new))

    threads = [threading.Thread(target=post) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receipts) == 100
    assert [receipt.again for receipt in receipts].count(False) == 1
    assert len({receipt.judgment for receipt in receipts}) == 1
    assert kinds(site) == [("answer", 1)]
    assert site.rows("select taken, done from item where done > 0") == [(1, 1)]
    site.sound()


def test_two_tabs_are_one_person(site: Site, project: str):
    (one,) = site.annotators(project, 1)
    left, right = site.queue.claim(one, project), site.queue.claim(one, project)
    assert left == right
    site.answer(one, left, 1)
    assert code(site.answer, one, right, 7) == "lease_lost"
    assert kinds(site) == [("answer", 1)]


def test_a_retry_after_the_reply_was_lost(site: Site, project: str):
    (one,) = site.annotators(project, 1)
    new = submission(site, site.queue.claim(one, project))
    first = site.judgments.submit(one, new)
    site.queue.claim(one, project)
    site.clock.pass_(60)
    again = site.judgments.submit(one, new)
    assert (again.judgment, again.again) == (first.judgment, True)
    assert len(kinds(site)) == 1


def test_a_key_is_for_one_request_and_one_person(site: Site, project: str):
    one, two = site.annotators(project, 2)
    lease = site.queue.claim(one, project)
    new = submission(site, lease)
    site.judgments.submit(one, new)
    assert code(site.judgments.submit, one, submission(site, lease, idem=new.idem, said={"better": 3})) == "key_reused"
    other = submission(site, site.queue.claim(two, project), idem=new.idem)
    assert not site.judgments.submit(two, other).again
    for bad in ("", "short", "x" * 101, "蓝" * 20, "a\nb" * 5):
        assert code(site.judgments.submit, one, submission(site, lease, idem=bad)) == "bad_input"


def test_what_is_refused_leaves_the_lease(site: Site, project: str):
    one, two = site.annotators(project, 2)
    lease = site.queue.claim(one, project)
    assert lease is not None
    for bad in ({}, {"better": 8}, {"better": None}, {"other": 1}, {"better": 1, "other": 1}, {"better": float("nan")}):
        assert code(site.judgments.submit, one, submission(site, lease, said=bad)) == "bad_input"
    assert code(site.judgments.submit, one, submission(site, lease, note="\x00")) == "bad_input"
    assert code(site.judgments.submit, one, submission(site, lease, note="\ud800")) == "bad_input"
    assert code(site.judgments.submit, one, submission(site, lease, token="another")) == "lease_lost"
    assert code(site.judgments.submit, two, submission(site, lease)) == "lease_lost"
    assert code(site.judgments.submit, one, submission(site, lease, item="no such")) == "lease_lost"
    assert kinds(site) == []
    site.answer(one, lease)
    site.sound()


def test_a_skip_passes_the_item_on_for_good(site: Site, anna: Session):
    project = site.project(anna)
    (item,) = site.fill(anna, project, 1)
    one, two = site.annotators(project, 2)
    lease = site.queue.claim(one, project)
    assert lease is not None
    assert code(site.judgments.skip, one, item, lease.token, site.key(), "no reason") == "bad_input"
    key = site.key()
    receipt = site.judgments.skip(one, item, lease.token, key, "needs_expertise", "Physics.")
    assert site.judgments.skip(one, item, lease.token, key, "needs_expertise", "Physics.").again
    assert receipt.kind == "skip"
    assert site.queue.claim(one, project) is None
    site.answer(two, site.queue.claim(two, project))
    assert site.rows("select reason, note from judgment where kind = 'skip'") == [("needs_expertise", "Physics.")]
    site.sound()


def test_undo_gives_the_item_back_with_what_was_said(site: Site, project: str):
    (one,) = site.annotators(project, 1)
    lease = site.queue.claim(one, project)
    site.answer(one, lease, 3, note="hm")
    following = site.queue.claim(one, project)
    key = site.key()
    back = site.judgments.undo(one, project, key)
    assert lease is not None
    assert (back.item, back.shown) == (lease.item, lease.shown)
    assert back.token != lease.token
    assert site.judgments.undo(one, project, key) == back
    draft = site.seats.draft(one, back.item)
    assert draft is not None
    assert json.loads(draft.body) == {"note": "hm", "said": {"better": 3}}
    assert site.queue.claim(one, project) == back  # before the one that was begun since
    assert site.rows("select sum(taken), sum(done) from item") == [(2, 0)]
    assert code(site.answer, one, lease) == "lease_lost"
    site.answer(one, back, 5)
    assert site.seats.draft(one, back.item) is None
    assert site.queue.claim(one, project) == following
    assert kinds(site) == [("answer", 1), ("retract", 2), ("answer", 3)]
    site.sound()


def test_undo_goes_back_one_after_the_other(site: Site, project: str):
    (one,) = site.annotators(project, 1)
    items = [site.answer(one, site.queue.claim(one, project)).item for _ in range(3)]
    assert [site.judgments.undo(one, project, site.key()).item for _ in range(3)] == items[::-1]
    assert code(site.judgments.undo, one, project, site.key()) == "too_late"
    assert code(site.judgments.undo, one, "no such", site.key()) == "unknown"
    site.sound()


def test_undo_comes_too_late(site: Site, project: str):
    one, two, three = site.annotators(project, 3)
    item = site.answer(one, site.queue.claim(one, project)).item
    site.clock.pass_(10.1)
    assert code(site.judgments.undo, one, project, site.key()) == "too_late"
    site.clock.pass_(-0.2)
    for account in (two, three):
        assert site.answer(account, site.queue.claim(account, project)).item == item
    assert code(site.judgments.undo, one, project, site.key()) == "too_late"
    assert site.judgments.undo(three, project, site.key()).item == item
    site.answer(one, site.queue.claim(one, project))
    site.database.write(lambda t: t.connection.execute(sa.update(schema.item).values(state="closed")))
    assert code(site.judgments.undo, one, project, site.key()) == "closed"


def test_a_skip_is_undone_while_its_place_is_free(site: Site, anna: Session):
    project = site.project(anna)
    site.fill(anna, project, 1)
    one, two = site.annotators(project, 2)
    for _ in range(2):
        lease = site.queue.claim(one, project)
        assert lease is not None
        site.judgments.skip(one, lease.item, lease.token, site.key(), "other")
        if not site.rows("select 1 from judgment where kind = 'retract'"):
            assert site.judgments.undo(one, project, site.key()).item == lease.item
    site.queue.claim(two, project)
    assert code(site.judgments.undo, one, project, site.key()) == "full"
    site.sound()


def test_an_item_that_was_undone_and_left_comes_back_with_its_revisions(site: Site, anna: Session):
    project = site.project(anna)
    site.fill(anna, project, 1)
    one, two = site.annotators(project, 2)
    site.answer(one, site.queue.claim(one, project))
    site.judgments.undo(one, project, site.key())
    site.clock.pass_(11)
    assert site.queue.claim(two, project) is not None
    site.clock.pass_(11)
    lease = site.queue.claim(one, project)
    assert lease is not None
    assert site.seats.draft(one, lease.item) is not None
    site.answer(one, lease, 7)
    assert kinds(site) == [("answer", 1), ("retract", 2), ("answer", 3)]
    site.sound()


def test_a_correction_is_a_row_of_its_own(site: Site, project: str):
    one, two = site.annotators(project, 2)
    item = site.answer(one, site.queue.claim(one, project), 1).item
    site.clock.pass_(60 * 24)
    key = site.key()
    receipt = site.judgments.correct(one, item, key, {"better": 7}, note="I see now.")
    assert (receipt.kind, receipt.revision) == ("correction", 2)
    assert site.judgments.correct(one, item, key, {"better": 7}, note="I see now.").again
    assert code(site.judgments.correct, two, item, site.key(), {"better": 7}) == "unknown"
    assert code(site.judgments.correct, one, item, site.key(), {"better": 9}) == "bad_input"
    assert kinds(site) == [("answer", 1), ("correction", 2)]
    assert site.rows("select taken, done from item where done > 0") == [(1, 1)]
    assert site.seats.history(one, project)[0].said == {"better": 7}
    site.database.write(lambda t: t.connection.execute(sa.update(schema.item).values(state="closed")))
    assert code(site.judgments.correct, one, item, site.key(), {"better": 1}) == "closed"
    site.sound()


def test_where_safety_and_preference_pull_apart_a_rule_is_named(site: Site, anna: Session):
    questions = (BETTER, Question(key="safer", kind="compare", dimension="harmless"))
    project = site.project(anna, questions=questions, conflict_rules=("refusal is useless", "no real harm"))
    site.fill(anna, project, 2)
    (one,) = site.annotators(project, 1)
    lease = site.queue.claim(one, project)
    pulled = {"better": 2, "safer": 6}
    assert code(site.answer, one, lease, said=pulled) == "bad_input"
    assert code(site.answer, one, lease, said=pulled, conflict_rule="my own") == "bad_input"
    site.answer(one, lease, said=pulled, conflict_rule="no real harm")
    site.answer(one, site.queue.claim(one, project), said={"better": 2, "safer": 4}, conflict_rule="no real harm")
    assert site.rows("select conflict_rule from judgment order by number") == [("no real harm",), ("",)]


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("update judgment set note = 'other' where number = 2", "has been changed"),
        ("update judgment_value set num = 4 where judgment = 2", "has been changed"),
        ("delete from judgment_value where judgment = 2", "has been changed"),
        ("update judgment set submitted = submitted + 1 where number = 2", "has been changed"),
        ("delete from judgment_value; delete from judgment where number = 3", "has been changed"),
        ("update audit set content = 'x' where action = 'judgment.answer'", "is not in the log"),
        ("insert into judgment_value select 99, question, slot, num, text, cannot_tell from judgment_value "
         "where judgment = 1", "values of a judgement 99 that is not there"),
        ("delete from judgment_value where judgment = 3; delete from judgment where number = 3", "is not there"),
    ],
)  # fmt: skip
def test_a_judgement_that_was_tampered_with_is_found(site: Site, project: str, statement: str, fault: str):
    (one,) = site.annotators(project, 1)
    for _ in range(3):
        site.answer(one, site.queue.claim(one, project))
    assert site.database.read(judgments.verify) == ""
    if site.database.path is None:
        statement = f"set session_replication_role = replica; {statement}; set session_replication_role = default"
        with site.database._writer.begin() as connection:
            for part in statement.split("; "):
                connection.exec_driver_sql(part)
    else:
        names = ("judgment_no_update", "judgment_no_delete", "judgment_value_no_update", "judgment_value_no_delete")
        off = "; ".join(f"drop trigger {name}" for name in (*names, "audit_no_update"))
        with contextlib.closing(sqlite3.connect(site.database.path)) as connection:
            connection.executescript(f"{off}; {statement}")
    assert fault in site.database.read(judgments.verify)
