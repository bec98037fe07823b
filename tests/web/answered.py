"""Projects in which much was said: written straight into the tables, for people who sit and judge are slow."""

import numpy
import sqlalchemy as sa
from site_of_tests import Site

from tutelage.web import schema
from tutelage.web.sessions import SECOND

PIECE = 20_000


def answered(
    site: Site, project: str, item, person, choice, *, gold=None, seconds=30.0, reading=20.0, first=None
) -> list[str]:  # fmt: skip
    """Comparisons as they were judged.

    Args:
        item, person: (N,) codes from 0.
        choice: (N,) 1 to 7, by slots.
        gold: the known choice of each gold item, by code.
        first: (N,) the slot that was shown first.

    Gives the people's accounts by code.
    """
    item, person, choice = (numpy.asarray(values) for values in (item, person, choice))
    people = site.annotators(project, int(person.max()) + 1)
    gold = gold or {}
    first = numpy.zeros(len(item), int) if first is None else numpy.asarray(first)
    lengths = numpy.arange(int(item.max()) + 1) % 2

    def base(t) -> None:
        t.connection.execute(sa.insert(schema.prompt), {
            "number": 1, "messages": '[{"content":"q","role":"user"}]', "language": "en", "source": "",
            "split": "train", "sha256": f"p {project}",
        })  # fmt: skip
        t.connection.execute(
            sa.insert(schema.response),
            [{"number": n, "prompt": 1, "text": f"text {n}", "sampling": "{}", "sha256": str(n)} for n in (1, 2)],
        )

    site.database.write(base)
    need = int(numpy.bincount(item).max())
    for start in range(0, len(lengths), PIECE):

        def fill(t, start: int = start) -> None:
            numbers = range(start + 1, min(start + PIECE, len(lengths)) + 1)
            t.connection.execute(
                sa.insert(schema.item),
                [
                    {
                        "number": n, "id": f"item{n:022}", "project": project, "prompt": 1,
                        "lane": schema.GOLD if n - 1 in gold else schema.ORDINARY, "position": n, "need": need,
                        "taken": 0, "done": 0, "sampled": "all", "reading": reading, "longer": int(lengths[n - 1]),
                        "gold": None if n - 1 not in gold else f'{{"better":{gold[n - 1]}}}',
                    }
                    for n in numbers
                ],
            )  # fmt: skip
            t.connection.execute(
                sa.insert(schema.item_response),
                [{"item": n, "slot": slot, "response": slot + 1} for n in numbers for slot in (0, 1)],
            )

        site.database.write(fill)
    for start in range(0, len(item), PIECE):

        def say(t, start: int = start) -> None:
            rows = range(start, min(start + PIECE, len(item)))
            shown = ["[0,1]" if first[n] == 0 else "[1,0]" for n in rows]
            seats = [
                {
                    "item": int(item[n]) + 1, "account": people[person[n]], "project": project, "state": "answered",
                    "token": f"{project} {n}", "shown": order, "guideline": 1, "granted": t.at, "expires": t.at,
                    "turn": n, "revision": 1,
                }
                for n, order in zip(rows, shown, strict=True)
            ]  # fmt: skip
            t.connection.execute(sa.insert(schema.seat), seats)
            t.connection.execute(
                sa.insert(schema.judgment),
                [
                    {
                        "number": n + 1, "id": f"judgment{n}", "item": int(item[n]) + 1,
                        "account": people[person[n]], "project": project, "kind": "answer", "revision": 1,
                        "guideline": 1, "shown": order, "started": t.at, "submitted": t.at + n * SECOND,
                        "active_ms": int(1000 * numpy.broadcast_to(seconds, len(item))[n]), "client": "",
                        "idem": str(n), "asked": "", "reason": "", "conflict_rule": "", "note": "", "digest": "",
                    }
                    for n, order in zip(rows, shown, strict=True)
                ],
            )  # fmt: skip
            t.connection.execute(
                sa.insert(schema.judgment_value),
                [{"judgment": n + 1, "question": "better", "slot": -1, "num": float(choice[n])} for n in rows],
            )

        site.database.write(say)
    return people
