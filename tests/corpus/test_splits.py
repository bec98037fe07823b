from tutelage.corpus.splits import group, held_out_groups, hold_out
from tutelage.records import Document


def document(number: int, **metadata: str) -> Document:
    return Document(id=str(number), text=f"text {number}", source="s", licence="MIT", language="en", metadata=metadata)


def test_groups() -> None:
    assert group(document(1, kind="method", module="torch.nn.modules.linear")) == "torch.nn.modules"
    assert group(document(1, kind="module", module="json")) == "json"
    assert group(document(1, kind="topic", name="with", module="pydoc_data.topics")) == "topic:with"
    assert group(document(1, file="a.txt", part="1/2")) == group(document(2, file="a.txt", part="2/2"))
    assert group(document(1, file="a.jsonl", row="1")) != group(document(2, file="a.jsonl", row="2"))


def test_whole_modules_are_held_out_and_about_the_share() -> None:
    documents = [document(number, kind="function", module=f"package.part{number % 500}") for number in range(2000)]
    split = hold_out(documents, 0.1, seed=1)
    sides = {(found.metadata["module"], found.split) for found in split}
    assert len(sides) == 500
    # 500 draws with p = 0.1: 50, and five standard deviations of 6.7.
    assert 17 < sum(side == "held_out" for _, side in sides) < 83
    assert [found.id for found in split] == [found.id for found in documents]
    assert hold_out(documents, 0.1, seed=2) != split


def test_a_new_group_moves_no_other() -> None:
    names = {f"part{number}" for number in range(200)}
    before = held_out_groups(names, 0.1, 1)
    assert held_out_groups(names | {"another"}, 0.1, 1) - {"another"} == before


def test_both_sides_have_something_where_that_can_be() -> None:
    two = {"a", "b"}
    assert len(held_out_groups(two, 0.001, 1)) == 1
    assert len(held_out_groups(two, 0.5, 1)) == 1
    assert all(len(held_out_groups(two, 0.5, seed)) == 1 for seed in range(20))
    assert held_out_groups({"a"}, 0.5, 1) == set()
    assert held_out_groups(two, 0.0, 1) == set()


def test_the_pieces_of_a_single_file_are_parted() -> None:
    pieces = [document(number, file="book.txt", part=f"{number}/9") for number in range(9)]
    assert {found.split for found in hold_out(pieces, 0.1, seed=1)} == {"train", "held_out"}
