"""Snapshots hold what counted, stay as they were, and go out whole; what is done to a database from outside."""

import gzip
import json
from pathlib import Path

import pytest
import sqlalchemy as sa
import tiny
from site_of_tests import BETTER, Site, new_item

from tutelage.errors import RecordError, SettingsError
from tutelage.feedback import snapshot
from tutelage.feedback.exchange import SHAPES
from tutelage.feedback.judged import judged
from tutelage.stages import collect
from tutelage.web import intake, schema, snapshots, upkeep
from tutelage.web.answers import Question
from tutelage.web.counting import Query
from tutelage.web.items import NewResponse
from tutelage.web.refusal import DatabaseError, Refusal


@pytest.fixture
def site(where: Path | str):
    site = Site(where)
    yield site
    site.database.close()


def judged_project(site: Site, items: int = 6, people: int = 2):
    owner = site.person("owner")
    project = site.project(owner)
    site.projects.add_items(
        owner.account, project,
        [new_item(n, need=people, responses=(NewResponse(text=f"left {n}", model="m1", licence="MIT"),
                                             NewResponse(text=f"right {n}"))) for n in range(items)],
    )  # fmt: skip
    names = site.annotators(project, people)
    for turn in range(items):
        for number, person in enumerate(names):
            lease = site.queue.claim(person, project)
            # Everyone prefers the left one, but the second person the right one of the first item.
            wants = 1 if number == 1 and turn == 0 else 0
            site.answer(person, lease, 2 if lease.shown[0] == wants else 6)
    return owner, project, names


def rows(site: Site, id: str) -> list[snapshot.Row]:
    return list(snapshots.rows(site.database, id))


def test_it_holds_what_was_said_by_slots(site: Site) -> None:
    owner, project, names = judged_project(site)
    id = snapshots.make(site.database, owner.account, project, "first")
    held = rows(site, id)
    assert [[opinion.values[0].num for opinion in row.answers] for row in held] == [[2, 6]] + [[2, 2]] * 5
    assert [opinion.rater for opinion in held[0].answers] == names
    assert (held[0].responses[0].text, held[0].responses[0].model, held[0].responses[0].licence) == (
        "left 0",
        "m1",
        "MIT",
    )
    head = snapshots.header(site.database, id)
    assert (head.items, head.answers, head.people, head.guidelines.keys()) == (6, 12, 2, {"1"})
    (info,) = site.database.read(lambda c: snapshots.listed(c, project))
    assert (info.id, info.name, info.sha256, info.author, info.rows) == (id, "first", head.sha256, "owner", 6)
    comparisons = judged(head.questions, held).comparisons
    assert [comparison.ranks for comparison in comparisons[:3]] == [(1, 2), (2, 1), (1, 2)]
    site.sound()
    assert "snapshot.make" in site.actions()


def test_the_same_answers_are_the_same_bytes_and_new_ones_change_nothing_old(site: Site, tmp_path: Path) -> None:
    owner, project, _ = judged_project(site)
    one, two = (snapshots.make(site.database, owner.account, project, name) for name in ("one", "two"))
    before = list(snapshots.lines(site.database, one))
    assert before == list(snapshots.lines(site.database, two))
    site.fill(owner, project, 1)
    site.answer(owner.account, site.queue.claim(owner.account, project), 1)
    three = snapshots.make(site.database, owner.account, project, "three")
    assert list(snapshots.lines(site.database, one)) == before
    found = site.database.read(lambda c: snapshots.difference(c, one, three))
    assert (found.added, found.removed, found.changed, found.same) == (1, 0, 0, 6)
    listed = site.database.read(lambda c: snapshots.listed(c, project))
    assert {info.name: info.parent for info in listed} == {"one": None, "two": one, "three": two}
    assert snapshots.header(site.database, two).parent == snapshots.header(site.database, one).sha256
    folder = snapshots.write(site.database, three, tmp_path / "people")
    assert list(snapshot.rows(folder)) == rows(site, three)


def test_what_is_not_asked_for_is_not_there(site: Site) -> None:
    owner, project, names = judged_project(site)
    site.projects.add_items(owner.account, project, [new_item(99, lane="gold", gold={"better": 1})])
    aside = {
        "id": "A", "project": project, "account": names[1], "since": 0, "reason": "", "made_by": owner.account, "at": 1,
    }  # fmt: skip
    site.database.write(lambda t: t.connection.execute(sa.insert(schema.set_aside), aside) and None)

    def counts(**query) -> tuple[int, int]:
        found = site.database.read(lambda c: snapshots.preview(c, project, Query(**query)))
        return found.items, found.answers

    assert counts() == (6, 6)
    assert counts(set_aside=True) == (6, 12)
    assert counts(min_answers=2) == (0, 0)
    assert counts(guideline_from=2) == (0, 0)
    with pytest.raises(Refusal, match="nothing"):
        snapshots.make(site.database, owner.account, project, "none", Query(min_answers=3))
    with pytest.raises(Refusal, match="name"):
        snapshots.make(site.database, owner.account, project, " ")
    with pytest.raises(Refusal) as refusal:
        snapshots.make(site.database, names[0], project, "mine")
    assert refusal.value.code == "not_allowed"
    with pytest.raises(Refusal) as refusal:
        snapshots.header(site.database, "nothing")
    assert refusal.value.code == "unknown"


