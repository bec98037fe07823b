import re
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
from browser import BINARY, Browser
from parrot import Parrot, served

from tutelage.web import completions
from tutelage.web.app import application
from tutelage.web.chat import WORDS, preferred

STATIC = Path(completions.__file__).parent / "static"


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


@pytest.fixture
def url(answers: Path) -> Generator[str]:
    with served(application(Parrot(name='a <b> & "c"', sleep=0.02), answers)) as url:
        yield url


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"), ("zh", "zh"), ("zh-CN,zh;q=0.9,en;q=0.8", "zh"), ("en-US,zh;q=0.9", "en"), ("fr,de", "en"),
        ("fr,zh-TW;q=0.3", "zh"), ("en;q=0.2,zh;q=0.7", "zh"), ("zh;q=0,en", "en"), ("zh;q=x", "en"), ("*", "en"),
    ],
)  # fmt: skip
def test_the_readers_language(header: str, language: str):
    assert preferred(header) == language


def test_both_languages_have_all_words():
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    assert not [key for key, word in WORDS["zh"].items() if not re.search(r"[\u4e00-\u9fff]|English", word)]


def test_the_page_speaks_the_readers_language(url: str):
    english, chinese = httpx.get(url), httpx.get(url, headers={"Accept-Language": "zh-CN"})
    assert 'lang="en"' in english.text
    assert WORDS["en"]["greeting"] in english.text
    assert 'lang="zh-CN"' in chinese.text
    assert WORDS["zh"]["greeting"] in chinese.text
    assert WORDS["zh"]["greeting"] in httpx.get(f"{url}/?lang=zh").text
    assert english.headers["Vary"] == "Accept-Language"


def test_the_page_has_no_script_or_style_of_its_own_and_asks_nothing_of_the_outside(url: str):
    text = httpx.get(url).text
    assert re.findall(r"<script[^>]*>", text) == ['<script src="/static/chat.js" defer>']
    assert "<style" not in text
    assert not re.search(r"\s(style|on\w+)=", text)
    assert "a &lt;b&gt; &amp; &#34;c&#34;" in text
    for source in (text, (STATIC / "chat.js").read_text(), (STATIC / "chat.css").read_text()):
        assert not re.search(r"https?://", source)
    script = (STATIC / "chat.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)


@pytest.mark.browser
@pytest.mark.skipif(BINARY is None, reason="no Chromium on this machine")
def test_a_person_asks_judges_and_asks_again(url: str, answers: Path):
    with Browser() as browser:
        browser.open(url)
        hostile = "<img src=x onerror=alert(1)><script>document.title='gone'</script> \x1b[31m <b>bold</b> 你好"
        browser.type(hostile)
        browser.key("Enter", 13)
        browser.until("document.querySelector('.answered .actions:not([hidden])')")
        assert browser.run("document.querySelector('.answered .text').textContent") == hostile.replace("\x1b", "")
        assert browser.run("document.querySelectorAll('main img, main script, main b').length") == 0
        assert browser.run("document.title.includes('gone')") is False

        browser.click(".thumb[data-value=up]")
        browser.until("document.querySelector('.thumb[data-value=up][aria-pressed=true]')")
        browser.click(".again")
        browser.until("document.querySelector('.compare:not([hidden])')")
        browser.click(".compare button[data-value=worse]")
        browser.until("document.querySelector('.compare button[data-value=worse][aria-pressed=true]')")

        first, second = completions.read_answers(answers)
        thumb, pair = completions.read_feedback(answers.with_name("feedback.jsonl"))
        assert (thumb.completion_id, thumb.value) == (first.id, "up")
        assert isinstance(pair, completions.Pair)
        assert (pair.completion_id, pair.other_id, pair.value) == (second.id, first.id, "worse")
        assert second.prompt == first.prompt

        browser.type("line one")
        browser.key("Enter", 13, shift=True)
        browser.type("line two")
        assert browser.run("document.getElementById('message').value") == "line one\nline two"
        browser.key("Enter", 13)
        browser.until("document.querySelectorAll('.answered .actions:not([hidden])').length === 2")
        third = list(completions.read_answers(answers))[2]
        assert [m.role for m in third.prompt] == ["user", "assistant", "user"]
        assert third.prompt[2].content == "line one\nline two"
        assert browser.complaints() == []


@pytest.mark.browser
@pytest.mark.skipif(BINARY is None, reason="no Chromium on this machine")
def test_stop_a_refusal_and_a_new_chat(url: str, answers: Path):
    with Browser(width=320, height=640, dark=True) as browser:
        browser.open(url)
        browser.type("word " * 50)
        browser.key("Enter", 13)
        browser.until("document.querySelector('.answered .text').textContent.length > 20")
        browser.click("#stop")
        browser.until("document.querySelector('.notice:not([hidden])')")
        assert browser.run("document.querySelector('.notice').textContent") == WORDS["en"]["stopped"]
        browser.until("!document.querySelector('.thumb').hidden")
        browser.click(".thumb[data-value=down]")
        browser.until("document.querySelector('.thumb[aria-pressed=true]')")
        assert next(completions.read_answers(answers)).finish_reason == "cancelled"

        browser.run("document.getElementById('message').focus()")
        browser.type("word " * 70)
        browser.key("Enter", 13)
        browser.until("document.querySelectorAll('.notice:not([hidden])').length === 2")
        assert "does not fit the context" in browser.run(
            "document.querySelector('article:last-child .notice').textContent"
        )

        assert browser.run("document.documentElement.scrollWidth") <= 320
        browser.click("#new")
        assert browser.run("document.querySelectorAll('article').length") == 0
        browser.type("fresh")
        browser.key("Enter", 13)
        browser.until("document.querySelector('.answered .actions:not([hidden])')")
        last = list(completions.read_answers(answers))[-1]
        assert [m.content for m in last.prompt] == ["fresh"]
