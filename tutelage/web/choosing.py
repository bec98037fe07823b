"""Putting in the line what is most worth asking: with a share that was drawn evenly, and every probability kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from numpy.typing import ArrayLike

from tutelage.feedback.selection import SHARE, UNIFORM, choose
from tutelage.web.items import NewItem
from tutelage.web.projects import Projects
from tutelage.web.refusal import Refusal

BY_WORTH = "worth"
"""The rule of items that were chosen by what their file says they are worth."""


def by_worth(
    projects: Projects, by: str, project: str, candidates: Sequence[NewItem], count: int, *, origin: str = ""
) -> list[str]:  # fmt: skip
    """As `add`, by the worth that each candidate brings along. Gold items are no candidates: all of them are added.

    Raises:
        Refusal: a candidate does not say what it is worth, or fewer are there than are asked for.
    """
    check(candidates, count)
    gold = [item for item in candidates if item.lane == "gold"]
    others = [item for item in candidates if item.lane != "gold"]
    chosen = add(
        projects, by, project, others, [item.worth or 0.0 for item in others], count, BY_WORTH, origin=origin
    )  # fmt: skip
    return [*projects.add_items(by, project, gold, origin=origin), *chosen]


def check(candidates: Sequence[NewItem], count: int) -> None:
    """Raises what `by_worth` would, before anything is added."""
    missing = [number for number, item in enumerate(candidates, start=1) if item.lane != "gold" and item.worth is None]
    if missing:
        raise Refusal("bad_input", f"row {missing[0]}: worth: missing: a number from 0, by which {count} are chosen")
    others = sum(item.lane != "gold" for item in candidates)
    if count > others:
        raise Refusal("bad_input", f"{count} of {others} items are asked for: ask for fewer, or for all")


def add(
    projects: Projects, by: str, project: str, candidates: Sequence[NewItem], values: ArrayLike, count: int, rule: str,
    *, uniform_share: float = SHARE, sharpness: float = 1.0, seed: int = 1, origin: str = "",
) -> list[str]:  # fmt: skip
    """Chooses among candidates by what each is worth, and adds those to a project; gives their ids.

    Args:
        values: what each candidate is worth, from `feedback.selection`.
        rule: the name of that measure, which is kept with each item that it brought.

    Raises:
        Refusal: not theirs to fill, more than there are, or a rule without a name.
    """
    if not rule.isidentifier() or rule in (UNIFORM, "all"):
        raise Refusal("bad_input", f"rule {rule!r}: a word of its own")
    if not 0 < count <= len(candidates):
        raise Refusal("bad_input", f"{count} of {len(candidates)} candidates: from 1 to all of them")
    chosen = choose(values, count, share=uniform_share, sharpness=sharpness, seed=seed)
    items = [
        replace(candidates[place], sampled=UNIFORM if even else rule, p_select=probability)
        for place, probability, even in zip(
            chosen.place.tolist(), chosen.probability.tolist(), chosen.uniform.tolist(), strict=True
        )
    ]
    return projects.add_items(by, project, items, origin=origin)
