"""Names for rows that people outside may see."""

from __future__ import annotations

import secrets

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(at: int) -> str:
    """A ULID: 26 letters that begin with the time (microseconds in, milliseconds kept) and end in 80 random bits.

    Nothing is ordered by it: a clock may go back.
    Source: ulid/spec, 2017.
    """
    value = (at // 1000 % 2**48) << 80 | secrets.randbits(80)
    return "".join(_LETTERS[value >> shift & 31] for shift in range(125, -1, -5))


def plain(id: str) -> str:
    """An id that came from outside, or one that nothing has: no database is asked for what it cannot hold."""
    return id if id.isascii() and id.isprintable() else ""
