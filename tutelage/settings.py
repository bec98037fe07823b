"""Settings: typed at the borders, and an error that names the nearest right key.

A stage's settings are a frozen dataclass named `Recipe`, with a docstring under each field. A field that names what
an earlier stage made is marked ``Annotated[Path, Input("model")]``: a course may then write the stage's name there.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tutelage.errors import SettingsError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Input:
    """Marks a recipe's path as something that a stage makes: "documents", "tokenizer", "model", ..."""

    kind: str


def check(kind: type[T], values: Mapping[str, Any], where: str, places: Mapping[str, str] | None = None) -> T:
    """A recipe from plain values, every one of them checked.

    where: the place of the whole, for the message; places: where single keys stand, if that is known better.

    Raises:
        SettingsError: an unknown key (with the nearest right one), a missing one, or a value out of bounds.
    """
    places = places or {}
    check_keys(kind, values, where, places)
    try:
        return _adapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        spot = places.get(str(first["loc"][0]), where) if first["loc"] else where
        place = ".".join(str(part) for part in first["loc"] if _is_key(str(part)))
        if first["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
            raise SettingsError(f"{spot}: {place}: missing: {_meaning(kind, place)}") from None
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            raise SettingsError(f"{spot}: unknown key {place!r}: {_nearest_inside(kind, place)}") from None
        raise SettingsError(f"{spot}: {place}: found {first['input']!r}: {_first_small(first['msg'])}") from None


def check_keys(kind: type[Any], values: Mapping[str, Any], where: str, places: Mapping[str, str] | None = None) -> None:
    """Looks at the keys alone.

    Raises:
        SettingsError: an unknown one, with the nearest right one.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            raise SettingsError(f"{(places or {}).get(key, where)}: unknown key {key!r}: {nearest(key, known)}")


def nearest(word: str, known: list[str]) -> str:
    """ "did you mean ...?" if one is near, else the list."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def plain(recipe: object) -> dict[str, Any]:
    """A recipe as YAML and JSON hold it: paths as text, tuples as lists."""
    return {field.name: _plain(getattr(recipe, field.name)) for field in dataclasses.fields(cast(Any, recipe))}


def inputs(kind: type[Any]) -> dict[str, Input]:
    """The fields of a recipe that take what a stage makes."""
    hints = get_type_hints(kind, include_extras=True)
    found: dict[str, Input] = {}
    for name, hint in hints.items():
        marker = _marker(hint)
        if marker is not None:
            found[name] = marker
    return found


def paths(value: object) -> list[Path]:
    """The paths in a recipe's field: one, several, or none."""
    if isinstance(value, Path):
        return [value]
    if isinstance(value, tuple):
        return [item for item in cast(tuple[object, ...], value) if isinstance(item, Path)]
    return []


def _marker(hint: Any) -> Input | None:
    if get_origin(hint) is Annotated:
        for extra in get_args(hint)[1:]:
            if isinstance(extra, Input):
                return extra
        return _marker(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType, tuple):
        for part in get_args(hint):
            marker = _marker(part)
            if marker is not None:
                return marker
    return None


def _plain(value: object) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in cast(tuple[object, ...], value)]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in cast(dict[object, object], value).items()}
    if dataclasses.is_dataclass(value):
        return plain(value)
    return value


def _is_key(part: str) -> bool:
    """Pydantic's places also name the branch of a union, such as ``tuple[Path, ...]``: that is no key."""
    return part.isidentifier() or part.isdigit()


def _first_small(message: str) -> str:
    return message[:1].lower() + message[1:]


def _nearest_inside(kind: type[Any], place: str) -> str:
    """The nearest right key of settings within settings, by a dotted place."""
    *outer, last = place.split(".")
    for name in outer:
        hint = get_type_hints(kind).get(name)
        inner = [part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)]
        if not inner:
            return "remove it"
        kind = cast(type[Any], inner[0])
    return nearest(last, [field.name for field in dataclasses.fields(cast(Any, kind))])


def _meaning(kind: type[Any], name: str) -> str:
    marker = inputs(kind).get(name)
    return f"a path, or the name of an earlier stage that makes {marker.kind}" if marker else "give it a value"


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    if "__pydantic_config__" not in vars(kind):
        kind.__pydantic_config__ = config
    return TypeAdapter(kind)
