from tutelage.corpus.digits import numbers


def test_runs_of_digits_are_told_by_their_first_character() -> None:
    texts = ["中 12 13800138000 or 2024, +44 20 7946 0958", "", "😀010-62770000 3.14 13800138000\n212-555-0147"]
    assert numbers(texts) == [[1, 27], [], [1, 31]]


def test_a_long_line_of_numbers_is_read_once() -> None:
    line = "13800138000 " * 20_000
    assert numbers([line]) == [[0]]
