"""The labelling site in a real browser: by keyboard, without a network, and with texts that mean harm."""

import html
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import BINARY, Browser
from house import House
from site_of_tests import PASSWORD

from tutelage.records import Message
from tutelage.web.answers import Question
from tutelage.web.items import NewItem, NewResponse
from tutelage.web.label.presets import RULES
from tutelage.web.label.task_words import TASK
from tutelage.web.sessions import Session

pytestmark = [pytest.mark.browser, pytest.mark.skipif(BINARY is None, reason="Chromium is not installed")]

PAYLOADS = [
    "<script>window.hit=1</script>", "<img src=x onerror=window.hit=1>", "<svg onload=window.hit=1>",
    "</textarea><script>hit=1</script>", "[a](javascript:window.hit=1)", "![a](http://evil.example/leak.png)",
    "<iframe srcdoc='<script>top.hit=1</script>'>",
    '"><script>window.hit=1</script>', "' onmouseover='window.hit=1",
    "<a href='http://evil.example' ping='http://evil.example'>a</a>",
    "<style>@import 'http://evil.example'</style>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=window.hit=1>",
    "<noscript><p title='</noscript><img src=x onerror=window.hit=1>'>",
    "<details open ontoggle=window.hit=1>x</details>",
    "{{ 7*7 }}{% raw %}", "<body onload=window.hit=1>", "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<form action=http://evil.example><button>go</button></form>",
    "<link rel=stylesheet href=http://evil.example>",
    "<object data=http://evil.example></object>",
    "```\n</code></pre><script>window.hit=1</script>\n```", "<!--><script>hit=1</script>",
    "[x]: http://evil.example 'y'\n[x] <http://evil.example>", "&lt;script&gt;window.hit=1&lt;/script&gt;",
    "\u202egnp.exe\x1b]52;c;aGk=\x07",
    "<template><script>window.hit=1</script></template>", "<x data-do=submit data-upload=/ data-render=/>",
]  # fmt: skip


CLICK_ALL = """(() => {
  const bad = [];
  for (const e of document.querySelectorAll('*')) {
    const live = ['SCRIPT', 'IFRAME', 'OBJECT', 'STYLE', 'SVG'].includes(e.tagName);
    if (live && !e.src && !e.closest('.meter, td')) bad.push(e.outerHTML);
    for (const a of e.attributes) if (a.name.startsWith('on') || /^javascript:/i.test(a.value)) bad.push(e.outerHTML);
  }
  for (const e of document.querySelectorAll('.prose :is(img, a, form, [style])')) bad.push(e.outerHTML);
  for (const e of document.querySelectorAll('.prose *')) e.click();
  return bad;
})()"""
"""What of a page is alive that should not be; and a click on everything that somebody has written."""
NAMELESS = """[...document.querySelectorAll('button, a, input:not([type=hidden]), select, textarea, dialog')]
  .filter((e) => !e.textContent.trim() && !e.getAttribute('aria-label') && !(e.labels && e.labels.length))
  .map((e) => e.outerHTML)"""


class Patient(Browser):
    """Waits longer: these pages are asked by a browser and answered by a server on the same busy machine."""

    def until(self, condition: str, seconds: float = 90) -> None:
        super().until(condition, seconds)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Patient() as opened:
        yield opened


def come(browser: Browser, house: House, session: Session) -> None:
    browser.call("Network.clearBrowserCookies")
    browser.call("Network.setCookie", name="session", value=session.token, url=house.url, httpOnly=True)


def press(browser: Browser, keys: str) -> None:
    for key in keys:
        browser.key(key, ord(key.upper()))


def enter(browser: Browser) -> None:
    browser.key("Enter", 13)


def shown(browser: Browser) -> str:
    return browser.run("document.querySelector('.conversation .prose')?.textContent.trim() ?? ''")


def until_shown(browser: Browser, other_than: str) -> str:
    there = "document.querySelector('.conversation .prose')?.textContent.trim()"
    browser.until(f"{there} && {there} !== {json.dumps(other_than)}")
    return shown(browser)


