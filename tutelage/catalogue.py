"""The stages that there are: each is a file in ``stages/``, found by its name and imported only when it is needed.

What a stage is for and what it makes is read from its source, so that ``tutelage --help`` imports none of them.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tutelage.stages
from tutelage.errors import SettingsError

ORDER = ("prepare", "tokenizer", "pretrain", "instruct", "sft", "collect", "reward", "ppo", "dpo", "kto", "sample",
         "evaluate", "serve")  # fmt: skip
"""The order of an education, for lists that people read; a stage that is not named here comes after."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage's module, loaded."""

    name: str
    recipe: type[Any]
    makes: tuple[str, ...]
    """What its run holds: "documents", "tokenizer", "model", ..."""
    execute: Callable[[Any, Any], None]


@dataclass(frozen=True, slots=True)
class Glance:
    """What is known of a stage without importing it."""

    summary: str
    makes: tuple[str, ...]


def names() -> list[str]:
    """The stages, in the order of an education."""
    found = [module.name for module in pkgutil.iter_modules(tutelage.stages.__path__)]
    return sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def stage(name: str) -> Stage:
    """The stage of that name.

    Raises:
        SettingsError: there is none.
    """
    if name not in names():
        raise SettingsError(f"{name!r} is no stage: known are {', '.join(names())}")
    module = importlib.import_module(f"tutelage.stages.{name}")
    return Stage(name, module.Recipe, _several(module.MAKES), module.execute)


@cache
def glance(name: str) -> Glance:
    """The first line of a stage's docstring and its ``MAKES``, from the source alone."""
    tree = ast.parse(_source(name).read_text(encoding="utf-8"))
    docstring = ast.get_docstring(tree) or ""
    makes: tuple[str, ...] = ()
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "MAKES" for target in targets):
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            makes = _several(ast.literal_eval(value)) if value else ()
    return Glance(docstring.partition("\n")[0].rstrip("."), makes)


def makers(kind: str) -> list[str]:
    """The stages that make this."""
    return [name for name in names() if kind in glance(name).makes]


def _several(makes: str | tuple[str, ...]) -> tuple[str, ...]:
    return (makes,) if isinstance(makes, str) else tuple(makes)


def _source(name: str) -> Path:
    return next(file for folder in tutelage.stages.__path__ if (file := Path(folder) / f"{name}.py").exists())
