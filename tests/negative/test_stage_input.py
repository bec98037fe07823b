"""Bad input to the stages that learn: one line that names the place, and nothing half-written."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from tutelage.errors import ModelError, RecordError, SettingsError, TutelageError
from tutelage.inference.engine import Engine
from tutelage.inference.language_model import Sampling
from tutelage.records import Comparison, Conversation, Rating, Verdict, read
from tutelage.stages import collect, dpo, kto, ppo, pretrain, reward, sft

DATA = {sft: "conversations", reward: "comparisons", dpo: "comparisons", kto: "verdicts", ppo: "prompts"}
RECORDS: dict[Any, Any] = {
    sft: tiny.conversations, reward: tiny.comparisons, dpo: tiny.comparisons, kto: tiny.verdicts,
    ppo: tiny.conversations,
}  # fmt: skip
LEARNERS = list(DATA)
NAMES = [module.__name__.rsplit(".", 1)[-1] for module in LEARNERS]
TALK = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "oh"}]}
PAIR = {"prompt": "hi", "chosen": "the cat", "rejected": "sun"}


def refused(module: Any, folder: Path, model: Path, rows: Any, kind: type[TutelageError], match: str) -> str:
    """The one line that the stage ends with."""
    data = folder / "data.jsonl"
    if isinstance(rows, str):
        data.write_text(rows, encoding="utf-8")
    else:
        tiny.jsonl(data, rows)
    values: dict[str, Any] = {"model": model, DATA[module]: data}
    if module is ppo:
        (folder / "reward.py").write_text("def half(prompts, responses): return [0.5] * len(responses)\n")
        values["reward_function"] = f"{folder / 'reward.py'}:half"
    with pytest.raises(kind, match=match) as caught:
        tiny.run_stage(module, folder / "run", **values)
    assert "\n" not in str(caught.value)
    assert not (folder / "run").exists()
    assert not (folder / "run.partial").exists()
    return str(caught.value)


@pytest.mark.parametrize("module", LEARNERS, ids=NAMES)
def test_files_that_hold_nothing_to_learn(module: Any, model_folder: Path, tmp_path: Path) -> None:
    refused(module, tmp_path, model_folder, "", RecordError, "data.jsonl: empty")
    good = json.dumps({"a": 1})
    refused(module, tmp_path, model_folder, f"{good}\n{{broken\n", RecordError, "data.jsonl:[12]: ")
    broken = "\n" * 4 + '{"messages": [\n'
    refused(module, tmp_path, model_folder, broken, RecordError, r"data.jsonl:5: broken JSON at column \d+")
    (tmp_path / "data.jsonl").unlink()
    with pytest.raises(RecordError, match=r"data.jsonl: no such file"):
        tiny.run_stage(
            module, tmp_path / "run", model=model_folder,
            **{DATA[module]: tmp_path / "data.jsonl"}, **({"reward_function": "x.py:y"} if module is ppo else {}),
        )  # fmt: skip


@pytest.mark.parametrize("module", LEARNERS, ids=NAMES)
def test_model_folders_that_lack_something(module: Any, model_folder: Path, tmp_path: Path) -> None:
    rows = RECORDS[module](4)
    for name, match in (
        ("tokenizer.json", "model: no tokenizer"),
        ("chat_template.jinja", "model: no chat template"),
        ("config.json", "model: no model"),
        ("model.safetensors", "model: cannot be loaded"),
    ):
        folder = tmp_path / name / "model"
        folder.mkdir(parents=True)
        for file in model_folder.iterdir():
            if file.name != name:
                (folder / file.name).write_bytes(file.read_bytes())
        refused(module, tmp_path, folder, rows, ModelError, match)
    refused(module, tmp_path, tmp_path / "nothing" / "here", rows, ModelError, "nothing/here")


@pytest.mark.parametrize("module", [sft, reward, dpo, kto])
def test_examples_that_are_all_too_long(module: Any, model_folder: Path, tmp_path: Path) -> None:
    data = tiny.jsonl(tmp_path / "data.jsonl", RECORDS[module](6))
    message = r"data.jsonl: 6 of 6 examples are longer than max_length 5 tokens: raise max_length, shorten them"
    with pytest.raises(RecordError, match=message):
        tiny.run_stage(
            module, tmp_path / "run", model=model_folder, max_length=5, max_dropped=1.0, **{DATA[module]: data}
        )


@pytest.mark.parametrize("module", LEARNERS, ids=NAMES)
def test_examples_longer_than_the_models_context(module: Any, gpt2_folder: Path, tmp_path: Path) -> None:
    """GPT-2 here has 64 positions; max_length allows 1024."""
    rows = RECORDS[module](3)
    first = rows[0]
    if module in (sft, ppo):
        long: Any = Conversation(id="long", messages=(tiny.user("x" * 80), tiny.assistant("y")))
    elif module is kto:
        long = Verdict(id="long", prompt=(tiny.user("x" * 80),), response="y", good=True, judge="rule")
    else:
        long = Comparison(id="long", prompt=(tiny.user("x" * 80),), responses=("y", "z"), ranks=(1, 2), judge="rule")
    assert first.id != long.id
    if module is ppo:  # leaves room for the others
        refused(module, tmp_path, gpt2_folder, [long], RecordError, "no prompt of 1 leaves room for 64 tokens in the")
    else:
        message = "data.jsonl: 1 of 4 examples are longer than the model's context of 64 tokens: shorten them"
        refused(module, tmp_path, gpt2_folder, [*rows, long], RecordError, message)


def test_conversations(model_folder: Path, tmp_path: Path) -> None:
    def say(rows: list[dict[str, Any]], match: str) -> None:
        refused(sft, tmp_path, model_folder, rows, RecordError, match)

    alone = {"messages": [{"role": "user", "content": "hi"}]}
    say([TALK, alone], r"data.jsonl:2: .*answer")
    say([TALK, TALK, {"messages": [{"role": "usr", "content": "hi"}]}], r'data.jsonl:3: .*"usr": write system, user')
    say([{**TALK, "messages": [*TALK["messages"], {"role": "user", "content": 3}]}], r"data.jsonl:1: ")
    say([{"id": "own", **alone, "judge": "rule"}], r"data.jsonl:1: .*answer")
    say([{"text": "no shape"}], r"data.jsonl:1: .*no known shape|data.jsonl:1: ")


@pytest.mark.parametrize("module", [reward, dpo])
def test_comparisons(module: Any, model_folder: Path, tmp_path: Path) -> None:
    def say(rows: list[Any], match: str) -> None:
        refused(module, tmp_path, model_folder, rows, RecordError, match)

    say([PAIR, {**PAIR, "rejected": PAIR["chosen"]}], r"data.jsonl:2: identical responses")
    own = {"id": "a", "prompt": [{"role": "user", "content": "q"}], "judge": "rule"}
    say([{**own, "responses": ["x", "x"], "ranks": [1, 2]}], r"data.jsonl:1: .*identical")
    tie = Comparison(id="t", prompt=(tiny.user("q"),), responses=("a", "b"), ranks=(1, 1), judge="rule")
    say([tie, tie], r"data.jsonl: every comparison is a tie: there is nothing to learn")
    say([{**own, "responses": ["x", "y"], "ranks": [1, float("nan")]}], r"data.jsonl:1: .*(NaN|nan|finite)")
    say([{**own, "responses": ["x"], "ranks": [1]}], r"data.jsonl:1: responses: 1: a comparison has at least two")
    say([{**own, "prompt": [], "responses": ["x", "y"], "ranks": [1, 2]}], r"data.jsonl:1: prompt: empty")


def test_verdicts(model_folder: Path, tmp_path: Path) -> None:
    def say(rows: list[Any], match: str) -> None:
        refused(kto, tmp_path, model_folder, rows, RecordError, match)

    found = tiny.verdicts(8)
    say([v for v in found if v.good], "data.jsonl: every verdict is good: it needs both")
    say([v for v in found if not v.good], "data.jsonl: every verdict is bad: it needs both")
    say([{"prompt": "q", "completion": "a", "label": "perhaps"}], r"data.jsonl:1: label: found \"perhaps\": write true")
    say([{"prompt": "q", "completion": "a", "label": float("nan")}], r"data.jsonl:1: ")
    same = [Verdict(id=str(i), prompt=(tiny.user("q"),), response=f"a{i}", good=i > 1, judge="rule") for i in range(4)]
    say(same, "data.jsonl: all verdicts share one prompt")


def test_votes_and_ratings_with_nan(tmp_path: Path) -> None:
    row = {"id": "a", "prompt": [{"role": "user", "content": "q"}], "response": "r", "axis": "x", "judge": "person"}
    file = tiny.jsonl(tmp_path / "ratings.jsonl", [{**row, "score": float("nan"), "scale": [1, 5]}])
    with pytest.raises(RecordError, match=r"ratings.jsonl:1: score"):
        list(read(file, Rating))
    votes = tiny.jsonl(tmp_path / "votes.jsonl", [PAIR, {**PAIR, "score_chosen": float("nan")}])
    with pytest.raises(RecordError, match=r"votes.jsonl:2: score_chosen: nan: a finite number"):
        tiny.run_stage(collect, tmp_path / "run", judge="votes", votes=votes)
    assert not (tmp_path / "run.partial").exists()


def test_settings_out_of_bounds(model_folder: Path, tmp_path: Path) -> None:
    talks = tiny.jsonl(tmp_path / "talks.jsonl", tiny.conversations(4))
    for values, match in (
        ({"learning_rat": 1}, "sft: unknown key 'learning_rat': did you mean 'learning_rate'"),
        ({"learning_rate": 0}, "sft: learning_rate: found 0"),
        ({"learning_rate": float("nan")}, "sft: learning_rate: found nan"),
        ({"warmup_ratio": 1.5}, "sft: warmup_ratio: found 1.5"),
        ({"optimizer": "sgd"}, "sft: optimizer: found 'sgd'"),
        ({"lora_rank": -1}, "sft: lora_rank: found -1"),
        ({"lora_rank": 2, "lora_target": "nothing"}, "lora_target: 'nothing'"),
    ):
        with pytest.raises(SettingsError, match=match):
            tiny.run_stage(sft, tmp_path / "run", model=model_folder, conversations=talks, **values)
    with pytest.raises(SettingsError, match=r"dpo: label_smoothing: found 0.5"):
        tiny.run_stage(dpo, tmp_path / "run", model=model_folder, comparisons=talks, label_smoothing=0.5)
    with pytest.raises(SettingsError, match="kto: batch_size: found 1"):
        tiny.run_stage(kto, tmp_path / "run", model=model_folder, verdicts=talks, batch_size=1)
    assert not (tmp_path / "run.partial").exists()


def test_pretraining_texts(tokenizer_folder: Path, tmp_path: Path) -> None:
    common = {"id": "a", "source": "s", "licence": "CC0-1.0", "language": "en"}
    held_out = tiny.jsonl(tmp_path / "held.jsonl", [{**common, "text": "the cat", "split": "held_out"}])
    with pytest.raises(SettingsError, match=r"held.jsonl: no document of the train split is long enough"):
        tiny.run_stage(pretrain, tmp_path / "run", documents=held_out, tokenizer=tokenizer_folder)
    empty = tiny.jsonl(tmp_path / "empty.jsonl", [{**common, "text": "  "}])
    with pytest.raises(RecordError, match=r"empty.jsonl:1: text: empty"):
        tiny.run_stage(pretrain, tmp_path / "run", documents=empty, tokenizer=tokenizer_folder)
    texts = tiny.jsonl(tmp_path / "texts.jsonl", tiny.documents(4))
    with pytest.raises(ModelError, match="no tokenizer"):
        tiny.run_stage(pretrain, tmp_path / "run", documents=texts, tokenizer=tmp_path)
    assert not (tmp_path / "run.partial").exists()


def test_a_prompt_that_does_not_fit_the_context(gpt2_folder: Path) -> None:
    engine = Engine.load(gpt2_folder)
    with pytest.raises(SettingsError, match=r"gpt2: a prompt of \d+ tokens does not fit the context of 64: shorten it"):
        engine.replies([[tiny.user("x" * 80)]], Sampling(max_new_tokens=4))
    with pytest.raises(SettingsError, match="does not fit the context of 64"):
        list(engine.reply([tiny.user("x" * 80)], Sampling(max_new_tokens=4)))
