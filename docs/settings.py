"""The tables of settings in the pages of the stages, made from the source of the recipes.

    python docs/settings.py            rewrites what stands between the marks of every page
    python docs/settings.py --check    says which pages are out of date, and exits with 1 if one is

The recipes are read as syntax and not imported, so this needs nothing but Python. A page is that of the stage of its
name; its marks are ``<!-- settings -->`` and ``<!-- /settings -->``.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DOCS = Path(__file__).parent
HOUSE = DOCS.parent / "tutelage"
BEGIN, END = "<!-- settings -->", "<!-- /settings -->"
MARKED = re.compile(f"{BEGIN}.*?{END}", re.DOTALL)

KINDS = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false", "Path": "path"}
BOUNDS = {"gt": "more than {}", "ge": "{} or more", "lt": "less than {}", "le": "{} at most"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a recipe."""

    name: str
    annotation: ast.expr
    default: ast.expr | None
    words: str
    """The docstring under it."""
    module: ast.Module
    """Where it stands, to look its names up."""


def stages() -> list[str]:
    """The stages that there are, by name."""
    return sorted(file.stem for file in (HOUSE / "stages").glob("*.py") if file.stem != "__init__")


def settings(stage: str) -> dict[str, Setting]:
    """The fields of a stage's recipe by name: its own first, then those that it shares with other stages."""
    module = _parsed(HOUSE / "stages" / f"{stage}.py")
    recipe = _class(module, "Recipe")
    shared: dict[str, Setting] = {}
    for base in recipe.bases:
        assert isinstance(base, ast.Name)
        home = _module_of(module, base.id)
        shared |= _fields(home, _class(home, base.id))
    own = _fields(module, recipe)
    first = {name: setting for name, setting in own.items() if name not in shared}
    return first | {name: _over(setting, own.get(name)) for name, setting in shared.items()}


def table(stage: str) -> str:
    """The settings of a stage in Markdown."""
    rows = ["| setting | value | default | meaning |", "|---|---|---|---|"]
    for setting in settings(stage).values():
        cells = (f"`{setting.name}`", _kind(setting), _default(setting), setting.words)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def updated(page: str, stage: str) -> str:
    """The page with its table as it should be.

    Raises:
        ValueError: the page has no marks.
    """
    if not MARKED.search(page):
        raise ValueError(f"docs/{stage}.md: no marks: write {BEGIN} and, below it, {END}")
    return MARKED.sub(lambda _: f"{BEGIN}\n{table(stage)}\n{END}", page, count=1)


def main(check: bool) -> int:
    """Rewrites the pages, or looks at them; gives the exit code."""
    stale: list[Path] = []
    for stage in stages():
        file = DOCS / f"{stage}.md"
        page = file.read_text(encoding="utf-8")
        wanted = updated(page, stage)
        if wanted != page:
            stale.append(file)
            if not check:
                file.write_text(wanted, encoding="utf-8")
    for file in stale:
        sys.stdout.write(f"{file.relative_to(DOCS.parent)}: {'out of date' if check else 'rewritten'}\n")
    if check and stale:
        sys.stdout.write("python docs/settings.py rewrites them\n")
    return int(check and bool(stale))


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _class(module: ast.Module, name: str) -> ast.ClassDef:
    return next(node for node in module.body if isinstance(node, ast.ClassDef) and node.name == name)


def _module_of(module: ast.Module, name: str) -> ast.Module:
    """The module that a name is imported from, or that it is."""
    for node in module.body:
        if isinstance(node, ast.ImportFrom) and node.module and any(a.name == name for a in node.names):
            path = HOUSE.parent / Path(*node.module.split("."))
            inner = path / f"{name}.py"
            return _parsed(inner if inner.exists() else path.with_suffix(".py"))
    raise ValueError(f"{name}: not imported from tutelage")


