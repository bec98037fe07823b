"""Prompts that models answer into a project's line."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from site_of_tests import Site, new_item, opened, refused

from tutelage.inference.language_model import Sampling
from tutelage.label import load
from tutelage.records import Message
from tutelage.web.answers import Question
from tutelage.web.items import NewItem
from tutelage.web.models import Models
from tutelage.web.sampling import GROUP, Job, Samplings, Wanted

ONE = Wanted(models=("runs/one",), answers=2, sampling=Sampling(seed=3))
BOTH = Wanted(models=("runs/one", "runs/two"), answers=1, sampling=Sampling(seed=3))


@pytest.fixture
def site(ready_file: Path, tmp_path: Path) -> Iterator[Site]:
    file = tmp_path / "label.db"
    file.write_bytes(ready_file.read_bytes())
    with opened(file) as site:
        yield site


def prompts(*texts: str) -> list[NewItem]:
    return [NewItem(prompt=(Message(role="user", content=text),), responses=(), need=2) for text in texts]


def finished(job: Job) -> Job:
    end = time.monotonic() + 60
    while job.state == "running":
        assert time.monotonic() < end
        time.sleep(0.01)
    return job


def held(site: Site) -> list[tuple[str, str, str, dict]]:
    rows = site.rows(
        "select p.messages, r.text, m.name, r.sampling from item i join item_response x on x.item = i.number "
        "join response r on r.number = x.response join model m on m.number = r.model "
        "join prompt p on p.number = i.prompt order by i.number, x.slot"
    )
    return [(json.loads(row[0])[-1]["content"], row[1], row[2], json.loads(row[3])) for row in rows]


def test_two_models_answer_once_each_and_who_is_kept(site: Site, models: Models):
    owner = site.person("owner")
    project = site.project(owner)
    samplings = Samplings(site.database, site.projects, models)
    texts = [f"q{n}" for n in range(GROUP + 3)]
    job = finished(samplings.start(owner.account, project, prompts(*texts), BOTH))
    assert (job.state, job.total, job.done, job.added, job.alike) == ("done", GROUP + 3, GROUP + 3, GROUP + 3, 0)
    rows = held(site)
    assert [row[0] for row in rows[::2]] == texts
    assert {(rows[n][2], rows[n + 1][2]) for n in range(0, len(rows), 2)} == {("runs/one", "runs/two")}
    assert len({row[3]["seed"] for row in rows}) == 4, "each model and each group is drawn with a seed of its own"
    for text, answer, _, sampling in rows:
        assert answer == f"draw {sampling['seed']}.{sampling['place']} of **{text}**"
    assert site.rows("select distinct need from item") == [(2,)]
    assert site.rows("select count(*) from model where length(sha256) = 64") == [(2,)]
    assert "items.sample" in site.actions()
    again = site.project(owner)
    finished(samplings.start(owner.account, again, prompts(*texts), BOTH))
    assert site.rows("select count(*) from response") == [(2 * len(texts),)], "the same seed gives the same answers"


def test_what_is_too_much_alike_is_no_item(site: Site, models: Models):
    owner = site.person("owner")
    project = site.project(owner)
    samplings = Samplings(site.database, site.projects, models)
    job = finished(samplings.start(owner.account, project, prompts("q", "alike"), replace(ONE, answers=3)))
    assert (job.state, job.done, job.added, job.alike) == ("done", 2, 1, 1)
    assert [row[0] for row in held(site)] == ["q", "q"], "of three different answers two are compared"


def test_the_row_that_is_too_long_is_named_and_what_came_before_stays(site: Site, models: Models):
    owner = site.person("owner")
    project = site.project(owner)
    samplings = Samplings(site.database, site.projects, models)
    texts = [f"q{n}" for n in range(GROUP + 2)]
    job = finished(samplings.start(owner.account, project, prompts(*texts, "word " * 80), ONE))
    assert (job.state, job.added) == ("failed", GROUP)
    assert f"row {GROUP + 3}: one: a prompt of 80 tokens does not fit" in job.message
    job = finished(samplings.start(owner.account, project, prompts("hush"), ONE))
    assert (job.state, job.message) == ("failed", "one: says nothing")


def test_it_is_stopped_and_one_at_a_time(site: Site, models: Models):
    owner = site.person("owner")
    project = site.project(owner)
    samplings = Samplings(site.database, site.projects, models)
    job = samplings.start(owner.account, project, prompts(*["slow"] * (3 * GROUP)), ONE)
    assert refused(samplings.start, owner.account, project, prompts("q"), ONE).code == "full"
    samplings.stop(project)
    assert finished(job).state == "stopped"
    assert job.done <= GROUP
    assert samplings.job(project) is job
    assert samplings.job("another") is None


def test_what_cannot_be_judged_is_not_begun(site: Site, models: Models):
    owner, stranger = site.person("owner"), site.person("stranger")
    project = site.project(owner)
    samplings = Samplings(site.database, site.projects, models)

    def said(wanted: Wanted, rows: list[NewItem] | None = None) -> str:
        return str(refused(samplings.start, owner.account, project, rows or prompts("q"), wanted))

    assert "not here: there are runs/one, runs/two" in said(replace(ONE, models=("runs/tow",)))
    assert "each once" in said(replace(ONE, models=("runs/one", "runs/one")))
    assert "1 answers to each prompt: this project takes 2 to 26" in said(replace(ONE, answers=1))
    assert "the same answer every time" in said(replace(ONE, sampling=Sampling(temperature=0)))
    assert "row 2: has responses" in said(ONE, [*prompts("q"), new_item(1)])
    assert "row 1: the prompt is" in said(
        ONE, [replace(prompts("q")[0], prompt=(Message(role="assistant", content="x"),))]
    )
    assert refused(samplings.start, stranger.account, project, prompts("q"), ONE).code == "unknown"
    assert site.rows("select count(*) from item") == [(0,)]


def test_a_real_model_answers_for_a_ranking(site: Site, model_folder: Path):
    owner = site.person("owner")
    project = site.project(owner, questions=(Question(key="order", kind="rank"),))
    asked = Models(lambda: {"tiny": model_folder}, load)
    try:
        samplings = Samplings(site.database, site.projects, asked)
        wanted = Wanted(models=("tiny",), answers=3, sampling=Sampling(max_new_tokens=6, seed=2))
        job = finished(samplings.start(owner.account, project, prompts("the cat", "the dog"), wanted))
        assert (job.state, job.added) == ("done", 2), job.message
        rows = held(site)
        assert len(rows) == 6
        assert {row[2] for row in rows} == {"tiny"}
        assert rows[0][3]["finish_reason"] == "length"
    finally:
        asked.close()
