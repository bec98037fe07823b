"""Digits that may be somebody's number: of a telephone, an identity card, a bank card, an address of the internet.

Whether they are is told by `tutelage.corpus.personal`, which looks closely; most of all digits are ruled out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from tutelage.corpus.hashing import Bytes, Places, column, compiled


def numbers(texts: Sequence[str]) -> list[list[int]]:
    """Of each text where runs of digits, spaces, dots and strokes begin in which somebody's number may stand."""
    text = column(texts)
    begins = np.zeros(len(text) + 1, np.int64)
    places = np.empty(len(text.data) // 2 + 1, np.uint32)
    _numbers(text.data, text.offsets, begins, places)
    found = places[: begins[-1]].tolist()
    return [found[first:last] for first, last in pairwise(begins.tolist())]


@compiled
def is_letter(b: Any) -> Any:
    """Whether a byte is a Latin letter."""
    return np.uint8((b | 32) - 97) < 26


@compiled
def is_digit(b: Any) -> Any:
    """Whether a byte is a digit."""
    return np.uint8(b - 48) < 10


@compiled
def may_be_number(data: Bytes, start: int, i: int, end: int) -> bool:
    """Whether digits that begin here may be somebody's number: alone, or with those that a space, a dot or a stroke
    divides from them. What stands before, how many digits there are, and in how many groups, rules out most."""
    before = data[i - 1] if i > start else 10
    needed = 99
    if before == 43:
        needed = 8
    else:
        bracket = i - 1 if before == 41 else i - 2
        if bracket > start and data[bracket] == 41 and is_digit(data[bracket - 1]) and before in (41, 32, 45):
            needed = 7
        elif is_letter(before) or is_digit(before) or before in (95, 46, 45, 47, 61, 38, 37, 35, 36):
            return False
    digits, groups, dots = 0, 0, 0
    j = i
    while True:
        first = j
        while j < end and is_digit(data[j]) and j < i + 40:
            j += 1
        digits += j - first
        groups += 1
        joined = j + 1 < end and data[j] in (32, 45, 46) and is_digit(data[j + 1])
        if digits >= needed or ((not joined or data[j] == 32) and _may_be(data, i, digits, groups, dots, j - first)):
            return True
        if not joined or j > i + 31:
            return False
        dots += data[j] == 46
        j += 1


@compiled
def _may_be(data: Bytes, i: int, digits: int, groups: int, dots: int, last: int) -> bool:
    """Whether digits are as many as an address of the internet, a telephone number, an identity number or a card has.
    A company's hotline is no person's."""
    lead = data[i] - 48
    if dots == 3 and groups == 4:
        return digits >= 6
    if lead == 0 and digits < 13:
        return groups == 2 and dots == 0 and digits > 9
    if digits == 10:
        hotline = lead in (4, 8) and data[i + 1] == 48 and data[i + 2] == 48
        return lead > 1 and groups == 3 and last == 4 and not hotline
    if digits == 11:
        return lead == 1 and groups <= 4
    if digits == 13:
        return lead == 8
    if digits == 17 or digits == 18:
        return groups == 1 and lead > 0
    return dots == 0 and ((digits == 15 and lead != 1) or (digits in (16, 19) and 2 <= lead <= 6))


@compiled
def _numbers(data: Bytes, offsets: Places, begins: Places, places: npt.NDArray[np.uint32]) -> None:
    taken = 0
    for number in range(len(offsets) - 1):
        start, end = offsets[number], offsets[number + 1]
        i = run = start
        more, told = 0, start - 1
        while i < end:
            b = data[i]
            if is_digit(b):
                if run > told and may_be_number(data, start, i, end):
                    places[taken] = run - start - more
                    taken += 1
                    told = run
                while i < end and is_digit(data[i]):
                    i += 1
                continue
            i += 1
            if b != 32 and b != 45 and b != 46:
                more += 128 <= b < 192
                run = i
        begins[number + 1] = taken