def fresh(house: House, session: Session) -> Session:
    """The rights have changed: a new token."""
    return house.sessions.sign_in(
        house.rows(f"select email from account where id = '{session.account}'")[0][0], PASSWORD
    )


def test_from_a_file_to_a_decision(house: House, browser: Browser, tmp_path: Path):
    """An owner makes a project; somebody is invited, reads, passes the quiz, and judges by keyboard alone."""
    file, quiz = tmp_path / "pairs.jsonl", tmp_path / "quiz.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"p{n}", "responses": ["one", "two"]}) + "\n" for n in range(3)))
    known = {"prompt": "known", "responses": ["good", "bad"], "gold": {"better": 2}, "explanation": "It *is* good."}
    quiz.write_text(json.dumps(known) + "\n")
    owner = house.person("owner")
    come(browser, house, owner)
    browser.open(f"{house.url}/projects/new")
    browser.click("#name")
    browser.type("Pairs by keyboard")
    browser.run("document.getElementById('overlap').value = 2")
    for selector, path in (("#file", file), ("#quiz", quiz)):
        browser.choose(selector, path)
    browser.click("#making button.main")
    browser.until("location.pathname.endsWith('/board')")
    [(project,)] = house.rows("select id from project")
    assert house.rows("select count(*) from item") == [(3,)]
    browser.click("button[name=state]")
    browser.until("document.querySelector('button[value=paused]')")

    link = house.accounts.invite(owner.account, project, "annotator")
    browser.call("Network.clearBrowserCookies")
    browser.open(f"{house.url}/invite/{link}")
    for selector, text in (("#email", "new@example.org"), ("#name", "New"), ("#password", PASSWORD)):
        browser.click(selector)
        browser.type(text)
    enter(browser)
    browser.until("location.pathname.endsWith('/guideline')")
    browser.run("document.querySelector('aside form button').focus()")
    enter(browser)
    browser.until("location.pathname.endsWith('/quiz') && document.querySelector('.bar')")
    press(browser, "1")
    enter(browser)
    browser.until("document.querySelector('.verdict.right em')")
    enter(browser)
    browser.until("document.querySelector('.figure')?.textContent === '1 / 1'")
    browser.open(f"{house.url}/p/{project}/task")

    first = until_shown(browser, "")
    press(browser, "6")
    enter(browser)
    second = until_shown(browser, first)
    press(browser, "u")
    assert until_shown(browser, second) == first
    browser.until("document.querySelector('.choice[aria-checked=true].s6')")
    press(browser, "2n")
    browser.type("a reason")
    browser.key("Escape", 27)
    enter(browser)
    assert until_shown(browser, first) == second
    press(browser, "x")
    browser.until("document.querySelector('dialog[open]')")
    press(browser, "2")
    browser.until("document.querySelector('.doubt:not([hidden])')")
    enter(browser)
    third = until_shown(browser, second)
    press(browser, "s")
    browser.until("document.querySelector('dialog[open]')")
    press(browser, "3")
    browser.until("document.querySelector('.center h1')?.textContent === 'Nothing left for you'")
    assert third
    kinds = [row[0] for row in house.rows("select kind from judgment order by number")]
    assert kinds == ["answer", "retract", "answer", "answer", "skip"]
    assert house.rows("select note from judgment where number = 3") == [("a reason",)]
    assert browser.complaints() == []
    house.sound()


def put(
    house: House, owner: Session, questions: tuple[Question, ...], responses: int = 2, **changes
) -> tuple[str, Session]:
    """A project with three items, and somebody who may judge it."""
    project = house.project(owner, questions=questions, **changes)
    texts = tuple(NewResponse(text=f"answer **{n}**") for n in range(responses))
    items = [NewItem(prompt=(Message(role="user", content=f"item {n}"),), responses=texts) for n in range(3)]
    house.projects.add_items(owner.account, project, items)
    session = house.member(owner, project, f"judge{time.monotonic_ns()}")
    house.projects.confirm_guideline(session.account, project, 1)
    house.accounts.set_member(owner.account, project, session.account, state="active")
    return project, fresh(house, session)


