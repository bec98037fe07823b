"""Chat and compare in a real browser, by keyboard alone; and an owner who lets models answer."""

import json
from pathlib import Path

import pytest
from browser import BINARY
from house import House
from test_label_browser import NAMELESS, Patient, come, enter, fresh, press
from test_owning import NEW

pytestmark = [pytest.mark.browser, pytest.mark.skipif(BINARY is None, reason="Chromium is not installed")]

TURN = "document.querySelector('.turn-line .tag')?.textContent"
NEW_ANSWER = (
    "[...document.querySelectorAll('.answer')].find((one) => one.querySelector('.tag').textContent === '新的回答')"
    ".querySelector('.prose').textContent.trim()"
)
LAST = "[...document.querySelectorAll('.conversation .prose')].at(-1)?.textContent.trim()"


@pytest.fixture
def house(talking: House) -> House:
    return talking


def test_a_conversation_by_keyboard(house: House):
    """Two turns, a choice, another answer that is better, a reload in between, and a new conversation; on a phone."""
    owner = house.person("owner")
    chat = {"model_a": "runs/one", "model_b": "runs/two", "turns": 2}
    maker = house.visitor(owner)
    project = maker.post("/projects", {**NEW, "kind": "chat", "overlap": 1, "chat": chat}).json()["project"]
    house.projects.set_state(owner.account, project, "open")
    session = house.member(owner, project, "talker")
    house.projects.confirm_guideline(session.account, project, 1)
    house.accounts.set_member(owner.account, project, session.account, state="active")
    with Patient(width=390, height=800, language="zh") as browser:
        come(browser, house, fresh(house, session))
        browser.call("Network.setCookie", name="language", value="zh", url=house.url)
        browser.open(f"{house.url}/p/{project}/task")
        browser.until(f"{TURN} === '轮次 1 / 2'")
        browser.type("slow")
        browser.until("document.querySelector('.status').textContent === '草稿已存'")
        browser.run("localStorage.clear()")  # as on another machine
        browser.open(f"{house.url}/p/{project}/task")
        browser.until("document.querySelector('.compose textarea')?.value === 'slow'")
        enter(browser)
        browser.until("!document.querySelector('.waiting').hidden")
        browser.open(f"{house.url}/p/{project}/task")  # while the answers are coming
        browser.until("document.querySelector('.compose textarea')?.value === 'slow'")
        enter(browser)
        browser.until("document.querySelectorAll('.answer').length === 2")
        assert browser.run(NAMELESS) == []
        press(browser, "6")
        browser.until("document.querySelector('.status').textContent === '草稿已存'")
        browser.open(f"{house.url}/p/{project}/task")
        browser.until("document.querySelector('.choice[aria-checked=true].s6')")
        better = browser.run("document.querySelectorAll('.answer .prose')[1].textContent.trim()")
        enter(browser)
        browser.until(f"{TURN} === '轮次 2 / 2' && {LAST} === {json.dumps(better)}")
        new = another(browser, "]", 221)
        assert new not in ("", better)
        browser.until(f"{TURN} === '轮次 2 / 2' && {LAST} === {json.dumps(new)}")
        another(browser, "[", 219)  # which is worse: the last one goes on
        browser.until(f"{TURN} === '轮次 2 / 2' && {LAST} === {json.dumps(new)}")
        browser.type("and now?")
        enter(browser)
        browser.until("document.querySelectorAll('.answer').length === 2")
        press(browser, "0")
        enter(browser)
        browser.until("document.querySelector('.compose textarea')?.value === 'and now?'")
        browser.key("Escape", 27)
        press(browser, "u")
        browser.until("document.querySelector('.choice[aria-checked=true].apart')")
        press(browser, "1")
        enter(browser)
        browser.until("document.querySelector('.talk .bar .main kbd')?.textContent === 'w'")
        assert browser.run("document.documentElement.scrollWidth") <= 390
        press(browser, "w")
        browser.until(f"{TURN} === '轮次 1 / 2' && !document.querySelector('.conversation')")
        assert browser.run("document.activeElement.tagName") == "TEXTAREA"
        assert [line for line in browser.complaints() if "409" not in line] == []
    assert [row[0] for row in house.rows("select kind from judgment order by number")] == [
        "answer", "answer", "answer", "answer", "retract", "answer",
    ]  # fmt: skip
    assert house.rows("select turns, state from dialogue") == [(2, "ended")]
    house.sound()


def another(browser: Patient, key: str, code: int) -> str:
    """Asks for another answer, says by a key how it is, and gives it."""
    browser.key("Escape", 27)
    press(browser, "t")
    browser.until("document.querySelectorAll('.answer .tag').length === 2")
    new = browser.run(NEW_ANSWER)
    browser.key(key, code)
    browser.until("document.querySelectorAll('.again .choice[aria-checked=true]').length === 1")
    enter(browser)
    return new


def test_an_owner_lets_models_answer(house: House, tmp_path: Path):
    """From the page of a new project to items; and a model that has gone since is told."""
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(20)))
    owner = house.person("owner")
    with Patient() as browser:
        come(browser, house, owner)
        browser.open(f"{house.url}/projects/new")
        browser.click("#name")
        browser.type("Sampled")
        browser.click("#sampling summary")
        browser.choose("#sample-file", file)
        for box in ("runs/one", "runs/two"):
            browser.click(f"#sampling input[value='{box}']")
        browser.click("#making button.main")
        browser.until("location.pathname.endsWith('/sample')")
        browser.until("document.getElementById('job-state')?.textContent === 'All prompts are answered'")
        assert browser.run("document.getElementById('job-added').textContent") == "20"
        assert house.rows("select count(*) from item") == [(20,)]
        browser.choose("#sample-file", file)
        browser.click("#sampling input[value='runs/one']")
        browser.run("document.querySelector('#sampling [value=\"runs/one\"]').value = 'runs/gone'")
        browser.click("#sampling button.main")
        browser.until("document.getElementById('said').textContent.includes('there are runs/one, runs/two')")
        assert [line for line in browser.complaints() if "422" not in line] == []
