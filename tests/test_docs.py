"""The documentation against the code: its tables, links, commands, courses, numbers, messages and examples."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tutelage import cli, records
from tutelage.instruction import formats
from tutelage.records import Comparison, Message, Verdict
from tutelage.web.completions import AnswersLog, Pair, Thumb, keep_feedback

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "tutelage"
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")


def load_settings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_settings", DOCS / "settings.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SETTINGS = load_settings()
STAGES: list[str] = SETTINGS.stages()


def fenced(language: str, pages: list[Path] = PAGES) -> list[tuple[Path, str]]:
    """(page, text) of every block of a language."""
    return [
        (page, text)
        for page in pages
        for found, text in FENCE.findall(page.read_text(encoding="utf-8"))
        if found == language
    ]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def ids(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value)[:40]


# Pages and their tables


@pytest.mark.parametrize("stage", STAGES)
def test_the_table_of_settings_is_that_of_the_source(stage: str):
    page = (DOCS / f"{stage}.md").read_text(encoding="utf-8")
    assert SETTINGS.updated(page, stage) == page, "python docs/settings.py rewrites it"


@pytest.mark.parametrize("stage", STAGES)
def test_the_table_is_that_of_the_recipe_itself(stage: str):
    """What is read as syntax agrees with what Python makes of it."""
    import dataclasses

    from tutelage import catalogue, settings

    recipe = catalogue.stage(stage).recipe
    read = SETTINGS.settings(stage)
    assert set(read) == {field.name for field in dataclasses.fields(recipe)}
    for field in dataclasses.fields(recipe):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        shown = SETTINGS._default(read[field.name])
        assert (shown == "required") == required
        if field.default is not dataclasses.MISSING and shown.startswith("`"):
            value = settings._plain(field.default)
            assert yaml.safe_load(shown.strip("`")) == value or float(shown.strip("`")) == value
        assert read[field.name].words, f"{field.name}: no docstring under it"


def test_a_table_that_is_out_of_date_is_noticed():
    page = (DOCS / "sft.md").read_text(encoding="utf-8")
    assert SETTINGS.updated(page.replace("| `8192` |", "| `8193` |"), "sft") == page
    with pytest.raises(ValueError, match="no marks"):
        SETTINGS.updated("a page", "sft")


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_page_with_the_same_parts(stage: str):
    page = (DOCS / f"{stage}.md").read_text(encoding="utf-8")
    parts = re.findall(r"^## (.+)$", page, re.MULTILINE)
    wanted = ["In and out", "Settings", "Method", "Numbers", "What tends to go wrong", "Bad input"]
    assert parts[: len(wanted)] == wanted
    assert re.search(rf"^tutelage {stage} ", page, re.MULTILINE), "a command without a course file"


@pytest.mark.parametrize("contents", [DOCS / "README.md", ROOT / "README.md", DOCS / "zh.md"], ids=ids)
def test_every_stage_is_in_the_tables_of_contents(contents: Path):
    text = contents.read_text(encoding="utf-8")
    assert [stage for stage in STAGES if f"{stage}.md)" not in text] == []


def test_every_page_is_in_the_table_of_contents():
    text = (DOCS / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if page.name != "README.md" and f"({page.name})" not in text] == []


# Links


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_files_that_are_named_are_there(page: Path):
    for name in CODE.findall(prose(page)):
        if re.fullmatch(r"(tutelage|tests|docs|courses|examples)/[\w/.-]+\.\w+", name) and "ipo" not in name:
            assert (ROOT / name).exists(), name


# Commands and courses


def commands(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.strip().startswith(("tutelage ", "make ")):
            yield shlex.split(line)


def told_commands() -> list[tuple[Path, list[str]]]:
    blocks = [(page, text) for kind in ("console", "sh") for page, text in fenced(kind)]
    spans = [(page, span) for page in PAGES for span in CODE.findall(prose(page)) if not re.search(r"[A-Z]{4,}", span)]
    return [(page, words) for page, text in [*blocks, *spans] for words in commands(text)]


def wrong_with(words: list[str]) -> str:
    """What would be refused of a command; "" if nothing."""
    program, verb, *rest = words
    flags = [word[2:].replace("-", "_") for word in rest if word.startswith("--")]
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return "" if verb in targets else f"no target {verb}"
    if verb.startswith("--"):
        return "" if verb in ("--help", "--version") else verb
    if verb in STAGES and verb not in cli.VERBS:
        known = {*SETTINGS.settings(verb), "output", "quiet", "help"}
        missing = [name for name, s in SETTINGS.settings(verb).items() if s.default is None and name not in flags]
        if "help" not in flags and rest and ("output" not in flags or missing):
            return f"lacks {missing or 'output'}"
        return next((f"no flag {flag}" for flag in flags if flag not in known), "")
    if verb not in cli.VERBS:
        return f"no verb {verb}"
    sources = [ast.parse((HOUSE / name).read_text(encoding="utf-8")) for name in ("cli.py", "label.py")]
    nodes = [node for source in sources for node in ast.walk(source)]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    known = {text[2:].replace("-", "_") for text in texts if text.startswith("--")}
    course = next((word for word in rest if word.endswith(".yaml")), "")
    if course and not (ROOT / course).exists():
        return f"no course {course}"
    return next((f"no flag {flag}" for flag in flags if flag not in known), "")


@pytest.mark.parametrize(("page", "words"), told_commands(), ids=lambda v: ids(" ".join(v) if type(v) is list else v))
def test_commands_are_real(page: Path, words: list[str]):
    assert wrong_with(words) == "", page.name


def test_wrong_commands_are_noticed():
    assert wrong_with(["tutelage", "train"]) == "no verb train"
    assert wrong_with(["tutelage", "run", "courses/frist.yaml"]) == "no course courses/frist.yaml"
    assert wrong_with(["tutelage", "run", "courses/first.yaml", "--form", "sft"]) == "no flag form"
    assert wrong_with(["make", "cake"]) == "no target cake"
    assert wrong_with(["tutelage", "sft", "--model", "a", "--output", "b"]) == "lacks ['conversations']"
    assert wrong_with(shlex.split("tutelage sft --model a --conversations c --bata 1 --output b")) == "no flag bata"


def overrides() -> list[str]:
    return [
        words[place + 1]
        for _, words in told_commands()
        for place, word in enumerate(words)
        if word == "--set" and place + 1 < len(words)
    ]


@pytest.mark.parametrize("text", [*overrides()], ids=ids)
def test_settings_that_are_laid_over_a_course_exist(text: str):
    place, _, value = text.partition("=")
    stage, _, key = place.partition(".")
    assert key in SETTINGS.settings(stage)
    assert yaml.safe_load(value) is not None


# Numbers


def written(stage: str) -> set[str]:
    """The names of numbers that a stage writes, as far as its source tells."""
    source = ast.parse((HOUSE / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(source):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            if isinstance(owner, ast.Name) and (owner.id, node.func.attr) in NUMBERS:
                found |= {keyword.arg for keyword in node.keywords if keyword.arg}
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):  # a loss and its numbers
            numbers = node.value.elts[-1]
            if isinstance(numbers, ast.Dict):
                found |= {str(ast.literal_eval(key)) for key in numbers.keys if key}
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            target = node.targets[0]
            if isinstance(target, ast.Name) and target.id == "numbers":
                found |= {str(ast.literal_eval(key)) for key in node.value.keys if key}
    return found - {"split"}


NUMBERS = {("run", "measure"), *(("trainer", verb) for verb in ("backward", "add", "update", "log"))}


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "serve"])
def test_every_number_is_explained(stage: str):
    names = written(stage)
    assert names, "a stage that measures nothing"
    told = {word for page in (DOCS / f"{stage}.md", DOCS / "pretrain.md") for word in CODE.findall(prose(page))}
    assert names <= told


# Messages


@cache
def sentences_of_the_source() -> list[tuple[re.Pattern[str], int]]:
    """Every text of the source as a pattern, what is filled in as anything; and how many characters are its own."""
    found: dict[str, int] = {}
    for file in HOUSE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
                pattern = "".join(".*" if part is None else re.escape(str(part)) for part in parts)
                found[pattern] = sum(len(str(part)) for part in parts if part is not None)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found[re.escape(node.value)] = len(node.value)
    return [(re.compile(pattern), own) for pattern, own in found.items() if own >= 8]


def is_said(message: str) -> bool:
    """Whether a text of the source makes up a quarter of the message or more."""
    return any(own * 4 >= len(message) and pattern.search(message) for pattern, own in sentences_of_the_source())


def messages() -> list[tuple[str, str]]:
    blocks = [(page.name, line) for page, text in fenced("text") for line in text.splitlines()]
    return [(name, line.removeprefix("tutelage: ")) for name, line in blocks if line.startswith("tutelage: ")]


@pytest.mark.parametrize(("page", "message"), messages(), ids=ids)
def test_messages_are_said_by_the_code(page: str, message: str):
    assert is_said(message), page


def test_a_message_that_nobody_says_is_noticed():
    assert messages()
    assert not is_said("mine.jsonl:3: this line is not to the liking of the program: write another")
    assert is_said("mine.jsonl:3: a conversation without an answer: it should end with an assistant turn")


# Examples


@pytest.mark.parametrize(("page", "text"), fenced("jsonl"), ids=ids)
def test_votes_that_are_shown_can_be_read(page: Path, text: str, tmp_path: Path):
    (tmp_path / "votes.jsonl").write_text(text, encoding="utf-8")
    found = formats.comparisons(tmp_path / "votes.jsonl", max_dropped=0)
    assert len(found) == len(text.strip().splitlines()), page.name
    assert {record.judge for record in found} == {"person"}


def feedback_script(mark: str) -> str:
    return next(text for _, text in fenced("python", [DOCS / "feedback-by-people.md"]) if mark in text)


ASKED = (Message(role="user", content="What is a set?"),)


def test_the_script_that_asks_for_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    asked = [
        Comparison(id=str(n), prompt=ASKED, responses=("good", "bad", "middling"), ranks=(1, 3, 2), judge="rule",
                   metadata={"reference": "good"})
        for n in range(5)
    ]  # fmt: skip
    records.write(Path("runs/first/collect/comparisons.jsonl"), asked)
    said = iter(["1", "?", "=", "2", "q"])
    monkeypatch.setattr("builtins.input", lambda _: next(said))
    exec(compile(feedback_script("input("), "asks", "exec"), {})
    votes = formats.comparisons(Path("votes.jsonl"), max_dropped=0)
    assert [vote.ranks for vote in votes] == [(1, 2), (1, 1), (2, 1)]
    assert {(vote.judge, vote.metadata["reference"]) for vote in votes} == {("person", "good")}


def test_the_script_that_reads_feedback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from tutelage.inference.language_model import Sampling

    monkeypatch.chdir(tmp_path)
    file = Path("runs/first/answers.jsonl")
    log = AnswersLog(file, "ppo", "hash")
    said = {"a": "A collection.", "b": "No idea.", "c": "", "d": "A collection.", "e": "A collection without repeats."}
    for name, text in said.items():
        log.keep(f"chatcmpl-{name}", ASKED, text, "stop", Sampling())
    for value in ("same", "worse"):
        keep_feedback(file, Pair(completion_id="chatcmpl-b", kind="pair", other_id="chatcmpl-a", value=value))
    keep_feedback(file, Pair(completion_id="chatcmpl-c", kind="pair", other_id="chatcmpl-a", value="worse"))
    keep_feedback(file, Pair(completion_id="chatcmpl-d", kind="pair", other_id="chatcmpl-a", value="better"))
    keep_feedback(file, Pair(completion_id="chatcmpl-e", kind="pair", other_id="chatcmpl-a", value="better"))
    keep_feedback(file, Thumb(completion_id="chatcmpl-a", kind="thumb", value="up"))
    keep_feedback(file, Thumb(completion_id="chatcmpl-c", kind="thumb", value="down"))
    exec(compile(feedback_script("read_feedback"), "reads", "exec"), {})
    votes = formats.comparisons(Path("votes.jsonl"), max_dropped=0)
    assert [(vote.responses, vote.ranks) for vote in votes] == [
        ((said["b"], said["a"]), (2, 1)),
        ((said["e"], said["a"]), (1, 2)),
    ]
    (thumb,) = records.read(Path("thumbs.jsonl"), Verdict)
    assert (thumb.response, thumb.good, thumb.judge) == ("A collection.", True, "person")


def test_feedback_that_is_shown_is_accepted():
    from tutelage.web.completions import FEEDBACKS

    lines = [line for page, text in fenced("json") if page.name == "serve.md" for line in text.strip().splitlines()]
    kinds = [FEEDBACKS.validate_python(json.loads(line)).kind for line in lines]
    assert kinds == ["thumb", "pair", "score"]


# The rest of the house


def test_the_tour_names_what_is_there():
    rows = re.findall(r"^\| [^|]+ \| (`[^|]+`) \| (`[^|]+`) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert len(rows) > 20
    for files, functions in rows:
        source = "\n".join((HOUSE / file).read_text(encoding="utf-8") for file in CODE.findall(files))
        for name in CODE.findall(functions):
            last = name.rpartition(".")[2]
            assert re.search(rf"\bdef {last}\(", source), f"{files}: no function {name}"
            assert "." not in name or f"class {name.partition('.')[0]}" in source, f"{files}: no class of {name}"


def test_the_changelog_tells_of_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_pages_name_no_place_of_one_machine(page: Path):
    assert not re.search(r"(?<![\w.])/(home|work|root|tmp|shared|opt)/", page.read_text(encoding="utf-8"))


def test_the_special_tokens_are_those_of_the_tokenizer():
    from tutelage.stages import tokenizer

    page = (DOCS / "tokenizer.md").read_text(encoding="utf-8").replace("\\|", "|")
    table = page.partition("| id |")[2].partition("\n\n")[0]
    assert re.findall(r"`(<\|\w+\|>)`", table) == list(tokenizer.SPECIAL)
