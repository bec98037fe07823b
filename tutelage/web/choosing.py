"""Putting in the line what is most worth asking: with a share that was drawn evenly, and every probability kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from numpy.typing import ArrayLike

from tutelage.feedback.selection import SHARE, UNIFORM, choose
from tutelage.web.items import NewItem
from tutelage.web.projects import Projects
from tutelage.web.refusal import Refusal


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
