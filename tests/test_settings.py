"""Settings are checked at the border, and a wrong key names the nearest right one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import Field

from tutelage.errors import SettingsError
from tutelage.settings import Input, check, inputs, nearest, paths, plain


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """How fast."""


@dataclass(frozen=True, kw_only=True)
class Base:
    seed: int = 1
    """Of everything."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Base):
    documents: Annotated[Path, Input("documents")]
    """What is read."""
    models: Annotated[tuple[Path, ...], Input("model")] = ()
    reward: Annotated[Path, Input("reward")] | None = None
    count: Annotated[int, Field(gt=0)] = 3
    kind: Literal["small", "large"] = "small"
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    optimizer: Optimizer = field(default_factory=Optimizer)
    config: dict[str, Any] | None = None


def test_plain_values_become_a_recipe_and_back() -> None:
    values = {"documents": "d", "models": ["a", "b/c"], "optimizer": {"learning_rate": "1e-5"}, "config": {"a": [1]}}
    recipe = check(Recipe, values, "here")
    assert recipe == Recipe(
        documents=Path("d"), models=(Path("a"), Path("b/c")), optimizer=Optimizer(learning_rate=1e-5), config={"a": [1]}
    )
    written = plain(recipe)
    assert yaml.safe_load(yaml.safe_dump(written)) == written
    assert check(Recipe, written, "here") == recipe


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"documents": "d", "cuont": 1}, "here: unknown key 'cuont': did you mean 'count'?"),
        ({"documents": "d", "zzz": 1}, "here: unknown key 'zzz': known are seed, documents, models, reward, count, "),
        ({}, "here: documents: missing: a path, or the name of an earlier stage that makes documents"),
        ({"documents": "d", "count": 0}, "there:4: count: found 0: input should be greater than 0"),
        ({"documents": "d", "count": "many"}, "there:4: count: found 'many': input should be a valid integer"),
        ({"documents": "d", "count": 2.5}, "there:4: count: found 2.5: "),
        ({"documents": "d", "kind": "huge"}, "here: kind: found 'huge': input should be 'small' or 'large'"),
        ({"documents": "d", "share": math.nan}, "here: share: found nan: "),
        ({"documents": "d", "share": math.inf}, "here: share: found inf: "),
        ({"documents": 3}, "here: documents: found 3: "),
        ({"documents": "d", "optimizer": {"learning_rat": 1}},
         "here: unknown key 'optimizer.learning_rat': did you mean 'learning_rate'?"),
        ({"documents": "d", "optimizer": {"learning_rate": 0}}, "here: optimizer.learning_rate: found 0: "),
        ({"documents": "d", "optimizer": 3}, "here: optimizer: found 3: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(SettingsError) as found:
        check(Recipe, values, "here", {"count": "there:4"})
    assert str(found.value).startswith(expected)
    assert "\n" not in str(found.value)


def test_inputs_are_found_however_they_are_written() -> None:
    assert inputs(Recipe) == {"documents": Input("documents"), "models": Input("model"), "reward": Input("reward")}


def test_paths_of_a_field() -> None:
    assert paths(Path("a")) == [Path("a")]
    assert paths((Path("a"), "b", Path("c"))) == [Path("a"), Path("c")]
    assert paths(None) == paths("a") == []


def test_nearest() -> None:
    assert nearest("learning-rate", ["learning_rate", "seed"]) == "did you mean 'learning_rate'?"
    assert nearest("x", ["learning_rate", "seed"]) == "known are learning_rate, seed"


def test_a_recipe_cannot_be_changed() -> None:
    recipe = check(Recipe, {"documents": "d"}, "here")
    with pytest.raises(AttributeError):
        recipe.count = 4  # type: ignore[misc]
