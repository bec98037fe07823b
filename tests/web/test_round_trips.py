"""Over a wire each statement is a wait: a claim sees in one and writes in one, and so does a submission."""

import pytest
from site_of_tests import opened

from tutelage.web.prepared import Prepared


@pytest.mark.postgres
def test_a_claim_and_a_submission_are_two_statements_each(cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(cluster.database()) as site:
        owner = site.person("owner")
        project = site.project(owner)
        site.fill(owner, project, 3)
        (person,) = site.annotators(project, 1)
        site.answer(person, site.queue.claim(person, project))
        waited: list[str] = []
        sent: list[str] = []
        for name, kept in (("first", waited), ("all", waited), ("run", sent)):
            was = getattr(Prepared, name)

            def counted(self, *given, name=name, kept=kept, was=was):
                kept.append(name)
                return was(self, *given)

            monkeypatch.setattr(Prepared, name, counted)
        lease = site.queue.claim(person, project)
        # The end of the log is seen first; a submission adds a row there and moves it.
        assert (len(waited), len(sent)) == (1 + 1, 1)
        site.answer(person, lease)
        assert (len(waited), len(sent)) == (2 + 2, 1 + 1 + 2)
        monkeypatch.undo()
        site.sound()
