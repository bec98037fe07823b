import random
import threading
from collections import Counter

import pytest
import sqlalchemy as sa
from site_of_tests import START, Site, code, new_item

from tutelage.web import queue, queue_statements, schema
from tutelage.web.sessions import Session


def at_once(*works) -> None:
    """Runs all of them at the same time."""
    start = threading.Barrier(len(works))

    def run(work) -> None:
        start.wait()
        work()

    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_items_come_in_order_each_to_one(site: Site, anna: Session):
    project = site.project(anna)
    items = site.fill(anna, project, 4)
    one, two = site.annotators(project, 2)
    given = [site.queue.claim(account, project) for account in (one, two)]
    assert [lease.item for lease in given if lease] == items[:2]
    assert site.queue.claim(one, project) == given[0]  # the same one, until it is judged
    site.answer(one, given[0])
    site.answer(two, given[1])
    assert [site.answer(one, site.queue.claim(one, project)).item for _ in range(2)] == items[2:]
    assert site.queue.claim(one, project) is None
    assert site.queue.claim(two, project) is None
    site.sound()


def test_urgent_items_come_first_also_those_that_come_late(site: Site, anna: Session):
    project = site.project(anna)
    first = site.fill(anna, project, 2)
    (one,) = site.annotators(project, 1)
    site.answer(one, site.queue.claim(one, project))
    urgent = site.projects.add_items(anna.account, project, [new_item(n, lane="urgent") for n in (7, 8)])
    rest = [site.answer(one, site.queue.claim(one, project)).item for _ in range(3)]
    assert rest == [*urgent, first[1]]


@pytest.mark.parametrize("need", [1, 3])
def test_thirty_people_at_once_never_take_more_places_than_there_are(site: Site, anna: Session, need: int):
    project = site.project(anna)
    items = site.fill(anna, project, 10, need=need)
    people = site.annotators(project, 30)
    got: list[str] = []

    def claim(account: str) -> None:
        lease = site.queue.claim(account, project)
        if lease:
            got.append(lease.item)

    at_once(*(lambda account=account: claim(account) for account in people))
    counts = Counter(got)
    assert sum(counts.values()) == min(30, 10 * need)
    assert max(counts.values()) <= need
    assert set(counts) <= set(items)
    site.sound()


def test_all_of_it_is_judged_by_as_many_as_were_asked(site: Site, anna: Session):
    project = site.project(anna)
    site.fill(anna, project, 12, need=3)
    people = site.annotators(project, 5)

    def work(account: str) -> None:
        while lease := site.queue.claim(account, project):
            site.answer(account, lease)

    at_once(*(lambda account=account: work(account) for account in people))
    assert site.rows("select distinct need, taken, done from item") == [(3, 3, 3)]
    judged = site.rows("select item, account from judgment")
    assert len(judged) == len(set(judged)) == 36
    site.sound()


def test_the_database_itself_refuses_one_too_many(site: Site, anna: Session):
    """Also where the code were wrong: a seat more than needed, and a second seat of the same person."""
    project = site.project(anna)
    site.fill(anna, project, 1)
    one, two = site.annotators(project, 2)
    site.queue.claim(one, project)
    for account, words in ((two, "overlap"), (one, "seat")):
        row = {
            "item": 1, "account": account, "project": project, "state": "leased", "token": account + "x",
            "shown": "[0,1]", "guideline": 1, "granted": 0, "expires": 0, "turn": 1, "revision": 0,
        }  # fmt: skip
        with pytest.raises(sa.exc.IntegrityError, match=words):
            site.database.write(lambda t, row=row: t.connection.execute(sa.insert(schema.seat), row))
    for change in ("need = 0", "taken = 2", "done = 2"):
        with pytest.raises(sa.exc.IntegrityError, match="overlap"):
            site.database.write(lambda t, change=change: t.connection.exec_driver_sql(f"update item set {change}"))
    with pytest.raises(sa.exc.DBAPIError, match="a seat stays at its item"):
        site.database.write(lambda t: t.connection.execute(sa.update(schema.seat).values(account=two)))
    site.sound()


def test_a_lease_ends_when_somebody_comes_after_its_time(site: Site, anna: Session):
    project = site.project(anna, lease_seconds=600)
    (item,) = site.fill(anna, project, 1)
    one, two = site.annotators(project, 2)
    mine = site.queue.claim(one, project)
    assert mine is not None
    assert mine.expires == START + 600 * 10**6
    site.clock.pass_(9.9)
    assert site.queue.claim(two, project) is None
    site.clock.pass_(0.2)
    theirs = site.queue.claim(two, project)
    assert theirs is not None
    assert theirs.item == item
    assert code(site.answer, one, mine) == "lease_lost"
    assert code(site.queue.renew, one, item, mine.token) == "lease_lost"
    site.answer(two, theirs)
    assert site.queue.claim(one, project) is None
    site.sound()


def test_who_is_late_and_alone_is_not_too_late(site: Site, anna: Session):
    project = site.project(anna)
    site.fill(anna, project, 1)
    (one,) = site.annotators(project, 1)
    lease = site.queue.claim(one, project)
    site.clock.pass_(60)
    assert site.answer(one, lease).kind == "answer"


