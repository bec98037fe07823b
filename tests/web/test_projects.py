import pytest
from site_of_tests import BETTER, Site, new_item, refused

from tutelage.records import Message
from tutelage.web.answers import Question
from tutelage.web.items import NewResponse
from tutelage.web.sessions import Session


def test_what_is_the_same_is_kept_once(site: Site, anna: Session):
    project = site.project(anna)
    of_a_model = (NewResponse(text="x", model="m", licence="MIT"), NewResponse(text="x", model="n"))
    items = [new_item(1), new_item(1), new_item(1, responses=of_a_model), new_item(2)]
    ids = site.projects.add_items(anna.account, project, items)
    assert len(set(ids)) == 4
    assert site.projects.add_items(anna.account, project, items[:1])[0] not in ids
    counted = "select (select count(*) from prompt), (select count(*) from response), (select count(*) from model)"
    assert site.rows(counted) == [(2, 6, 2)]
    assert site.rows("select count(*) from item_response") == [(10,)]
    assert site.rows("select name, licence from model order by name") == [("m", "MIT"), ("n", "")]
    site.sound()


def test_positions_go_on_over_many_pieces(site: Site, anna: Session):
    project = site.project(anna)
    site.fill(anna, project, 1100)
    assert site.rows("select count(*), min(position), max(position) from item") == [(1100, 1, 1100)]
    assert site.rows("select count(*) from item where number <> position") == [(0,)]
    texts = site.rows(
        "select p.messages, r.text from item i join prompt p on p.number = i.prompt join item_response s "
        "on s.item = i.number and s.slot = 1 join response r on r.number = s.response where i.position = 1001"
    )
    assert "question 1000" in texts[0][0]
    assert texts[0][1] == "right 1000"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": ()}, "the prompt is what comes before"),
        ({"prompt": (Message(role="assistant", content="x"),)}, "the prompt is what comes before"),
        ({"responses": (NewResponse(text="a"),)}, "1 responses: two are compared"),
        ({"responses": (NewResponse(text="a"), NewResponse(text="\x00"))}, "no character"),
        ({"need": 0}, "for 0 people"),
        ({"gold": {"better": 1}}, "go together"),
        ({"lane": "gold"}, "go together"),
        ({"lane": "gold", "gold": {"better": 9}}, "better: 9: a whole number from 1 to 7"),
    ],
)
def test_an_item_that_cannot_be_judged(site: Site, anna: Session, changes: dict, words: str):
    project = site.project(anna)
    refusal = refused(site.projects.add_items, anna.account, project, [new_item(1), new_item(2, **changes)])
    assert refusal.code == "bad_input"
    assert words in str(refusal)
    assert site.rows("select count(*) from item") == [(0,)]


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        ((), "none"),
        ((BETTER, BETTER), "there once"),
        ((Question(key="a b", kind="text"),), "a key is a word"),
        ((Question(key="a", kind="guess"),), "one of compare, rank"),  # pyright: ignore
        ((Question(key="a", kind="scale", low=3, high=3),), "2 to 101 steps"),
    ],
)
def test_questions_that_are_none(site: Site, anna: Session, questions: tuple, words: str):
    assert words in str(refused(site.project, anna, questions=questions))


def test_only_those_who_may(site: Site, anna: Session):
    project = site.project(anna)
    reviewer = site.member(anna, project, "rita", "reviewer")
    stranger = site.person("eve")
    for account, code in ((reviewer.account, "not_allowed"), (stranger.account, "unknown")):
        for work in (
            lambda account=account: site.projects.add_items(account, project, [new_item(1)]),
            lambda account=account: site.projects.publish(account, project, "x", major=True),
            lambda account=account: site.projects.set_state(account, project, "closed"),
        ):
            assert refused(work).code == code
    assert refused(site.project, reviewer).code == "not_allowed"
    assert refused(site.projects.publish, anna.account, project, "  ", major=True).code == "bad_input"
    manager = site.member(anna, project, "mia", "manager")
    assert len(site.projects.add_items(manager.account, project, [new_item(1)])) == 1
