"""The laws of the house: who may import whom, where torch may be, and how alike two stages may be."""

import ast
import difflib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "tutelage"

FLOORS = [
    {"__main__"},
    {"cli"},
    {
        "course",
        "status",
        "show",
        "browse",
        "lineage",
        "family",
        "ancestry",
        "doctor",
        "plan",
        "catalogue",
        "syllabus",
        "label",
        "removal",
    },
    {"stages"},
    {"web", "evaluation", "training", "corpus", "instruction"},
    {"feedback"},
    {"inference"},
    {"model"},
    {"records", "run", "settings", "sentences"},
    {"errors"},
]
"""From the roof down. Imports go down; on one floor only within a package, or between the modules of `course`."""

OPEN_FLOORS = (2, 7)
"""The floors whose rooms are single modules, which may use one another; circles are looked for apart."""
DOORS = {("web", "evaluation.ratings"), ("web", "evaluation.agreement")}
HEAVY = {"torch", "transformers", "peft", "safetensors"}
HEAVY_ROOMS = ("stages.", "model.", "training.", "inference.engine")


def modules() -> dict[str, Path]:
    """Dotted names under `tutelage`, and their files."""
    return {
        str(file.relative_to(HOUSE).with_suffix("")).replace("/", "."): file
        for file in sorted(HOUSE.rglob("*.py"))
        if file.name != "__init__.py"
    }


def imported(source: str, package: str = "") -> Iterator[str]:
    """All that a source imports, inside functions too, as full names; ``package`` is where relative ones begin."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def uses(name: str) -> set[str]:
    """The modules of the house that a module imports."""
    known = modules()
    found: set[str] = set()
    package = ".".join(["tutelage", *name.split(".")[:-1]])
    for full in imported(known[name].read_text(encoding="utf-8"), package):
        if full.split(".")[0] != "tutelage":
            continue
        inner = full.removeprefix("tutelage").lstrip(".")
        while inner and inner not in known:
            inner = inner.rpartition(".")[0]
        if inner:
            found.add(inner)
    return found - {name}


def floor(name: str) -> int:
    room = name.split(".")[0]
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def allowed(user: str, used: str) -> bool:
    here, there = floor(user), floor(used)
    if here != there:
        return here < there
    room = user.split(".")[0]
    if room == "stages":
        return False
    return room == used.split(".")[0] or here in OPEN_FLOORS or (room, used) in DOORS


def test_every_module_has_its_floor() -> None:
    for name in modules():
        assert any(name.split(".")[0] in rooms for rooms in FLOORS), f"{name}: give it a floor in FLOORS"


def test_imports_only_go_down() -> None:
    wrong = [f"{user} -> {used}" for user in modules() for used in sorted(uses(user)) if not allowed(user, used)]
    assert wrong == []


def test_the_law_sees_what_it_should() -> None:
    """The test of the test."""
    assert not allowed("stages.sft", "stages.dpo")
    assert not allowed("corpus.sources", "web.app")
    assert not allowed("model.chat", "training.trainer")
    assert not allowed("evaluation.report", "instruction.formats")
    assert allowed("web.app", "evaluation.ratings")
    assert allowed("course", "stages.sft")
    inside = "def f():\n    if True:\n        from torch import nn\n    import a.b as c\n"
    assert set(imported(inside)) == {"torch.nn", "a.b"}
    assert set(imported("from . import x\nfrom ..run import Run\n", "tutelage.web")) == {
        "tutelage.web.x",
        "tutelage.run.Run",
    }
    assert "records" in uses("run") or "errors" in uses("run")


def test_no_circles() -> None:
    graph = {name: uses(name) for name in modules()}
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for used in graph[name]:
                walk(used, (*path, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_torch_is_only_where_it_may_be() -> None:
    wrong = [
        f"{name} imports {full}"
        for name, file in modules().items()
        if not f"{name}.".startswith(HEAVY_ROOMS)
        for full in imported(file.read_text(encoding="utf-8"))
        if full.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_every_init_is_empty() -> None:
    for file in HOUSE.rglob("__init__.py"):
        assert file.read_text() == "", file
    for folder in {file.parent for file in modules().values()}:
        assert (folder / "__init__.py").exists(), folder


def test_no_drawer_for_odds_and_ends() -> None:
    banned = {"utils", "util", "common", "helpers", "helper", "manager", "core", "misc"}
    assert [name for name in modules() if banned & set(name.split("."))] == []


def alike(one: str, other: str) -> float:
    """The share of the shorter text's lines that stand in both, in order.

    Imports do not count: files of one floor stand on the same ground, and that cannot be written once.
    """
    lines = [own_lines(text) for text in (one, other)]
    same = sum(block.size for block in difflib.SequenceMatcher(None, *lines, autojunk=False).get_matching_blocks())
    return same / min(len(part) for part in lines)


def own_lines(source: str) -> list[str]:
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    taken = {number for node in imports for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    lines = enumerate(source.splitlines(), start=1)
    return [line.strip() for number, line in lines if line.strip() and number not in taken]


def test_alike_counts_lines() -> None:
    assert alike("import a\na\n\nb\nc\nd", "import a\na\nx\nb\ny\nz") == 0.5


STAGES = {name: file for name, file in modules().items() if name.startswith("stages.")}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(STAGES, 2)))
def test_two_stages_are_at_most_30_per_cent_alike(one: str, other: str) -> None:
    share = alike(STAGES[one].read_text(encoding="utf-8"), STAGES[other].read_text(encoding="utf-8"))
    assert share <= 0.30, f"{one} and {other}: {share:.0%} of the lines are the same"


def test_nothing_is_printed_around_rich() -> None:
    wrong = [
        name
        for name, file in modules().items()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert wrong == []


def test_logging_is_configured_in_the_command_line_alone() -> None:
    wrong = [name for name, file in modules().items() if "basicConfig(" in file.read_text(encoding="utf-8")]
    assert wrong == ["cli"]