def test_a_decision_goes_with_its_item_and_a_retraction_takes_an_answer(site: Site) -> None:
    owner, project, names = judged_project(site)
    number, id = site.rows("select number, id from item order by number")[0]
    decide = {
        "id": "D", "item": number, "project": project, "account": owner.account, "kind": "decide",
        "said": '{"better":7}', "note": "", "at": 5,
    }  # fmt: skip
    site.database.write(lambda t: t.connection.execute(sa.insert(schema.decision), decide) and None)
    site.judgments.undo(names[0], project, "undo undo")
    held = rows(site, snapshots.make(site.database, owner.account, project, "x"))
    assert held[0].item == id
    assert held[0].decided.values[0].num == 7
    assert [len(row.answers) for row in held] == [2, 2, 2, 2, 2, 1]


def test_snapshots_cannot_be_changed(site: Site) -> None:
    owner, project, _ = judged_project(site, 1)
    snapshots.make(site.database, owner.account, project, "x")
    for statement in ("update snapshot set name = 'y'", "delete from snapshot_part"):
        with pytest.raises(Exception, match="only ever added to"):
            site.database.write(lambda t, s=statement: t.connection.exec_driver_sql(s) and None)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_can_be_had(site: Site, shape: str) -> None:
    owner, project, _ = judged_project(site, 2)
    id = snapshots.make(site.database, owner.account, project, "x")
    out = b"".join(snapshots.export(site.database, id, shape))
    if shape in ("preference", "hh", "arena", "ranking", "label_studio", "argilla", "snapshot", "alpaca"):
        assert b"left 1" in out
    with pytest.raises(Refusal, match="no shape"):
        snapshots.export(site.database, id, "xml")


def test_no_answer_is_undone_that_a_snapshot_holds(site: Site) -> None:
    owner, project, names = judged_project(site)
    snapshots.make(site.database, owner.account, project, "x")
    with pytest.raises(Refusal) as refusal:
        site.judgments.undo(names[0], project, "undo undo")
    assert refusal.value.code == "too_late"


# From outside ---------------------------------------------------------------------------------------------------------


