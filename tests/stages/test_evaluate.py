import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny

from tutelage import records, settings
from tutelage.errors import RecordError, SettingsError
from tutelage.evaluation import report
from tutelage.inference.language_model import Reply, Sampling
from tutelage.model import checkpoint
from tutelage.model.chat import Chat
from tutelage.records import Comparison, Conversation, Document, Message
from tutelage.run import Run, content_hash, read_metrics
from tutelage.stages import evaluate, tokenizer
from tutelage.stages.evaluate import Recipe, opponents

ANSWERS = {
    "base": ("open open open open open", False),
    "sft": ("`open` is a function. See also.", True),
    "ppo": ("`open` is a function.", True),
    "kto": ("`open` is a class.", True),
}


class Speaker:
    """Says one thing, whatever is asked; longer answers are less likely."""

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def load(cls, path: Path) -> "Speaker":
        return cls(path.name)

    def answering(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        yield from reversed(list(enumerate(self.replies(prompts, sampling))))  # as they are done: in any order

    def replies(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Reply]:
        assert all(prompt[-1].role == "user" for prompt in prompts)
        text, stopped = ANSWERS[self.name]
        words = len(text.split())
        reason = "stop" if stopped and words <= sampling.max_new_tokens else "length"
        return [Reply(text=text, finish_reason=reason, prompt_tokens=5, completion_tokens=words) for _ in prompts]

    def reply(self, prompt: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        raise NotImplementedError

    def require(self, prompts: Iterable[Sequence[Message]]) -> None:
        assert all(prompt[-1].role == "user" for prompt in prompts)

    def fits(self, _: Sequence[Message], continuation: str) -> bool:
        return bool(continuation)

    def loglikelihood(self, _: Sequence[Message], continuation: str) -> float:
        return -(2.0 if self.name == "sft" else 1.5) * len(continuation.split())


def held_out(folder: Path, count: int = 10) -> Path:
    """Two tasks, the answer of one of which is always the same."""
    found = [
        Conversation(
            id=f"{task}{i}",
            messages=(
                Message(role="user", content=f"What is `open`? ({i})"),
                Message(role="assistant", content=answer),
            ),
            task=task,
            split="held_out",
        )
        for task, answer in (("kind", "`open` is a function."), ("meaning", "It opens a file."))
        for i in range(count)
    ]
    records.write(folder / "held_out.jsonl", found)
    return folder


@pytest.fixture
def speakers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "Engine", Speaker)
    monkeypatch.setattr(evaluate, "bits_per_byte", lambda path, texts: len(path.name) + len(texts))  # pyright: ignore


def run(folder: Path, **values: Any) -> Path:
    recipe = settings.check(Recipe, values, "test")
    with Run.begin(folder, "evaluate", settings.plain(recipe), quiet=True) as at_work:
        evaluate.execute(recipe, at_work)
        at_work.finish()
    return folder


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


@pytest.mark.usefixtures("speakers")
def test_models_are_marked_on_the_same_prompts(tmp_path: Path):
    folder = run(tmp_path / "marks", models=["m/base", "m/sft", "m/ppo", "m/kto"], held_out=held_out(tmp_path / "h"),
                 over={"ppo": "sft", "kto": "sft"}, prompts_per_task=7, samples=3)  # fmt: skip
    found = results(folder)
    assert found["prompts"] == 14
    base, sft, ppo, kto = found["models"]
    assert [share["task"] for share in base["accuracy"]] == ["kind", "meaning", "all"]
    assert (base["accuracy"][0]["mean"], ppo["accuracy"][0]["mean"], kto["accuracy"][0]["mean"]) == (0, 1, 0)
    assert 0 < ppo["accuracy"][0]["low"] < 1  # seven of seven is not certainty
    assert (base["stopped"]["mean"], sft["stopped"]["mean"]) == (0, 1)
    assert (sft["rule"]["one_sentence"], ppo["rule"]["one_sentence"]) == (0, 1)
    assert (sft["tokens"], ppo["tokens"]) == (6, 4)
    assert ppo["bits_per_byte"] is None
    assert [(rate["model"], rate["over"]) for rate in found["win_rates"]] == [
        ("sft", "base"), ("ppo", "sft"), ("kto", "sft"),
    ]  # fmt: skip
    rates = {rate["model"]: rate for rate in found["win_rates"]}
    # "kind": base has 2 points (one sentence, no invented name), sft 3; "meaning": 2 and 2, as sft says two sentences
    assert (rates["sft"]["mean"], rates["ppo"]["mean"], rates["ppo"]["prompts"]) == (0.75, 1, 14)
    assert rates["kto"]["mean"] == pytest.approx((7 * 0.5 + 7 * 1) / 14)  # wrong kind but tidy: a tie on seven prompts
    assert found["rule"].startswith("An answer gets one point")
    gained = {(gain["model"], gain["task"]): (gain["over"], gain["mean"], gain["prompts"]) for gain in found["gains"]}
    assert set(gained) == {(model, task) for model in ("sft", "ppo", "kto") for task in ("kind", "meaning", "all")}
    assert gained["kto", "kind"] == ("sft", kto["accuracy"][0]["mean"] - sft["accuracy"][0]["mean"], 7)


@pytest.mark.usefixtures("speakers")
def test_the_divergence_from_the_other_model(tmp_path: Path):
    folder = run(tmp_path / "marks", models=["m/sft", "m/ppo"], held_out=held_out(tmp_path / "h"), kl_prompts=6)
    (kl,) = results(folder)["kl"]
    # four words at 1.5 nats under ppo and 2 nats under sft; 20 prompts, every fourth of them
    assert (kl["model"], kl["over"], kl["mean"], kl["prompts"]) == ("ppo", "sft", pytest.approx(4 * 0.5), 5)
    assert results(run(tmp_path / "none", models=["m/sft", "m/ppo"], held_out=tmp_path / "h", kl_prompts=0))["kl"] == []


@pytest.mark.usefixtures("speakers")
def test_what_is_written(tmp_path: Path):
    models = ["m/base", "m/sft"]
    folder = run(tmp_path / "marks", models=models, held_out=held_out(tmp_path / "h") / "held_out.jsonl", samples=3)
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 40
    assert rows[0] == {
        "model": "base", "prompt": "kind0", "task": "kind", "response": ANSWERS["base"][0], "stopped": False,
        "tokens": 5, "right_object": 0, "one_sentence": 1, "no_invented_name": 1, "ends_properly": 0, "points": 2,
    }  # fmt: skip
    samples = json.loads((folder / "samples.json").read_text())
    assert [sample["task"] for sample in samples] == ["kind", "meaning", "kind"]
    assert [said["name"] for said in samples[0]["answers"]] == ["base", "sft"]
    assert samples[1]["reference"] == "It opens a file."
    assert any(line.get("win_rate") == 0.75 for line in read_metrics(folder))
    report.write(folder, report.stage_card(folder))
    assert json.loads((folder / "report.json").read_text())["win_rates"][0]["over"] == "base"
    assert "sft</b> over base" in (folder / "report.html").read_text()


@pytest.mark.usefixtures("speakers")
def test_the_same_recipe_gives_the_same_bytes(tmp_path: Path):
    held_out(tmp_path / "h")
    first = run(tmp_path / "a", models=["m/base", "m/sft"], held_out=tmp_path / "h", prompts_per_task=4, seed=3)
    second = run(tmp_path / "b", models=["m/base", "m/sft"], held_out=tmp_path / "h", prompts_per_task=4, seed=3)
    other = run(tmp_path / "c", models=["m/base", "m/sft"], held_out=tmp_path / "h", prompts_per_task=4, seed=4)
    assert content_hash(first) == content_hash(second) != content_hash(other)
    assert str(tmp_path) not in (first / "results.json").read_text()


@pytest.mark.usefixtures("speakers")
def test_documents_are_drawn_from_all_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = {"licence": "own", "language": "en", "split": "held_out"}
    documents = [Document(id=str(i), text=f"text of {i // 50}", source=f"s{i // 50}", **kept) for i in range(200)]
    records.write(tmp_path / "documents.jsonl", documents)
    read: list[list[str]] = []
    monkeypatch.setattr(evaluate, "bits_per_byte", lambda _, texts: read.append(texts) or 1.0)  # pyright: ignore
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        run(
            tmp_path / name, models=["m/sft"], held_out=held_out(tmp_path / "h"), eval_documents=20, seed=seed,
            documents=tmp_path / "documents.jsonl",
        )  # fmt: skip
    assert read[0] == read[1] != read[2]
    assert [len(texts) for texts in read] == [20, 20, 20]
    assert set(read[0]) == {f"text of {source}" for source in range(4)}


@pytest.mark.usefixtures("speakers")
def test_held_out_documents_and_the_reward_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = {"source": "s", "licence": "own", "language": "en"}
    documents = [Document(id=str(i), text="text", split="held_out" if i % 2 else "train", **kept) for i in range(8)]
    records.write(tmp_path / "documents.jsonl", documents)
    turn = (Message(role="user", content="a?"),)
    pairs = [Comparison(id=str(i), prompt=turn, responses=("a", "b"), ranks=(1, 2), judge="rule") for i in range(10)]
    records.write(tmp_path / "c" / "held_out.jsonl", pairs)
    monkeypatch.setattr(evaluate, "reward_accuracy", lambda _, given: (len(given) - 2, len(given)))  # pyright: ignore
    inputs = {"documents": tmp_path / "documents.jsonl", "reward": Path("m/judge"), "comparisons": tmp_path / "c"}
    found = results(
        run(tmp_path / "marks", models=["m/sft"], held_out=held_out(tmp_path / "h"), eval_documents=3, **inputs)
    )
    assert found["models"][0]["bits_per_byte"] == len("sft") + 3
    assert (found["reward"]["name"], found["reward"]["mean"], found["reward"]["pairs"]) == ("judge", 0.8, 10)
    assert found["reward"]["low"] < 0.8 < found["reward"]["high"]
    records.write(tmp_path / "documents.jsonl", documents[::2])
    with pytest.raises(RecordError, match="no document of the split held_out"):
        run(tmp_path / "more", models=["m/sft"], held_out=tmp_path / "h", **inputs)
    with pytest.raises(SettingsError, match="give both, or neither"):
        run(tmp_path / "less", models=["m/sft"], held_out=tmp_path / "h", reward=Path("m/judge"))


def test_each_model_is_compared_with_the_one_before_it():
    assert opponents(["a", "b", "c"], {}) == {"b": "a", "c": "b"}
    assert opponents(["a", "b", "c", "d"], {"c": "a", "d": "a"}) == {"b": "a", "c": "a", "d": "a"}
    assert opponents(["a"], {}) == {}
    for names, over, message in (
        (["a", "sft"], {"a": "stf"}, "no model is called 'stf': did you mean 'sft'"),
        (["a", "b"], {"d": "a"}, "no model is called 'd'"),
        (["a", "b"], {"b": "b"}, "compared with itself"),
        (["a", "b", "a"], {}, "two are called 'a'"),
        ([], {}, "models: empty"),
    ):
        with pytest.raises(SettingsError, match=message):
            opponents(names, over)


@pytest.mark.usefixtures("speakers")
def test_bad_held_out_files(tmp_path: Path):
    with pytest.raises(RecordError, match=r"held_out\.jsonl: no such file"):
        run(tmp_path / "a", models=["m/sft"], held_out=tmp_path)
    asked = Conversation(id="x", messages=(Message(role="user", content="Why?"),), task="kind")
    records.write(tmp_path / "held_out.jsonl", [asked])
    with pytest.raises(RecordError, match="conversation x: no answer"):
        run(tmp_path / "a", models=["m/sft"], held_out=tmp_path)
    assert not (tmp_path / "a").exists()


def test_real_models(tmp_path: Path):
    """Two random models of our engine: everything is measured, and small models know nothing."""
    from transformers import AutoConfig

    tokenizer.save(tokenizer.learn(["What is `open`? It opens a file. 它打开一个文件。"] * 20, 300), tmp_path / "t")
    chat = Chat.load(tmp_path / "t")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
             "head_dim": 8, "intermediate_size": 16, "vocab_size": len(chat.tokenizer), "eos_token_id": chat.end,
             "pad_token_id": chat.tokenizer.pad_token_id, "max_position_embeddings": 256}  # fmt: skip
    for seed, name in enumerate(("one", "two")):
        checkpoint.save(checkpoint.create(AutoConfig.for_model("qwen3", **shape), seed), chat, tmp_path / name)
    document = Document(id="d", text="文 text", source="s", licence="own", language="en", split="held_out")
    records.write(tmp_path / "documents.jsonl", [document])
    found = results(
        run(tmp_path / "marks", models=[tmp_path / "one", tmp_path / "two"], held_out=held_out(tmp_path / "h", 3),
            documents=tmp_path / "documents.jsonl", max_new_tokens=8, kl_prompts=4)
    )  # fmt: skip
    one, two = found["models"]
    assert one["tokens"] <= 8
    assert one["accuracy"][-1]["mean"] < 0.5
    assert one["bits_per_byte"] > 4  # of 8 for bytes at random; tokens are few and mostly bytes
    assert one["bits_per_byte"] != two["bits_per_byte"]
    (kl,) = found["kl"]
    assert (kl["model"], kl["over"]) == ("two", "one")
    assert kl["low"] <= kl["mean"] <= kl["high"]


def test_what_cannot_be_asked_or_marked_is_told_before_any_answer(
    gpt2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "_examine", lambda *_: pytest.fail("a model was asked"))
    for talk, error, words in (
        (("the cat " * 99, "a cat"), SettingsError, r"a prompt of .* tokens does not fit the context of 64"),
        (("which?", "nothing in quotes"), RecordError, r"conversation c0: task which: reference 'nothing in quotes'"),
    ):
        task = "which" if talk[0] == "which?" else "echo"
        one = Conversation(id="c0", messages=(tiny.user(talk[0]), tiny.assistant(talk[1])), task=task)
        asked = tiny.jsonl(tmp_path / "held_out.jsonl", [one])
        with pytest.raises(error, match=words):
            tiny.run_stage(evaluate, tmp_path / "run", models=(gpt2_folder,), held_out=asked)
    named = Conversation(id="c1", messages=(tiny.user("a?"), tiny.assistant("b")), task="all")
    with pytest.raises(RecordError, match="conversation c1: task 'all'"):
        tiny.run_stage(
            evaluate, tmp_path / "run", models=(gpt2_folder,), held_out=tiny.jsonl(tmp_path / "held_out.jsonl", [named])
        )
