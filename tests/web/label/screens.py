"""Pictures of every screen for the documentation: light and dark, at the width of a desk and of a phone.

PYTHONPATH=tests/web python tests/web/label/screens.py docs/label [SCREEN ...]
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from browser import Browser
from house import House, served
from parrot import Parrot
from site_of_tests import PASSWORD

from tutelage.inference.language_model import Reply, Sampling
from tutelage.records import Message
from tutelage.web.items import NewItem, NewResponse
from tutelage.web.label.presets import PRESETS, RULES
from tutelage.web.models import Models
from tutelage.web.projects import NewProject
from tutelage.web.sampling import Wanted
from tutelage.web.sessions import Session
from tutelage.web.snapshots import make as make_snapshot

ANSWERS = (
    "A **set** keeps each value once and has no order. Asking whether a value is there takes the same time however "
    'many there are.\n\n```python\nseen = {"a", "b"}\n"a" in seen   # True\n```\n\n- adding twice changes nothing\n'
    "- a `frozenset` cannot be changed",
    "A set is a collection, like a list. You can put numbers into it, and words as well. Sets are very useful and "
    "you can use them for many things.\n\n1. `set()` makes an empty one\n2. `{1, 2}` makes one with two values\n\n"
    "Please let me know if there is anything else I can do for you!",
    "It is a list, but faster.",
    "A set answers *is it there?* quickly; a list answers *what is at place 3?*\n\nTake a set when order does not "
    "matter and each value counts once.",
)
QUESTIONS = (
    "When is a set better than a list?", "How do I remove doubles from a list?", "Is a set ordered?",
    "What is the difference between a set and a dict?", "Can a set hold a list?", "How do I join two sets?",
)  # fmt: skip
NAMES = ("Annotator 1", "Annotator 2", "Annotator 3", "Annotator 4")


MODELS = ("first/sft", "first/dpo", "first/ppo")


class Scripted(Parrot):
    """Says one of the answers; two models never the same."""

    def replies(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Reply]:
        time.sleep(0.2)
        own = MODELS.index(f"first/{self.name}") % 2
        texts = [ANSWERS[(2 * (sampling.seed + place) + own) % len(ANSWERS)] for place in range(len(prompts))]
        return [Reply(text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1) for text in texts]


def load(path: Path) -> Scripted:
    return Scripted(path.name)


def fill(house: House) -> dict[str, tuple[Session | None, str]]:
    """A site with people at work; gives for each screen who sees it, and where."""
    owner = house.accounts.accept(house.accounts.invite_owner(), "owner@example.org", PASSWORD, name="Owner")
    counts = {"compare": 2, "helpful_harmless": 2, "rank": 4, "summary": 2, "good_bad": 2, "write": 1}
    projects = {
        preset.key: project(house, owner, preset.key, counts[preset.key]) for preset in PRESETS if preset.key in counts
    }
    projects["chat"] = project(house, owner, "chat", 0)
    judges = [judge(house, owner, list(projects.values()), name) for name in NAMES]
    talk(house, projects["chat"], [session.account for session in judges])
    sampled = project(house, owner, "good_bad", 0)
    sample(house, owner, sampled)
    work(house, projects["compare"], [session.account for session in judges])
    beginner = house.accounts.invite(owner.account, projects["compare"], "annotator")
    fresh = house.accounts.accept(beginner, "beginner@example.org", PASSWORD, name="Beginner")
    house.projects.confirm_guideline(fresh.account, projects["compare"], 1)
    known = NewItem(
        prompt=(Message(role="user", content="Is a set ordered?"),), lane="gold", gold={"better": 7},
        responses=(NewResponse(text="Yes."), NewResponse(text="No: it has no order at all.")),
        explanation="The second answer is true; that weighs more than anything else.",
    )  # fmt: skip
    house.label.quiz.fill(owner.account, projects["compare"], [known] * 5)
    make_snapshot(house.database, owner.account, projects["compare"], "first round")
    gone = house.label.keys.make(owner.account, projects["compare"], "last year's robot", ["items"], 30)
    house.label.keys.revoke(owner.account, projects["compare"], gone.id)
    house.label.keys.make(owner.account, projects["compare"], "nightly snapshots", ["read", "export"], 90)
    invited = house.accounts.invite(owner.account, projects["rank"], "annotator")
    item = house.rows(f"select id from item where project = '{projects['compare']}' and done >= 3 order by number")[0][
        0
    ]
    one, base = house.sessions.sign_in("annotator1@example.org", PASSWORD), {k: f"/p/{v}" for k, v in projects.items()}
    two, three = (house.sessions.sign_in(f"annotator{n}@example.org", PASSWORD) for n in (2, 3))
    owner = house.sessions.sign_in("owner@example.org", PASSWORD)
    compare = base["compare"]
    return {
        "sign-in": (None, "/sign-in"), "invitation": (None, f"/invite/{invited}"), "home": (one, "/"),
        "guideline": (one, f"{base['helpful_harmless']}/guideline"), "quiz": (fresh, f"{compare}/quiz"),
        "compare": (one, f"{compare}/task"), "harmless": (one, f"{base['helpful_harmless']}/task"),
        "rank": (one, f"{base['rank']}/task"), "score": (one, f"{base['summary']}/task"),
        "good-bad": (one, f"{base['good_bad']}/task"), "write": (one, f"{base['write']}/task"),
        "talk": (one, f"{base['chat']}/task"), "talk-compare": (two, f"{base['chat']}/task"),
        "talk-again": (three, f"{base['chat']}/task"), "sample": (owner, f"/p/{sampled}/sample"),
        "history": (one, f"{compare}/history"), "account": (one, "/account"), "owner": (owner, "/"),
        "new-project": (owner, "/projects/new"), "board": (owner, f"{compare}/board"),
        "people": (owner, f"{compare}/people"), "items": (owner, f"{compare}/items"),
        "decide": (owner, f"{compare}/items/{item}"), "editor": (owner, f"{compare}/editor"),
        "data": (owner, f"{compare}/data"), "keys": (owner, f"{compare}/keys"), "log": (owner, f"{compare}/log"),
    }  # fmt: skip


def project(house: House, owner: Session, key: str, answers: int) -> str:
    preset = next(one for one in PRESETS if one.key == key)
    labels = {name: label["en"] for name, label in preset.labels.items()}
    settings = {"labels": labels, "overlap": 1 if key == "chat" else 3, "currency": "EUR", "per_answer": 0.12}
    if key == "chat":
        settings["chat"] = {
            "models": MODELS[:2], "turns": 5, "conversations": 0, "max_new_tokens": 256, "temperature": 1.0,
            "system": "",
        }  # fmt: skip
    new = NewProject(
        name=f"Sets and lists: {preset.name['en'].lower()}", kind=key, questions=preset.questions, settings=settings,
        guideline=preset.guideline["en"], gold_share=0.1 if key == "compare" else 0.0,
        daily_cap=120 if key == "compare" else None, conflict_rules=RULES["en"] if preset.conflict else (),
    )  # fmt: skip
    id = house.projects.make(owner.account, new)
    draw = random.Random(5)

    def item(number: int, **more: object) -> NewItem:
        prompt = (Message(role="user", content=f"{QUESTIONS[number % len(QUESTIONS)]} (no. {number + 1})"),)
        texts = draw.sample(ANSWERS, answers)
        return NewItem(prompt=prompt, need=3, responses=tuple(NewResponse(text=text) for text in texts), **more)  # type: ignore[arg-type]

    if answers == 0:
        return id
    house.projects.add_items(owner.account, id, [item(number) for number in range(60 if key == "compare" else 6)])
    if key == "compare":
        pair = (NewResponse(text=ANSWERS[0]), NewResponse(text=ANSWERS[2]))
        gold = [replace(item(100 + n, lane="gold", gold={"better": 2}), responses=pair) for n in range(8)]
        house.projects.add_items(owner.account, id, gold)
    return id


def talk(house: House, project: str, accounts: list[str]) -> None:
    """Somebody who writes their second turn, one who has two answers, and one who asked for another answer."""
    dialogues = house.label.dialogues

    async def talks() -> None:
        for place, account in enumerate(accounts[:3]):
            lease = await dialogues.ask(account, project, QUESTIONS[place], "the first turn")
            if place == 1:
                continue
            house.answer(account, lease, 2)
            if place == 2:
                await dialogues.again(account, project, "another answer")

    asyncio.run(talks())
    dialogues.save(accounts[0], project, "And what if I need the order in which they came?")


def sample(house: House, owner: Session, project: str) -> None:
    """Prompts that models have answered."""
    prompts = [NewItem(prompt=(Message(role="user", content=text),), responses=()) for text in QUESTIONS * 8]
    wanted = Wanted(models=MODELS[1:], answers=2, sampling=Sampling())
    job = house.label.samplings.start(owner.account, project, prompts, wanted)
    while job.done < 32:
        time.sleep(0.02)
    house.label.samplings.stop(project)


def judge(house: House, owner: Session, projects: list[str], name: str) -> Session:
    email = name.lower().replace(" ", "") + "@example.org"
    links = [house.accounts.invite(owner.account, id, "annotator") for id in projects]
    session = house.accounts.accept(links[0], email, PASSWORD, name=name)
    for link in links[1:]:
        house.accounts.join(link, session.account)
    for id in projects:
        house.projects.confirm_guideline(session.account, id, 1)
        house.accounts.set_member(owner.account, id, session.account, state="active")
    return session


def work(house: House, project: str, accounts: list[str]) -> None:
    """Three who judge by what is written, and one who likes what stands first."""
    draw = random.Random(7)
    worth = {text: place for place, text in enumerate((ANSWERS[2], ANSWERS[1], ANSWERS[3], ANSWERS[0]))}
    for turn in range(110):
        account = accounts[turn % 4]
        lease = house.queue.claim(account, project)
        if lease is None:
            continue
        house.clock.pass_(draw.uniform(0.3, 1.1))
        left, right = house.seats.show(account, lease.item).responses
        lean = worth[right] - worth[left] + draw.gauss(0, 0.8)
        choice = 1 if turn % 4 == 3 and draw.random() < 0.8 else max(1, min(7, round(4 + 1.6 * lean)))
        house.answer(account, lease, choice, active_ms=int(draw.uniform(14_000, 58_000)))
        if turn == 30:
            house.seats.flag(account, lease.item, "broken", "the code is cut off")


def main() -> None:
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name in MODELS:
            (Path(place) / name).mkdir(parents=True)
            (Path(place) / name / "config.json").write_text("{}")
        models = Models(lambda: {name: Path(place) / name for name in MODELS}, load)
        try:
            with served(Path(place) / "label.db", models) as house:
                shoot(house, folder, wanted)
        finally:
            models.close()


def shoot(house: House, folder: Path, wanted: list[str]) -> None:
    screens = fill(house)
    for size, width, height in (("wide", 1280, 860), ("phone", 390, 844)):
        for dark in (False, True):
            with Browser(width, height, dark) as browser:
                for name in wanted or screens:
                    session, path = screens[name]
                    browser.call("Network.clearBrowserCookies")
                    if session:
                        browser.call("Network.setCookie", name="session", value=session.token, url=house.url)
                    browser.open(house.url + path)
                    time.sleep(0.4)
                    if name == "keys":
                        make_key(house, browser)
                    browser.run("document.activeElement.blur()")
                    browser.screenshot(folder / f"{name}-{size}-{'dark' if dark else 'light'}.png")


def make_key(house: House, browser: Browser) -> None:
    """A key as it is shown, once; the one that was made for the picture before goes."""
    gone = "delete from api_key where name = 'import of new pairs'"
    house.database.write(lambda t: t.connection.exec_driver_sql(gone) and None)
    browser.click("#name")
    browser.type("import of new pairs")
    browser.click("input[name=items]")
    browser.click("form button.main")
    browser.until("document.querySelector('.once')")


if __name__ == "__main__":
    main()