def _fields(module: ast.Module, kind: ast.ClassDef) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for place, node in enumerate(kind.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            after = kind.body[place + 1] if place + 1 < len(kind.body) else None
            words = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                words = " ".join(str(after.value.value).replace("``", "`").split())
            found[node.target.id] = Setting(node.target.id, node.annotation, node.value, words, module)
    return found


def _over(shared: Setting, own: Setting | None) -> Setting:
    """A shared setting with the stage's own default; ``Any`` stands for the shared type."""
    if own is None:
        return shared
    loose = isinstance(own.annotation, ast.Name) and own.annotation.id == "Any"
    annotation = shared.annotation if loose else own.annotation
    return Setting(own.name, annotation, own.default, own.words or shared.words, own.module)


def _kind(setting: Setting) -> str:
    """The type of a setting in words, with its bounds."""
    return _words_of(setting.annotation, setting.module)


def _words_of(node: ast.expr, module: ast.Module) -> str:
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            parts = [_words_of(part, module) for part in (left, right) if not _is_none(part)]
            return " or ".join(parts)
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[inner, *marks])):
            return _marked(_words_of(inner, module), marks, module)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            several = choices.elts if isinstance(choices, ast.Tuple) else [choices]
            return " or ".join(f"`{ast.literal_eval(choice)}`" for choice in several)
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[inner, ast.Constant(value=_)])):
            return f"list: {_words_of(inner, module)}"
        case ast.Subscript(value=ast.Name(id="dict")):
            return "mapping"
        case ast.Name(id=name):
            return KINDS[name]
        case _:
            raise ValueError(f"{ast.unparse(node)}: no words for this type")


def _marked(words: str, marks: list[ast.expr], module: ast.Module) -> str:
    for mark in marks:
        assert isinstance(mark, ast.Call)
        assert isinstance(mark.func, ast.Name)
        if mark.func.id == "Input":
            kind = ast.literal_eval(mark.args[0])
            words = words.replace("path", "text" if kind == "files" else f"{kind} (a stage or a path)")
        elif mark.func.id == "Field":
            bounds = {k.arg: _number(k.value, module) for k in mark.keywords if k.arg in BOUNDS}
            if bounds.keys() == {"ge", "le"}:
                told = [f"{bounds['ge']} to {bounds['le']}"]
            else:
                told = [BOUNDS[name].format(number) for name, number in bounds.items() if name]
            words = ", ".join([words, *told])
    return words


def _default(setting: Setting) -> str:
    if setting.default is None:
        return "required"
    value = _value(setting.default, setting.module)
    match value:
        case None:
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case "" | () | {}:
            return "empty"
        case tuple():
            return "`[" + ", ".join(map(str, value)) + "]`"
        case float():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"


def _value(node: ast.expr, module: ast.Module) -> object:
    """What an expression gives: a literal, a constant of this module or of one that it imports, or an empty factory."""
    match node:
        case ast.Name(id=name):
            return _constant(module, name)
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return _constant(_module_of(module, owner), name)
        case ast.Tuple(elts=parts):
            return tuple(_value(part, module) for part in parts)
        case ast.Call(keywords=[ast.keyword(arg="default_factory", value=ast.Name(id=kind))]):
            return {"dict": {}, "list": (), "tuple": ()}[kind]
        case ast.BinOp():
            return ast.literal_eval(ast.unparse(node)) if _is_literal(node) else ast.unparse(node)
        case _:
            return ast.literal_eval(node)


def _constant(module: ast.Module, name: str) -> object:
    for node in module.body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            assert isinstance(node, ast.Assign)
            if isinstance(target, ast.Name) and target.id == name:
                return _value(node.value, module)
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for part, value in zip(target.elts, node.value.elts, strict=True):
                    if isinstance(part, ast.Name) and part.id == name:
                        return _value(value, module)
    raise ValueError(f"{name}: no such constant")


def _number(node: ast.expr, module: ast.Module) -> str:
    """A bound as it is read; sums of constants are reckoned."""
    if isinstance(node, ast.Constant):
        return f"{node.value:,}" if isinstance(node.value, int) else f"{node.value:g}"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = (_size(part, module) for part in (node.left, node.right))
        return f"{left + right:,}"
    return ast.unparse(node)


def _size(node: ast.expr, module: ast.Module) -> int:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len":
        found = _value(node.args[0], module)
        assert isinstance(found, tuple)
        return len(found)
    return int(str(_value(node, module)))


def _is_literal(node: ast.expr) -> bool:
    return all(isinstance(part, ast.BinOp | ast.Constant | ast.operator) for part in ast.walk(node))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
