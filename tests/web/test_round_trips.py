"""Over a wire each statement costs: a claim is two, a submission that brings the next item three."""

import contextlib
from collections.abc import Iterator

import pytest
from site_of_tests import Site, opened

from tutelage.web.database import Ahead
from tutelage.web.judgments import Submission
from tutelage.web.prepared import Prepared
from tutelage.web.queue_wire import see


@contextlib.contextmanager
def counted() -> Iterator[dict[str, int]]:
    """How often statements are waited for ("first", "all"), asked in advance ("later") and only sent ("run")."""
    counts = dict.fromkeys(("first", "all", "later", "run"), 0)
    with pytest.MonkeyPatch.context() as patch:
        for name in counts:
            was = getattr(Prepared, name)

            def count(self, *given, name=name, was=was):
                counts[name] += 1
                return was(self, *given)

            patch.setattr(Prepared, name, count)
        yield counts


@pytest.mark.postgres
def test_a_claim_is_two_statements_and_a_submission_three(cluster) -> None:
    with opened(cluster.database()) as site:
        owner = site.person("owner")
        project = site.project(owner)
        site.fill(owner, project, 3)
        (person,) = site.annotators(project, 1)
        site.answer(person, site.queue.claim(person, project))
        # The end of the log is seen first; a submission adds its rows there and moves it.
        with counted() as claim:
            lease = site.queue.claim(person, project)
        assert claim == {"first": 1, "all": 0, "later": 2, "run": 0}
        with counted() as submission:
            answer_and_claim(site, person, project, lease)
        assert submission == {"first": 1, "all": 0, "later": 2, "run": 1 + 2}
        site.sound()


def answer_and_claim(site: Site, person: str, project: str, lease) -> None:
    """As the page does."""
    new = Submission(item=lease.item, token=lease.token, idem=site.key(), said={"better": 1})
    site.database.write(
        lambda t: (site.judgments.submitting(t, person, new), site.queue.taking(t, person, project)),
        whole=True,
        ahead=Ahead(
            person, lambda t: see(t.connection, t.at, person, project=project, submission=(new.item, new.idem))
        ),
    )