def test_every_kind_of_question_by_keyboard(house: House, browser: Browser):
    owner = house.person("owner")
    kinds = {
        "rank": (Question(key="q", kind="rank"),), "scale": (Question(key="q", kind="scale", per_response=True),),
        "binary": (Question(key="q", kind="binary", per_response=True),), "text": (Question(key="q", kind="text"),),
        "conflict": tuple(Question(key=key, kind="compare", dimension=key) for key in ("harmless", "overall")),
    }  # fmt: skip
    for kind, questions in kinds.items():
        project, session = put(house, owner, questions, 3 if kind == "rank" else 2, conflict_rules=RULES["en"])
        come(browser, house, session)
        browser.open(f"{house.url}/p/{project}/task")
        first = until_shown(browser, "")
        browser.key("Escape", 27)  # out of a field, where Enter begins a line
        enter(browser)  # nothing is answered yet, and nothing is sent
        browser.until("document.querySelector('.status.urgent')")
        match kind:
            case "rank":
                press(browser, "b=ac")
            case "scale":
                press(browser, "42")
            case "binary":
                press(browser, "jk")
            case "text":
                browser.click(".question textarea")
                browser.type("my own words")
                browser.key("Escape", 27)
            case _:
                press(browser, "26")
        enter(browser)
        if kind == "conflict":
            browser.until("document.querySelector('dialog[open]')")
            press(browser, "2")
        until_shown(browser, first)
        [(shown_order,)] = house.rows(f"select shown from judgment where project = '{project}'")
        values = house.rows(
            "select v.question, v.slot, v.num, v.text from judgment_value v join judgment j on j.number = v.judgment "
            f"where j.project = '{project}' order by v.question, v.slot"
        )
        by_seat = {slot: json.loads(shown_order).index(slot) for _, slot, *_ in values if slot >= 0}
        said = {by_seat.get(slot, question): text or num for question, slot, num, text in values}
        wanted = {
            "rank": {0: 1, 1: 1, 2: 2},
            "scale": {0: 4, 1: 2},
            "binary": {0: 1, 1: 0},
            "text": {"q": "my own words"},
        }
        if kind in wanted:
            assert {place: value or 0 for place, value in said.items()} == wanted[kind], kind
        else:
            rules = house.rows(f"select conflict_rule from judgment where project = '{project}'")
            assert rules == [(RULES["en"][1],)]
    assert browser.complaints() == []


def test_without_a_network_nothing_is_lost_and_nothing_is_twice(house: House, browser: Browser):
    project, session = put(house, house.person("owner"), (Question(key="q", kind="compare"),))
    come(browser, house, session)
    browser.open(f"{house.url}/p/{project}/task")
    first = until_shown(browser, "")
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", offline=True, **offline)
    press(browser, "5")
    enter(browser)
    browser.until("!document.querySelector('.notice[role=alert]').hidden")
    assert house.rows("select count(*) from judgment") == [(0,)]
    browser.call("Network.emulateNetworkConditions", offline=False, **offline)
    until_shown(browser, first)
    assert house.rows("select count(*) from judgment") == [(1,)]


def test_a_draft_is_there_again_and_a_lost_lease_is_told(house: House, browser: Browser):
    owner = house.person("owner")
    project, session = put(house, owner, (Question(key="q", kind="text"),))
    come(browser, house, session)
    browser.open(f"{house.url}/p/{project}/task")
    first = until_shown(browser, "")
    browser.click(".question textarea")
    browser.type("half a thought")
    browser.until("document.querySelector('.status').textContent === 'Draft kept'")
    browser.run("localStorage.clear()")  # as on another machine
    browser.open(f"{house.url}/p/{project}/task")
    browser.until("document.querySelector('.question textarea')?.value === 'half a thought'")
    house.clock.pass_(11)
    [other] = house.annotators(project, 1)
    for _ in range(3):
        lease = house.queue.claim(other, project)
        assert lease is not None
        house.answer(other, lease, said={"q": "mine"})
    browser.key("Escape", 27)
    enter(browser)
    browser.until("document.querySelector('.center textarea')?.value === 'half a thought'")
    assert "went to someone else" in browser.run("document.querySelector('h1').textContent")
    assert first


