"""The whole round in a real browser: an owner asks, three people judge by keyboard, and a model learns from them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from browser import BINARY
from house import House
from site_of_tests import PASSWORD
from test_label_browser import Patient, come, enter, press, until_shown

from tutelage.run import read_metrics

pytestmark = [
    pytest.mark.browser, pytest.mark.slow, pytest.mark.skipif(BINARY is None, reason="Chromium is not installed")
]  # fmt: skip

ITEMS, PEOPLE = 16, 3
NOTHING_LEFT = "document.querySelector('.center h1')?.textContent === 'Nothing left for you'"
LOST = "document.querySelector('h1')?.textContent.includes('went to someone else')"


def test_what_three_people_judge_trains_a_reward_model(house: House, tmp_path: Path, model_folder: Path):
    with contextlib.ExitStack() as stack:
        owner, *judges = (stack.enter_context(Patient()) for _ in range(1 + PEOPLE))
        project = make_project(owner, house, tmp_path)
        for number, judge in enumerate(judges):
            qualify(judge, invited(owner, house, project), f"judge{number}@example.org")
            judge.open(f"{house.url}/p/{project}/task")
            until_shown(judge, "")
        first, second, third = judges

        # The first thinks again about the first item.
        seen = until_shown(first, "")
        press(first, "4")
        enter(first)
        other = until_shown(first, seen)
        press(first, "u")
        assert until_shown(first, other) == seen
        judge_all(first)
        # The second is away for too long; the third comes by meanwhile.
        press(second, "5")
        house.clock.pass_(11)
        third.open(f"{house.url}/p/{project}/task")
        until_shown(third, "")
        enter(second)
        second.until(LOST)
        second.open(f"{house.url}/p/{project}/task")
        judge_all(second)
        judge_all(third)
        assert [judge.complaints() for judge in (first, third)] == [[], []]
        file = tmp_path / "snapshot.jsonl"
        file.write_text(taken_out(owner, house, project))

    assert house.rows("select kind, count(*) from judgment group by kind order by kind") == [
        ("answer", ITEMS * PEOPLE + 1), ("retract", 1)
    ]  # fmt: skip
    assert house.rows(f"select count(*) from item where lane = 1 and done = {PEOPLE}") == [(ITEMS,)]
    house.sound()
    folder = tmp_path / "people"
    tutelage("label", "snapshot", "Pairs", "round 2", folder, "--database", str(house.database.path))
    # The same answers make the same bytes; the header is the file's first line.
    assert (folder / "rows.jsonl").read_text() == file.read_text().partition("\n")[2]
    tutelage("collect", "--judge", "votes", "--votes", file, "--output", tmp_path / "collect")
    tutelage(
        "reward", "--model", model_folder, "--comparisons", tmp_path / "collect", "--output", tmp_path / "reward",
        "--batch-size", 8, "--num-train-epochs", 6, "--learning-rate", 0.01,
    )  # fmt: skip
    learned = read_metrics(tmp_path / "reward")
    assert learned[-1]["loss"] < learned[0]["loss"] / 2
    assert learned[-1]["accuracy"] > 0.9


def make_project(browser: Patient, house: House, folder: Path) -> str:
    """A project with a quiz, made and opened on its pages; its id."""
    file, quiz = folder / "pairs.jsonl", folder / "quiz.jsonl"
    asked = [{"prompt": one.prompt[0].content, "responses": one.responses} for one in tiny.comparisons(ITEMS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in asked))
    known = {"prompt": "known", "responses": ["the cat", "sun cat"], "gold": {"better": 1}, "explanation": "It is."}
    quiz.write_text(json.dumps(known) + "\n")
    come(browser, house, house.person("owner"))
    browser.open(f"{house.url}/projects/new")
    browser.click("#name")
    browser.type("Pairs")
    browser.run(f"document.getElementById('overlap').value = {PEOPLE}")
    browser.run("document.getElementById('gold').value = 0")
    for selector, path in (("#file", file), ("#quiz", quiz)):
        browser.choose(selector, path)
    browser.click("#making button.main")
    browser.until("location.pathname.endsWith('/board')")
    browser.click("button[name=state]")
    browser.until("document.querySelector('button[value=paused]')")
    return browser.run("location.pathname").split("/")[2]


def invited(browser: Patient, house: House, project: str) -> str:
    """A link that the owner's page makes."""
    browser.open(f"{house.url}/p/{project}/people")
    browser.click("form[action$='/invite'] button.main")
    browser.until("document.querySelector('.once input')")
    return browser.run("document.querySelector('.once input').value")


def qualify(browser: Patient, link: str, email: str) -> None:
    """From the link through the guideline and the quiz."""
    browser.open(link)
    for selector, text in (("#email", email), ("#name", email[:6]), ("#password", PASSWORD)):
        browser.click(selector)
        browser.type(text)
    enter(browser)
    browser.until("location.pathname.endsWith('/guideline') && document.querySelector('aside form button')")
    browser.run("document.querySelector('aside form button').focus()")
    enter(browser)
    browser.until("location.pathname.endsWith('/quiz') && document.querySelector('.bar')")
    press(browser, better(browser))
    enter(browser)
    browser.until("document.querySelector('.verdict.right')")
    enter(browser)
    browser.until("document.querySelector('.figure')?.textContent === '1 / 1'")


def better(browser: Patient) -> str:
    """The key for the answer that says "the", at whichever seat it stands."""
    first = "document.querySelector('.answer :is(.prose, .raw)').textContent.trim().startsWith('the')"
    return "1" if browser.run(first) else "7"


def judge_all(browser: Patient) -> None:
    """By keyboard until nothing is left."""
    seen = ""
    while True:
        there = "document.querySelector('.conversation .prose')?.textContent.trim()"
        browser.until(f"{NOTHING_LEFT} || ({there} && {there} !== {json.dumps(seen)})")
        if browser.run(NOTHING_LEFT):
            return
        seen = browser.run(there)
        press(browser, better(browser))
        enter(browser)


def taken_out(browser: Patient, house: House, project: str) -> str:
    """A snapshot that the owner makes and downloads."""
    browser.open(f"{house.url}/p/{project}/data")
    browser.click("#name")
    browser.type("round 1")
    enter(browser)
    browser.until("document.querySelector('a[href$=\"/snapshot\"]')")
    return browser.run("fetch(document.querySelector('a[href$=\"/snapshot\"]').href).then((answer) => answer.text())")


def tutelage(*words: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tutelage", *(str(word) for word in words)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
