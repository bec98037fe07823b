import importlib.util
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tutelage.corpus import hashing


def units(text: str, digits: bool = True, symbols: bool = False) -> list[tuple[int, str]]:
    """Hash and text of each unit."""
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    room = len(data) + 1
    hashes, starts, ends = np.empty(room, np.uint64), np.empty(room, np.int64), np.empty(room, np.int64)
    table = hashing.folded(digits=digits, symbols=symbols)
    count = hashing.units(data, 0, len(data), table, hashes, starts, ends)
    spans = zip(starts[:count].tolist(), ends[:count].tolist(), strict=True)
    return [(int(value), text.encode()[a:b].decode()) for value, (a, b) in zip(hashes[:count], spans, strict=True)]


def shown(text: str, **how: bool) -> list[str]:
    return [unit for _, unit in units(text, **how)]


def hashed(text: str, **how: bool) -> list[int]:
    return [value for value, _ in units(text, **how)]


def test_words_are_units_and_so_is_a_character_where_words_are_not_written_apart() -> None:
    assert shown("The cat's 2 hats, 中文ABC字。") == ["The", "cat", "s", "2", "hats", "中", "文", "ABC", "字"]
    assert shown("ひらカナ한글 ไทย 𠀀𠀁") == [*"ひらカナ한글ไทย𠀀𠀁"]
    assert shown("🔥x🎉, — …") == ["x"]
    assert shown("") == shown("--- ***") == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("Ｆｕｌｌ　１２", "full 12"), ("CAFÉ", "cafe\u0301"), ("ﬁne", "FINE"), ("Straße", "STRASSE"), ("ｶﾅ", "カナ"),
     ("co\u00adop", "coop"), ("①２", "12"), ("a。b", "a, b")],
)  # fmt: skip
def test_what_only_looks_different_is_the_same(one: str, other: str) -> None:
    assert hashed(one) == hashed(other)


@pytest.mark.parametrize(("one", "other"), [("ab", "ba"), ("a b", "ab"), ("中文", "文中"), ("12", "21"), ("a", "b")])
def test_what_is_different_stays_so(one: str, other: str) -> None:
    assert hashed(one) != hashed(other)


def test_numbers_and_signs_count_where_they_are_asked_for() -> None:
    assert shown("costs $1,999 now", digits=False) == ["costs", "now"]
    assert shown("3 + 4", symbols=True) == ["3", "+", "4"]
    assert hashed("3 + 4") == hashed("3 - 4")
    assert hashed("3 + 4", symbols=True) != hashed("3 - 4", symbols=True)
    assert hashed("甲，乙", symbols=True) == hashed("甲,乙", symbols=True)


def test_a_run_has_the_same_hash_wherever_it_stands() -> None:
    draw = random.Random(1)
    words = np.array([draw.getrandbits(64) for _ in range(50)], dtype=np.uint64)
    out, part = np.empty(50, np.uint64), np.empty(50, np.uint64)
    assert hashing.runs(words, 50, 5, out) == 46
    for place in (0, 7, 45):
        assert hashing.runs(words[place : place + 5], 5, 5, part) == 1
        assert part[0] == out[place]
    assert len(set(out[:46].tolist())) == 46
    assert hashing.runs(words, 0, 5, out) == 0
    assert hashing.runs(words, 3, 5, part) == 1


def test_columns_come_from_lists_and_arrow_alike() -> None:
    texts = ["中文", "", "abc", "x"]
    for given in (texts, pa.array(texts), pa.array(["-", *texts, "-"], pa.large_string()).slice(1, 4),
                  pa.chunked_array([texts[:1], texts[1:]]), pa.array(["中文", None, "abc", "x"])):  # fmt: skip
        text = hashing.column(given)
        found = [bytes(text.data[a:b]).decode() for a, b in zip(text.offsets, text.offsets[1:], strict=False)]
        assert found == texts
    assert len(hashing.column([])) == 0
    assert len(hashing.column(["", ""])) == 2
    assert bytes(hashing.column(["a\ud800"]).data) == b"a?"


def test_keys_come_in_order_in_slices_of_any_size() -> None:
    draw = np.random.default_rng(1)
    keys = [draw.integers(0, 2**64, size, dtype=np.uint64) for size in (50, 0, 70)]
    keys[2][:40] = keys[0][:40]
    places = [draw.permutation(200)[: len(part)].astype(np.int64) for part in keys]
    whole = list(hashing.ordered(keys, places))
    assert len(whole) == 1
    pairs = list(zip(*(column.tolist() for column in whole[0]), strict=True))
    assert pairs == sorted(pairs)
    for at_once in (1, 7, 119):
        slices = list(hashing.ordered(keys, places, at_once))
        assert len(slices) > 1
        assert [pair for some in slices for pair in zip(*(column.tolist() for column in some), strict=True)] == pairs
    assert [len(some) for some, _ in hashing.ordered([], [])] == [0]


def test_ranks_go_by_preference_and_do_not_move_with_the_others() -> None:
    ids = [f"document {number}" for number in range(100)]
    ranks = hashing.rank(ids)
    assert len(set(ranks.tolist())) == 100
    assert hashing.rank(ids[::-1]).tolist() == ranks.tolist()[::-1]
    preferred = hashing.rank(ids, [1] * 99 + [0])
    assert int(preferred.argmin()) == 99


def test_text_is_cut_into_runs_of_equal_size() -> None:
    text = hashing.column(["x" * 10] * 100)
    runs = hashing.shares(text, 4)
    assert [first for first, _ in runs] == [0, *(last for _, last in runs[:-1])]
    assert runs[-1][1] == 100
    assert {last - first for first, last in runs} == {25}
    assert hashing.shares(hashing.column(["x" * 1000, "y"]), 8)[-1][1] == 2


def test_it_is_known_which_loops_are_compiled(tmp_path: Path) -> None:
    """Not those whose file was written anew; and a process that asks compiles none."""
    file = tmp_path / "loops.py"
    file.write_text("from tutelage.corpus.hashing import compiled\n\n\n@compiled\ndef twice(n):\n    return 2 * n\n")

    def twice() -> Any:
        spec = importlib.util.spec_from_file_location("loops", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.twice

    assert not hashing.is_kept(twice())
    assert not hashing.is_kept(twice())
    assert twice()(4) == 8
    assert hashing.is_kept(twice())
    file.write_text(file.read_text().replace("2 *", "1 + 1 *"))
    assert not hashing.is_kept(twice())
