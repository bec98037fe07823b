import numpy as np
import pytest

from tutelage.corpus.splits import group, held_out, value
from tutelage.records import Document


def document(number: int, **metadata: str) -> Document:
    return Document(id=str(number), text=f"text {number}", source="s", licence="MIT", language="en", metadata=metadata)


def sides(names: list[str], share: float, seed: int, stands_for: list[int] | None = None) -> list[bool]:
    values = np.array([value(name, seed) for name in names], np.uint64)
    alone = np.array([value(str(place), seed) for place in range(len(names))], np.uint64)
    return held_out(values, alone, np.array(stands_for or range(len(names))), share).tolist()


def test_groups() -> None:
    assert group(document(1, kind="method", module="torch.nn.modules.linear")) == "torch.nn.modules"
    assert group(document(1, kind="module", module="json")) == "json"
    assert group(document(1, kind="topic", name="with", module="pydoc_data.topics")) == "topic:with"
    assert group(document(1, file="a.txt", part="1/2")) == group(document(2, file="a.txt", part="2/2"))
    assert group(document(1, file="a.jsonl", row="1")) != group(document(2, file="a.jsonl", row="2"))


def test_whole_groups_are_held_out_and_about_the_share() -> None:
    names = [f"part{number % 500}" for number in range(2000)]
    found = sides(names, 0.1, seed=1)
    assert len(set(zip(names, found, strict=True))) == 500
    # 500 draws with p = 0.1: 50, and five standard deviations of 6.7.
    assert 17 < len({name for name, held in zip(names, found, strict=True) if held}) < 83
    assert sides(names, 0.1, seed=2) != found


def test_a_new_group_moves_no_other() -> None:
    names = [f"part{number}" for number in range(200)]
    assert sides([*names, "another"], 0.1, 1)[:-1] == sides(names, 0.1, 1)


def test_a_cluster_is_on_one_side_whatever_its_groups_are() -> None:
    names = [f"part{number}" for number in range(200)]
    stands_for = [number - number % 2 for number in range(200)]
    found = sides(names, 0.3, 1, stands_for)
    assert found[::2] == found[1::2]
    assert found[::2] == sides(names, 0.3, 1)[::2]


@pytest.mark.parametrize("share", [0.001, 0.5])
def test_both_sides_have_something_where_that_can_be(share: float) -> None:
    assert all(sum(sides(["a", "b"], share, seed)) == 1 for seed in range(20))
    assert sides(["a"], share, 1) == [False]
    assert sides([], share, 1) == []
    assert sides(["a", "b"], 0.0, 1) == [False, False]


def test_the_documents_of_a_single_file_are_parted() -> None:
    assert set(sides(["book.txt"] * 9, 0.1, seed=1)) == {True, False}