def test_hostile_texts_run_nothing_and_fetch_nothing(house: House, browser: Browser):
    """Everywhere where somebody's words are shown, to whoever sees them; everything is clicked."""
    owner = house.accounts.accept(house.accounts.invite_owner(), "o@example.org", PASSWORD, name=PAYLOADS[1])
    project = house.project(
        owner,
        name=" ".join(PAYLOADS[:3]),
        guideline="\n\n".join(PAYLOADS),
        settings={"labels": {"better": PAYLOADS[7]}},
    )
    items = [
        NewItem(
            prompt=(Message(role="user", content=text),), need=2, source=text,
            responses=(NewResponse(text=text), NewResponse(text=text * 2)),
        )
        for text in PAYLOADS
    ]  # fmt: skip
    house.projects.add_items(owner.account, project, items)
    judge = house.accounts.accept(
        house.accounts.invite(owner.account, project, "annotator"), "j@example.org", PASSWORD, name=PAYLOADS[8]
    )
    house.projects.confirm_guideline(judge.account, project, 1)
    house.accounts.set_member(owner.account, project, judge.account, state="active")
    for text in PAYLOADS[:20]:
        lease = house.queue.claim(judge.account, project)
        assert lease is not None
        note = "".join(letter for letter in text if letter.isprintable())
        house.seats.flag(judge.account, lease.item, "unsafe", note)
        house.answer(judge.account, lease, note=note)
    pages = [f"/p/{project}/{name}" for name in ("task", "history", "guideline")]
    come(browser, house, fresh(house, judge))
    look(browser, house, ["/", "/account", *pages])
    item = house.rows("select id from item order by number")[5][0]
    names = ("board", "people", "items?show=all", f"items/{item}", "editor", "data", "log", "preview", "task")
    come(browser, house, fresh(house, owner))
    look(browser, house, ["/", *(f"/p/{project}/{name}" for name in names)])
    bad = [line for line in browser.complaints() if "status of 4" not in line]
    assert bad == []


def look(browser: Browser, house: House, paths: list[str]) -> None:
    for path in paths:
        browser.open(house.url + path)
        if "/task" in path:
            until_shown(browser, "\x00")
        found = browser.run(CLICK_ALL)
        assert found == [], path
        assert browser.run("typeof window.hit") == "undefined", path
        assert browser.run("location.host") in house.url, path


def test_a_page_fits_a_narrow_phone_and_names_what_can_be_used(house: House):
    owner = house.person("owner")
    project, session = put(house, owner, tuple(Question(key=key, kind="compare") for key in ("a", "b")))
    with Patient(width=320, height=640, language="zh") as browser:
        for person, names in (
            (session, ("task", "history", "guideline")),
            (owner, ("board", "people", "items", "editor", "data", "log", "sample")),
        ):
            come(browser, house, person)
            browser.call("Network.setCookie", name="language", value="zh", url=house.url)
            for name in names:
                browser.open(f"{house.url}/p/{project}/{name}")
                if name == "task":
                    until_shown(browser, "")
                assert browser.run("document.documentElement.scrollWidth") <= 320, name
                nameless = browser.run(NAMELESS)
                assert nameless == [], name
                assert browser.run("document.documentElement.lang") == "zh-CN"
        assert browser.complaints() == []


def test_every_word_that_a_page_or_a_script_says_is_there():
    root = Path(__file__).parents[3] / "tutelage" / "web"
    from tutelage.web.label.words import PAGES

    pages = "".join(path.read_text() for path in (root / "templates" / "label").glob("*.html"))
    assert set(re.findall(r"\bw\.(\w+)", pages)) <= set(PAGES) | set(TASK)
    scripts = "".join(path.read_text() for path in (root / "static" / "label").glob("*.js"))
    said = set(re.findall(r"\bwords\.(\w+)", scripts))
    assert said <= set(TASK)
    assert html.escape("<") == "&lt;"
