"""Models in a process of their own: what they are asked, what they say, and how they fail."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from site_of_tests import code, refused
from speakers import speakers

from tutelage.errors import ModelError, SettingsError
from tutelage.inference.language_model import Sampling
from tutelage.label import load
from tutelage.label import models as models_of
from tutelage.records import Message
from tutelage.run import content_hash
from tutelage.web.models import Models


def told(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    asked = speakers(tmp_path_factory.mktemp("runs"), "one", "two")
    yield asked
    asked.close()


def test_answers_come_with_all_that_draws_them_again(models: Models, tmp_path: Path):
    first, second = models.ask("runs/one", [told("a"), told("b")], Sampling(temperature=0.5), seed=7).result(60)
    assert (first.text, second.text) == ("draw 7.0 of **a**", "draw 7.1 of **b**")
    assert second.sampling == {"temperature": 0.5, "top_p": 1.0, "max_new_tokens": 256, "seed": 7, "place": 1}
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.json").write_text("one")
    assert (first.model, first.model_sha256) == ("runs/one", content_hash(tmp_path / "one"))
    drawn = [models.ask("runs/one", [told("a")], Sampling()).result(60)[0].sampling["seed"] for _ in range(3)]
    assert len(set(drawn)) == 3, "without a seed one is drawn"


def test_who_asks_in_the_same_way_is_answered_together(models: Models):
    slow = models.ask("runs/one", [told("slow")], Sampling(), seed=1)
    asked = [models.ask("runs/two", [told(f"t{n}")], Sampling()) for n in range(4)]
    alone = models.ask("runs/two", [told("x")], Sampling(), seed=5)
    slow.result(60)
    drawn = [one.result(60)[0].sampling for one in asked]
    assert len({sampling["seed"] for sampling in drawn}) == 1
    assert [sampling["place"] for sampling in drawn] == [0, 1, 2, 3]
    assert alone.result(60)[0].text == "draw 5.0 of **x**"


def test_a_long_prompt_is_nobody_elses_matter(models: Models):
    slow = models.ask("runs/one", [told("slow")], Sampling(), seed=1)
    long = models.ask("runs/one", [told("word " * 80)], Sampling())
    short = models.ask("runs/one", [told("short")], Sampling())
    slow.result(60)
    with pytest.raises(SettingsError, match="does not fit"):
        long.result(60)
    assert short.result(60)[0].text.endswith("**short**")


def test_a_model_that_is_not_there_and_one_that_fails(models: Models):
    refusal = refused(models.ask, "runs/three", [told("a")], Sampling())
    assert (refusal.code, str(refusal)) == ("bad_input", "model 'runs/three': not here: there are runs/one, runs/two")
    with pytest.raises(ModelError, match="says nothing"):
        models.ask("runs/one", [told("hush")], Sampling()).result(60)
    with pytest.raises(ModelError, match=r"has ended \(3\)"):
        models.ask("runs/one", [told("die")], Sampling()).result(60)
    assert models.ask("runs/one", [told("a")], Sampling(), seed=1).result(60)[0].text == "draw 1.0 of **a**"


def test_a_folder_that_was_made_anew_is_loaded_anew(tmp_path: Path):
    mine = speakers(tmp_path, "one")
    try:
        before = mine.ask("runs/one", [told("a")], Sampling()).result(60)[0].model_sha256
        (tmp_path / "one" / "weights").write_text("new")
        after = mine.ask("runs/one", [told("a")], Sampling()).result(60)[0].model_sha256
        assert before != after == content_hash(tmp_path / "one")
    finally:
        mine.close()


def test_the_end_of_a_site_is_told_to_who_waits(tmp_path: Path):
    mine = speakers(tmp_path, "one")
    mine.ask("runs/one", [told("a")], Sampling()).result(60)
    waiting = [mine.ask("runs/one", [told("slow")], Sampling(), seed=n) for n in range(2)]
    mine.close()
    for one in waiting:
        with pytest.raises(ModelError):
            one.result(10)
    with pytest.raises(ModelError, match="closing"):
        mine.ask("runs/one", [told("a")], Sampling())
    assert not [thread for thread in threading.enumerate() if thread is mine._thread]


def test_real_models_are_found_by_their_place_and_answer(model_folder: Path, tmp_path: Path):
    """Finished runs of a course, a folder; not rewards, not half a run, not what is no model."""
    for name, config in (
        ("a/sft", "{}"),
        ("a/reward", '{"architectures": ["X1ForSequenceClassification"]}'),
        ("b", ""),
    ):
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "done").write_text("{}")
        if config:
            (run / "config.json").write_text(config.replace("{}", '{"model_type": "qwen3"}'))
    (tmp_path / "runs" / "a" / "ppo.partial").mkdir()
    (tmp_path / "runs" / "a" / "ppo.partial" / "config.json").write_text("{}")
    found = models_of(tmp_path / "runs", [model_folder])
    assert found == {"a/sft": tmp_path / "runs" / "a" / "sft", "model": model_folder}
    with pytest.raises(ModelError, match="no model that answers"):
        models_of(tmp_path / "runs", [tmp_path / "runs" / "a" / "reward"])
    with pytest.raises(SettingsError, match="has this name already"):
        models_of(tmp_path, [model_folder, copy_of(model_folder, tmp_path)])
    asked = Models(lambda: found, load)
    try:
        prompts = [told("the cat"), told("the cat")]
        first = asked.ask("model", prompts, Sampling(max_new_tokens=8), seed=3).result(120)
        again = asked.ask("model", prompts, Sampling(max_new_tokens=8), seed=3).result(120)
        assert [one.text for one in first] == [one.text for one in again]
        assert first[0].text != first[1].text
        assert first[0].model_sha256 == content_hash(model_folder)
        with pytest.raises(ModelError):
            asked.ask("a/sft", prompts, Sampling()).result(120)
    finally:
        asked.close()
    assert code(asked.check, ["model", "c"]) == "bad_input"


def copy_of(folder: Path, place: Path) -> Path:
    other = place / "other" / folder.name
    other.mkdir(parents=True)
    (other / "config.json").write_text((folder / "config.json").read_text())
    return other