def test_a_lost_item_may_come_back_to_the_same_person(site: Site, anna: Session):
    project = site.project(anna)
    items = site.fill(anna, project, 2)
    (one,) = site.annotators(project, 1)
    first = site.queue.claim(one, project)
    site.clock.pass_(11)
    order = [site.answer(one, site.queue.claim(one, project)).item for _ in range(2)]
    assert order == [items[1], items[0]]
    assert code(site.answer, one, first) == "lease_lost"


def test_a_renewed_lease_lasts(site: Site, anna: Session):
    project = site.project(anna)
    site.fill(anna, project, 1)
    one, two = site.annotators(project, 2)
    lease = site.queue.claim(one, project)
    assert lease is not None
    for _ in range(5):
        site.clock.pass_(9)
        assert site.queue.renew(one, lease.item, lease.token) == site.clock.now + 600 * 10**6
        assert site.queue.claim(two, project) is None
    assert code(site.queue.renew, two, lease.item, lease.token) == "lease_lost"
    site.answer(one, lease)


@pytest.mark.parametrize("minutes", [-1, -60, -60 * 24 * 365])
def test_a_clock_that_goes_back_neither_ends_a_lease_nor_makes_it_endless(site: Site, anna: Session, minutes: int):
    project = site.project(anna)
    site.fill(anna, project, 1)
    one, two = site.annotators(project, 2)
    lease = site.queue.claim(one, project)
    site.clock.pass_(minutes)
    assert site.queue.claim(two, project) is None
    assert site.queue.claim(one, project) is not None
    site.clock.pass_(10.1)
    theirs = site.queue.claim(two, project)
    assert theirs is not None
    assert code(site.answer, one, lease) == "lease_lost"
    site.answer(two, theirs)
    site.sound()


def test_a_clock_that_jumps_ahead_costs_leases_and_nothing_else(site: Site, anna: Session):
    project = site.project(anna)
    site.fill(anna, project, 3)
    people = site.annotators(project, 3)
    leases = [site.queue.claim(account, project) for account in people]
    site.clock.pass_(60 * 24 * 365)
    again = [site.queue.claim(account, project) for account in people]
    assert sorted(lease.item for lease in again if lease) == sorted(lease.item for lease in leases if lease)
    for account, lease in zip(people, again, strict=True):
        site.answer(account, lease)
    site.clock.pass_(-60 * 24 * 365)
    site.sound()


def test_gold_comes_in_its_share_once_each_and_is_not_told(site: Site, anna: Session):
    project = site.project(anna, gold_share=0.25)
    plain = set(site.fill(anna, project, 200))
    golden = [new_item(1000 + n, lane="gold", gold={"better": 7}) for n in range(100)]
    gold = set(site.projects.add_items(anna.account, project, golden))
    one, two = site.annotators(project, 2)
    given: dict[str, list[str]] = {}
    for account in (one, two):
        given[account] = [site.answer(account, site.queue.claim(account, project)).item for _ in range(100)]
    for items in given.values():
        assert len(set(items)) == 100
        assert 12 <= len(gold & set(items)) <= 38  # 25 and three standard deviations
    assert not (set(given[one]) & set(given[two]) & plain)
    assert given[one] != given[two]
    lease = site.queue.claim(one, project)
    assert lease is not None
    shown = site.seats.show(one, lease.item)
    assert "gold" not in repr(lease) + repr(shown)


def test_gold_alone_is_no_work(site: Site, anna: Session):
    project = site.project(anna, gold_share=0.0)
    site.projects.add_items(anna.account, project, [new_item(1, lane="gold", gold={"better": 7})])
    (one,) = site.annotators(project, 1)
    assert site.queue.claim(one, project) is None


def test_a_daily_cap_ends_the_day(site: Site, anna: Session):
    project = site.project(anna, daily_cap=2)
    site.fill(anna, project, 9)
    (one,) = site.annotators(project, 1)
    for _ in range(2):
        site.answer(one, site.queue.claim(one, project))
    assert code(site.queue.claim, one, project) == "daily_cap"
    site.clock.pass_(-24 * 60)  # a day that comes again is no new one
    assert code(site.queue.claim, one, project) == "daily_cap"
    site.clock.pass_(48 * 60)
    for _ in range(2):
        site.answer(one, site.queue.claim(one, project))
    assert code(site.queue.claim, one, project) == "daily_cap"


