import pytest
from site_of_tests import Site, code, new_item

from tutelage.web.items import NewResponse
from tutelage.web.seats import MAX_DRAFT
from tutelage.web.sessions import Session


def test_nothing_is_shown_but_the_texts(site: Site, anna: Session):
    project = site.project(anna)
    secret = tuple(
        NewResponse(text=f"text {n}", model=f"CANARY-model-{n}", model_sha256="CANARY-hash", sampling={"CANARY": 1})
        for n in range(2)
    )
    gold = new_item(
        1, responses=secret, lane="gold", gold={"better": 1}, explanation="CANARY", source="CANARY", sampled="CANARY"
    )
    plain = new_item(2, responses=secret, need=2, source="CANARY", sampled="CANARY")
    site.projects.add_items(anna.account, project, [gold, plain])
    one, two = site.annotators(project, 2)
    site.answer(one, site.queue.claim(one, project), note="CANARY")
    lease = site.queue.claim(two, project)
    assert lease is not None
    seen = repr(
        (lease, site.seats.show(two, lease.item), site.seats.history(two, project), site.seats.draft(two, lease.item))
    )
    assert "CANARY" not in seen
    assert "gold" not in seen
    assert "text 0" in seen


def test_whoever_has_no_seat_sees_nothing(site: Site, anna: Session):
    project = site.project(anna)
    (item,) = site.fill(anna, project, 1)
    one, two = site.annotators(project, 2)
    lease = site.queue.claim(one, project)
    assert lease is not None
    for account in (two, anna.account, "no such"):
        assert code(site.seats.show, account, item) == "unknown"
        assert code(site.seats.flag, account, item, "unsafe") == "unknown"
        assert code(site.seats.save_draft, account, item, lease.token, "{}", 0) == "lease_lost"
    assert code(site.seats.show, one, "no such") == "unknown"
    assert site.seats.draft(two, item) is None
    site.answer(one, lease)
    assert site.seats.show(one, item).state == "answered"


def test_a_draft_survives_the_loss_of_the_lease(site: Site, anna: Session):
    project = site.project(anna)
    (item,) = site.fill(anna, project, 1)
    one, two = site.annotators(project, 2)
    lease = site.queue.claim(one, project)
    assert lease is not None
    assert site.seats.save_draft(one, item, lease.token, '{"note": "a"}', 0).rev == 1
    assert site.seats.save_draft(one, item, lease.token, '{"note": "ab"}', 1).rev == 2
    site.clock.pass_(11)
    assert site.queue.claim(two, project) is not None
    assert code(site.seats.save_draft, one, item, lease.token, "{}", 2) == "lease_lost"
    draft = site.seats.draft(one, item)
    assert draft is not None
    assert draft.body == '{"note": "ab"}'
    assert site.seats.draft(two, item) is None


def test_an_older_window_does_not_write_over_a_newer_one(site: Site, anna: Session):
    project = site.project(anna)
    (item,) = site.fill(anna, project, 1)
    (one,) = site.annotators(project, 1)
    lease = site.queue.claim(one, project)
    assert lease is not None
    site.seats.save_draft(one, item, lease.token, "new", 0)
    assert code(site.seats.save_draft, one, item, lease.token, "old", 0) == "stale_draft"
    assert code(site.seats.save_draft, one, item, lease.token, "x" * (MAX_DRAFT + 1), 1) == "bad_input"
    assert code(site.seats.save_draft, one, item, lease.token, "\x00", 1) == "bad_input"
    draft = site.seats.draft(one, item)
    assert draft is not None
    assert draft.body == "new"


def test_a_flag_is_kept_once(site: Site, anna: Session):
    project = site.project(anna)
    (item,) = site.fill(anna, project, 1)
    (one,) = site.annotators(project, 1)
    site.queue.claim(one, project)
    for _ in range(2):
        site.seats.flag(one, item, "unsafe", "look")
    site.seats.flag(one, item, "broken")
    assert code(site.seats.flag, one, item, "boring") == "bad_input"
    assert site.rows("select reason, note from flag order by reason") == [("broken", ""), ("unsafe", "look")]
    assert site.actions().count("item.flag") == 2


def test_ones_own_history_newest_first(site: Site, anna: Session):
    project = site.project(anna)
    site.fill(anna, project, 5, need=2)
    one, two = site.annotators(project, 2)
    items = [site.answer(one, site.queue.claim(one, project), choice, note=str(choice)).item for choice in (1, 2, 3)]
    site.answer(two, site.queue.claim(two, project))
    lease = site.queue.claim(one, project)
    assert lease is not None
    site.judgments.skip(one, lease.item, lease.token, site.key(), "other")
    site.judgments.correct(one, items[0], site.key(), {"better": "both_bad"}, note="later")
    past = site.seats.history(one, project)
    seen = [(entry.item, entry.kind, entry.said, entry.note, entry.open) for entry in past]
    assert seen == [
        (items[0], "correction", {"better": "both_bad"}, "later", True),
        (lease.item, "skip", {}, "", False),
        (items[2], "answer", {"better": 3}, "3", True),
        (items[1], "answer", {"better": 2}, "2", True),
    ]
    assert len(site.seats.history(one, project, limit=2)) == 2
    site.judgments.undo(one, project, site.key())
    assert [entry.kind for entry in site.seats.history(one, project)] == ["skip", "answer", "answer"]


@pytest.mark.parametrize("odd", ["", "\x00", "\ud800", "蓝", "' or 1=1 --", "a" * 5000])
def test_an_odd_id_is_an_unknown_one(site: Site, anna: Session, odd: str):
    project = site.project(anna)
    site.fill(anna, project, 1)
    (one,) = site.annotators(project, 1)
    assert code(site.seats.show, one, odd) == "unknown"
    assert site.seats.draft(one, odd) is None
    assert site.seats.history(one, odd) == []
    assert code(site.seats.save_draft, one, odd, odd, "", 0) == "lease_lost"
    assert code(site.queue.claim, one, odd) == "unknown"
    assert code(site.queue.renew, one, odd, odd) == "lease_lost"
    assert code(site.judgments.undo, one, odd, site.key()) in ("unknown", "bad_input")
    assert code(site.judgments.correct, one, odd, site.key(), {"better": 1}) in ("unknown", "bad_input")
    assert code(site.accounts.member, one, odd) == "unknown"
    assert code(site.projects.add_items, anna.account, odd, [new_item(1)]) == "unknown"