def test_a_backup_made_while_people_judge_is_whole(site: Site, where: Path | str, tmp_path: Path) -> None:
    owner, project, names = judged_project(site, 4)
    copy = tmp_path / "copy"
    upkeep.backup(where, copy)
    with pytest.raises(SettingsError, match="already"):
        upkeep.backup(where, copy)
    site.fill(owner, project, 1)
    site.answer(names[0], site.queue.claim(names[0], project), 1)
    if isinstance(where, Path):
        target = tmp_path / "restored.db"
        assert "4 rows" not in upkeep.restore(copy, target)[0]
        with Site(target).database as restored:
            assert restored.read(lambda c: c.scalar(sa.text("select count(*) from judgment"))) == 8
        with pytest.raises(SettingsError, match="already"):
            upkeep.restore(copy, target)
        broken = tmp_path / "broken"
        broken.write_bytes(copy.read_bytes()[:3000] + b"x" * 5000)
        with pytest.raises(DatabaseError, match="no sound copy"):
            upkeep.restore(broken, tmp_path / "other.db")
        assert not (tmp_path / "other.db").exists()
    else:
        with pytest.raises(SettingsError, match="holds tables"):
            upkeep.restore(copy, where)
        site.database.close()
        engine = sa.create_engine(where.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("drop schema public cascade")
            connection.exec_driver_sql("create schema public")
        engine.dispose()
        upkeep.restore(copy, where)
        site.database = Site(where).database
    assert upkeep.verify(where)[0].endswith("as it was given.")


def test_what_is_changed_behind_our_back_is_found(site: Site, where: Path | str) -> None:
    judged_project(site, 2)
    said = upkeep.verify(where)
    anchor = said[1].rpartition(" ")[2]
    assert upkeep.verify(where, anchor) == said
    with pytest.raises(SettingsError, match="ROW:HASH"):
        upkeep.verify(where, "nonsense")
    with pytest.raises(DatabaseError, match="does not go through"):
        upkeep.verify(where, "3:" + "0" * 64)


def test_from_the_command_line_to_a_folder_and_a_file(site: Site, where: Path | str, tmp_path: Path) -> None:
    _, project, _ = judged_project(site, 3)
    assert upkeep.projects(where) == [f"{project}  open    p"]
    upkeep.snapshot(where, "p", "first", tmp_path / "people")
    assert len(list(snapshot.rows(tmp_path / "people"))) == 3
    with pytest.raises(SettingsError, match="already"):
        upkeep.snapshot(where, "p", "first", tmp_path / "people")
    upkeep.export(where, project, "first", "preference", tmp_path / "out.jsonl")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 6
    with pytest.raises(Refusal, match="there are first"):
        upkeep.export(where, project, "other", "preference", tmp_path / "x")
    with pytest.raises(Refusal, match="there are p"):
        upkeep.snapshot(where, "nobody", "x", tmp_path / "y")


def test_collect_takes_the_file_that_is_exported(site: Site, where: Path | str, tmp_path: Path) -> None:
    judged_project(site, 6)
    folder, file = tmp_path / "people", tmp_path / "snapshot.jsonl"
    upkeep.snapshot(where, "p", "first", folder)
    upkeep.export(where, "p", "first", "snapshot", file)
    assert snapshot.header(file) == snapshot.header(folder)
    assert list(snapshot.rows(file)) == list(snapshot.rows(folder))
    for name, votes in (("one", folder), ("two", file)):
        tiny.run_stage(collect, tmp_path / name, judge="votes", votes=votes)
    one, two = ((tmp_path / name / "comparisons.jsonl").read_text() for name in ("one", "two"))
    assert one == two
    assert len(one.splitlines()) > 4
    assert len(list(intake.items(file))) == 6
    with pytest.raises(RecordError, match=r"rows.jsonl: rows of a snapshot without its header: give its folder"):
        tiny.run_stage(collect, tmp_path / "x", judge="votes", votes=folder / "rows.jsonl")
    file.write_text(file.read_text().replace("left 1", "left 2"))
    with pytest.raises(RecordError, match=r"snapshot.jsonl: not what it was"):
        tiny.run_stage(collect, tmp_path / "x", judge="votes", votes=file)


def test_what_collect_wrote_becomes_a_project_once(site: Site, where: Path | str, tmp_path: Path) -> None:
    site.person("owner")
    (tmp_path / "project.json").write_text(json.dumps({
        "name": "pairs", "kind": "compare", "guideline": "Be fair.", "overlap": 2,
        "questions": [{"key": "better", "kind": "compare", "dimension": "overall"}],
    }))  # fmt: skip
    (tmp_path / "items.jsonl").write_text(
        "".join(json.dumps({"prompt": f"q{n}", "responses": ["a", f"b{n}"]}) + "\n" for n in range(3))
    )
    made = upkeep.take_in(where, tmp_path)
    assert upkeep.take_in(where, tmp_path) == made
    assert site.rows("select count(*), min(need), max(need) from item") == [(3, 2, 2)]
    run = tmp_path / "worth"
    run.mkdir()
    (run / "project.json").write_text((tmp_path / "project.json").read_text())
    (run / "items.jsonl").write_text((tmp_path / "items.jsonl").read_text().replace('"q0"', '"q0", "worth": 1'))
    with pytest.raises(SettingsError, match=r"worth: row 2: worth: missing"):
        upkeep.take_in(where, run, ask=2)
    rows = [json.loads(line) | {"worth": n} for n, line in enumerate((run / "items.jsonl").read_text().splitlines())]
    (run / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    upkeep.take_in(where, run, ask=2)
    assert site.rows("select count(*) from item where p_select is not null") == [(2,)]
    with pytest.raises(SettingsError, match="no project to be judged"):
        upkeep.take_in(where, tmp_path / "nothing")


def test_several_questions_come_back_as_they_were(site: Site) -> None:
    owner = site.person("owner")
    questions = (BETTER, Question(key="tone", kind="scale", per_response=True), Question(key="why", kind="text"))
    project = site.project(owner, questions=questions)
    site.fill(owner, project, 1)
    (person,) = site.annotators(project, 1)
    lease = site.queue.claim(person, project)
    tones = [5, 2] if lease.shown[0] == 0 else [2, 5]
    site.answer(person, lease, said={"better": 4, "tone": tones, "why": "正 because"}, active_ms=1500)
    (row,) = rows(site, snapshots.make(site.database, owner.account, project, "x"))
    (opinion,) = row.answers
    told = {(given.question, given.slot): given.num if given.text is None else given.text for given in opinion.values}
    assert told == {("better", -1): 4, ("tone", 0): 5, ("tone", 1): 2, ("why", -1): "正 because"}
    assert (opinion.seconds, opinion.shown) == (1.5, lease.shown)
    body = site.database.read(lambda c: c.scalar(sa.select(schema.snapshot_part.c.body)))
    assert gzip.decompress(body).decode() == snapshot.line(row)
