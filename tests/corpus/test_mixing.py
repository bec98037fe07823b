import math

import pytest

from tutelage.corpus.mixing import plan
from tutelage.errors import SettingsError


def test_weights_are_epochs() -> None:
    made = plan({"web": 1000, "textbook": 100}, {"textbook": 3})
    assert {name: share.epochs for name, share in made.sources.items()} == {"textbook": 3.0, "web": 1.0}
    assert made.sources["textbook"].share == pytest.approx(300 / 1300)
    assert made.warnings == ()


def test_a_total_scales_all() -> None:
    made = plan({"web": 1000, "textbook": 100}, {"textbook": 3}, total=650)
    assert made.sources["web"].epochs == pytest.approx(0.5)
    assert made.sources["textbook"].epochs == pytest.approx(1.5)
    assert sum(share.size * share.epochs for share in made.sources.values()) == pytest.approx(650)


def test_there_is_a_warning_past_four_epochs() -> None:
    assert plan({"a": 10}, {"a": 4}).warnings == ()
    warnings = plan({"a": 10, "b": 10}, {"a": 4.5}).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith("a is read 4.5 times: past 4 epochs")


def test_repeated_text_is_worth_less() -> None:
    worth = [plan({"a": 1000}, {"a": epochs}).sources["a"].worth for epochs in (0.5, 1, 4, 40, 400)]
    assert worth[:2] == [500, 1000]
    # Equation 5 of the paper: U + U R* (1 - exp(-R / R*)), with R the epochs beyond the first.
    assert worth[2] == pytest.approx(1000 + 1000 * 15.4 * (1 - math.exp(-3 / 15.4)))
    assert 3700 < worth[2] < 4000
    assert worth[4] == pytest.approx(16_400, rel=1e-3)


def test_the_card_has_plain_numbers() -> None:
    card = plan({"a": 3, "b": 1}, {"a": 5}).card()
    assert card["sources"]["b"] == {"size": 1, "weight": 1.0, "epochs": 1.0, "share": 0.0625, "worth": 1}
    assert len(card["warnings"]) == 1


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"c": 1}, "no source 'c': there are a, b"),
        ({"a": -1}, "weights: a: -1: give 0 or more"),
        ({"a": float("nan")}, "weights: a: nan: give 0 or more"),
        ({"a": 0, "b": 0}, "nothing is left to read"),
    ],
)
def test_weights_that_cannot_be(weights: dict[str, float], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        plan({"a": 1, "b": 1}, weights)