def test_who_may_not_judge(site: Site, anna: Session):
    project = site.project(anna)
    site.fill(anna, project, 5)
    ben = site.member(anna, project, "ben").account
    viewer = site.member(anna, project, "vera", "viewer").account
    assert code(site.queue.claim, viewer, project) == "not_allowed"
    assert code(site.queue.claim, site.person("eve").account, project) == "unknown"
    assert code(site.queue.claim, ben, "no such") == "unknown"
    assert code(site.queue.claim, ben, project) == "not_qualified"
    site.accounts.set_member(anna.account, project, ben, state="active")
    assert code(site.queue.claim, ben, project) == "guideline"
    site.projects.confirm_guideline(ben, project, 1)
    lease = site.queue.claim(ben, project)
    site.accounts.set_member(anna.account, project, ben, state="paused")
    assert code(site.queue.claim, ben, project) == "paused"
    assert code(site.answer, ben, lease) == "paused"
    site.accounts.set_member(anna.account, project, ben, state="active")
    site.projects.set_state(anna.account, project, "paused")
    assert code(site.queue.claim, ben, project) == "paused"


def test_a_new_guideline_is_read_if_it_is_major_and_stamped_in_any_case(site: Site, anna: Session):
    project = site.project(anna)
    site.fill(anna, project, 5)
    (one,) = site.annotators(project, 1)
    site.answer(one, site.queue.claim(one, project))
    lease = site.queue.claim(one, project)
    assert site.projects.publish(anna.account, project, "Be fair, please.", major=False) == 2
    site.answer(one, lease)  # what was on the page when it was judged
    site.answer(one, site.queue.claim(one, project))
    assert site.projects.publish(anna.account, project, "Be kind.", major=True) == 3
    assert code(site.queue.claim, one, project) == "guideline"
    assert code(site.projects.confirm_guideline, one, project, 9) == "unknown"
    site.projects.confirm_guideline(one, project, 3)
    site.answer(one, site.queue.claim(one, project))
    assert site.rows("select guideline from judgment order by number") == [(1,), (1,), (2,), (3,)]


def test_answers_are_shown_in_an_order_of_ones_own(site: Site, anna: Session):
    project = site.project(anna)
    site.fill(anna, project, 60, need=2)
    one, two = site.annotators(project, 2)
    orders: dict[str, list[tuple[int, ...]]] = {one: [], two: []}
    for account, seen in orders.items():
        while lease := site.queue.claim(account, project):
            shown = site.seats.show(account, lease.item)
            number = shown.messages[0]["content"].removeprefix("question ")
            assert shown.responses == tuple((f"left {number}", f"right {number}")[slot] for slot in lease.shown)
            seen.append(lease.shown)
            site.answer(account, lease)
    for seen in orders.values():
        assert 15 <= seen.count((1, 0)) <= 45
    assert orders[one] != orders[two]


def test_nobody_is_forgotten(site: Site, anna: Session):
    """Whatever order leases, skips and returns come in: when the queue says there is nothing, there is nothing."""
    project = site.project(anna)
    site.fill(anna, project, 30, need=2)
    people = site.annotators(project, 4)
    held: dict[str, object] = {}
    dice = random.Random(5)
    for _ in range(400):
        account = dice.choice(people)
        lease = site.queue.claim(account, project)
        if lease is None:
            left = site.rows(
                "select i.id from item i where taken < need and not exists "
                f"(select 1 from seat s where s.item = i.number and s.account = '{account}')"
            )
            assert left == []
            site.clock.pass_(4)
            continue
        held[account] = lease
        match dice.randrange(4):
            case 0:
                site.clock.pass_(4)
            case 1 if dice.random() < 0.3:
                site.judgments.skip(account, lease.item, lease.token, site.key(), "other")
            case _:
                site.answer(account, lease)
    site.sound()
    open_ = site.rows("select count(*) from item where done < need")[0][0]
    skipped = site.rows("select count(*) from seat where state = 'skipped'")[0][0]
    assert open_ <= skipped


def plan(site: Site, statement: sa.Select, values: dict) -> str:
    def look(connection: sa.Connection) -> str:
        how = "explain query plan" if connection.dialect.name == "sqlite" else "explain"
        text = str(statement.params(values).compile(connection, compile_kwargs={"literal_binds": True}))
        return "\n".join(str(row) for row in connection.execute(sa.text(f"{how} {text}".replace(":", "\\:"))))

    return site.database.read(look)


def test_the_next_item_is_found_by_the_index_of_those_that_wait(site: Site, anna: Session):
    project = site.project(anna)
    site.fill(anna, project, 2000)
    (one,) = site.annotators(project, 1)
    if site.database.path is None:
        site.database.write(lambda t: t.connection.exec_driver_sql("analyze"))
    found = plan(site, queue_statements.PICK.core, {"p": project, "l": 1, "beyond": 17, "a": one})
    assert "ix_item_waiting" in found
    assert "SCAN item" not in found
    assert "Seq Scan on item" not in found
    assert "Sort" not in found
    assert "TEMP B-TREE" not in found


def test_every_order_is_shown_about_as_often():
    for slots, orders in ((2, 2), (3, 6)):
        shown = [queue.shuffled("secret", "someone", f"item {n}", slots) for n in range(600)]
        counts = [shown.count(order) for order in set(shown)]
        assert len(counts) == orders
        assert min(counts) > 0.7 * 600 / orders
    assert shown != [queue.shuffled("secret", "another", f"item {n}", 3) for n in range(600)]
    assert shown == [queue.shuffled("secret", "someone", f"item {n}", 3) for n in range(600)]
