"""Claims, answers, skips, undos, waits and clocks in any order, against a model of what should be."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from site_of_tests import START, Site

from tutelage.web.judgments import Submission
from tutelage.web.refusal import Refusal

PEOPLE = 3
SHARED_MEMORY = Path("/dev/shm")
person = st.integers(0, PEOPLE - 1)


@cache
def ready() -> tuple[Path, str, list[str]]:
    """A database with two items for one person and two for two, and three people; copied for each example."""
    folder = Path(tempfile.mkdtemp())
    site = Site(folder / "label.db")
    anna = site.person("anna")
    project = site.project(anna)
    site.fill(anna, project, 2, need=1)
    site.fill(anna, project, 2, need=2)
    people = site.annotators(project, PEOPLE)
    site.database.close()
    return folder / "label.db", project, people


class Labelling(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        source, self.project, self.people = ready()
        self.folder = Path(tempfile.mkdtemp(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
        shutil.copy(source, self.folder / "label.db")
        self.site = Site(self.folder / "label.db")
        self.leases: dict[int, list] = {number: [] for number in range(PEOPLE)}
        self.sent: list[tuple[int, Submission, str]] = []
        self.stands: dict[tuple[int, str], str] = {}  # (person, item): answered or skipped
        self.rows = 0

    def teardown(self) -> None:
        self.site.sound()
        self.site.database.close()
        shutil.rmtree(self.folder)

    @rule(who=person)
    def claim(self, who: int) -> None:
        lease = self.site.queue.claim(self.people[who], self.project)
        if lease is None:
            mine = [item for (person, item), _ in self.stands.items() if person == who]
            free = {row[0] for row in self.site.rows("select id from item where taken < need")}
            assert free <= set(mine), "somebody waits beside work"
        else:
            assert (who, lease.item) not in self.stands
            self.leases[who].append(lease)

    @precondition(lambda self: any(self.leases.values()))
    @rule(who=person, which=st.integers(0, 9), choice=st.integers(1, 7))
    def submit(self, who: int, which: int, choice: int) -> None:
        """With any lease that this person ever had."""
        if not self.leases[who]:
            return
        lease = self.leases[who][which % len(self.leases[who])]
        new = Submission(item=lease.item, token=lease.token, idem=self.site.key(), said={"better": choice})
        try:
            receipt = self.site.judgments.submit(self.people[who], new)
        except Refusal as refusal:
            if refusal.code != "lease_lost":
                raise
            return
        assert (who, lease.item) not in self.stands
        self.stands[who, lease.item] = "answered"
        self.sent.append((who, new, receipt.judgment))
        self.rows += 1

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 9))
    def send_again(self, which: int) -> None:
        who, new, judgment = self.sent[which % len(self.sent)]
        receipt = self.site.judgments.submit(self.people[who], new)
        assert receipt.again
        assert receipt.judgment == judgment

    @rule(who=person)
    def skip(self, who: int) -> None:
        for lease in self.leases[who][-1:]:
            try:
                self.site.judgments.skip(self.people[who], lease.item, lease.token, self.site.key(), "other")
            except Refusal as refusal:
                if refusal.code != "lease_lost":
                    raise
                return
            self.stands[who, lease.item] = "skipped"
            self.rows += 1

    @rule(who=person)
    def undo(self, who: int) -> None:
        try:
            lease = self.site.judgments.undo(self.people[who], self.project, self.site.key())
        except Refusal as refusal:
            if refusal.code not in ("too_late", "full"):
                raise
            return
        self.leases[who].append(lease)
        del self.stands[who, lease.item]
        self.rows += 1

    @rule(minutes=st.sampled_from([-3000, -30, -5, 1, 5, 11, 3000]))
    def wait(self, minutes: int) -> None:
        self.site.clock.pass_(minutes)
        self.site.clock.now = max(self.site.clock.now, START // 2)

    @invariant()
    def everything_adds_up(self) -> None:
        stands = self.site.rows("select account, i.id, s.state from seat s join item i on i.number = s.item")
        held = {(self.people.index(who), item): state for who, item, state in stands if state != "leased"}
        assert held == self.stands
        assert self.site.rows("select count(*) from judgment") == [(self.rows,)]
        for item, need, done in self.site.rows("select id, need, done from item"):
            assert done == sum(state == "answered" for (_, which), state in self.stands.items() if which == item)
            assert done <= need


TestLabelling = Labelling.TestCase
TestLabelling.settings = settings(
    max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.mark.slow
def test_labelling_for_long() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    many = settings(TestLabelling.settings, max_examples=100, stateful_step_count=50)
    run_state_machine_as_test(Labelling, settings=many)
