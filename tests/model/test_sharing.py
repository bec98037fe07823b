"""How a step is dealt out to processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.model import distribution


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(1, 5))
def test_every_example_goes_to_one_process_and_loads_are_even(sizes: list[int], processes: int) -> None:
    chosen = [7 * place + 3 for place in range(len(sizes))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(processes))
        parts: list[list[int]] = []
        for rank in range(processes):
            patch.setenv("RANK", str(rank))
            parts.append(distribution.share(chosen, sizes))
    assert sorted(index for part in parts for index in part) == chosen
    assert all(part == sorted(part) for part in parts)  # in their order
    loads = [sum(sizes[(index - 3) // 7] for index in part) for part in parts]
    assert max(loads) - min(loads) <= max(sizes)


def test_one_process_takes_all_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert distribution.share([5, 2, 9], [1, 8, 3]) == [5, 2, 9]
