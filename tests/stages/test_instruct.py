import json
import random
from pathlib import Path
from typing import Any

import pytest

from tutelage import records, settings
from tutelage.errors import RecordError, SettingsError
from tutelage.evaluation import judge
from tutelage.instruction import formats
from tutelage.records import Conversation, Document
from tutelage.run import Run, content_hash, read_metrics
from tutelage.stages import instruct
from tutelage.stages.instruct import normalised

NOUNS = (
    "tree",
    "river",
    "table",
    "window",
    "signal",
    "packet",
    "matrix",
    "colour",
    "letter",
    "number",
    "thread",
    "market",
)
VERBS = ("counts", "sorts", "opens", "joins", "prints", "merges", "splits", "writes", "hides", "copies")
MORE = ("It is fast", "It may fail", "It keeps the order", "It never sleeps", "It asks nobody")


def python_document(number: int, split: str) -> Document:
    rng = random.Random(number)
    module, name = f"pack{number % 7}.{split}", f"{rng.choice(VERBS)}_{rng.choice(NOUNS)}_{number}"
    thing = f"{rng.choice(NOUNS)} number {number}"
    body = f"""This function {rng.choice(VERBS)} the {thing} of the list. {rng.choice(MORE)} with the {thing}.

Args:
    first (int): The {rng.choice(NOUNS)} that comes before the {thing} in time. {rng.choice(MORE)}.
    second (str): The {rng.choice(NOUNS)} that comes after the {thing} in time.

Returns:
    The {rng.choice(NOUNS)} of the {thing} as a whole.

Raises:
    {rng.choice(("ValueError", "KeyError", "OSError"))}: If the {thing} is missing from it."""
    metadata = {"kind": "function", "name": f"{module}.{name}", "module": module, "package": f"pack{number % 7}"}
    return Document(
        id=f"{split}{number}", text=f"{module}.{name}(first, second)\n\n{body}", source="pack", licence="MIT",
        language="en", split=split, metadata=metadata | {"signature": "(first, second)"},  # type: ignore[arg-type]
    )  # fmt: skip


def documents() -> list[Document]:
    made = [python_document(n, "train") for n in range(60)] + [python_document(n, "held_out") for n in range(60, 90)]
    # What must not leak: the same docstring under another name, and the same sentence in another docstring.
    twin = made[0]
    renamed = twin.metadata | {"name": "pack9.held_out.twin"}
    body = twin.text.partition("\n")[2]
    made.append(Document(
        id="twin", text=f"pack9.held_out.twin(first, second)\n{body}", source="pack", licence="MIT", language="en",
        split="held_out", metadata=renamed,
    ))  # fmt: skip
    sentence = body.strip().partition(".")[0] + "."
    for split, name in (("held_out", "echo"), ("train", "alone")):
        made.append(Document(
            id=name, text=f"pack9.{split}.{name}()\n\n{sentence} But this goes on for {split} in its own way.",
            source="pack", licence="MIT", language="en", split=split,  # type: ignore[arg-type]
            metadata=renamed | {"name": f"pack9.{split}.{name}"},
        ))  # fmt: skip
    return made


def make(folder: Path, made: list[Document], **recipe: Any) -> Path:
    records.write(folder / "documents.jsonl", made)
    checked = settings.check(instruct.Recipe, {"documents": folder / "documents.jsonl", **recipe}, "instruct")
    with Run.begin(folder / "instruct", "instruct", settings.plain(checked), quiet=True) as run:
        instruct.execute(checked, run)
        run.finish()
    return folder / "instruct"


def read(path: Path) -> list[Conversation]:
    return list(records.read(path, Conversation))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("instruct"), documents(), per_task=40, held_out_per_task=10)


def test_nothing_held_out_was_an_answer_in_training(run: Path) -> None:
    train, held_out = read(run / "conversations.jsonl"), read(run / "held_out.jsonl")
    assert {c.split for c in train} == {"train"}
    assert {c.split for c in held_out} == {"held_out"}
    assert not {d for c in train for d in c.documents} & {d for c in held_out for d in c.documents}
    assert "twin" not in {d for c in held_out for d in c.documents}, "its text is that of a training document"
    answers = {normalised(text) for c in train for text in (c.answer or "", c.metadata["reference"])}
    for conversation in held_out:
        answer = conversation.answer or ""
        assert len(answer) <= 40 or normalised(answer) not in answers
    assert not {c.prompt for c in train} & {c.prompt for c in held_out}
    left_out = read_metrics(run)[0]
    assert left_out["left out/held-out document with the text of a training document"] == 1
    assert left_out["left out/held-out question with an answer or a prompt of training"] >= 1


def test_without_the_filters_there_would_be_leaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruct._Learned, "repeated_by", lambda *_: False)
    run = make(tmp_path, documents(), per_task=40, held_out_per_task=40)
    train = {normalised(c.metadata["reference"]) for c in read(run / "conversations.jsonl")}
    assert train & {normalised(c.answer or "") for c in read(run / "held_out.jsonl") if len(c.answer or "") > 40}


def test_what_training_shows_is_known() -> None:
    def asked(prompt: str, reference: str, answer: str | None = None) -> Conversation:
        turns = (
            records.Message(role="user", content=prompt),
            records.Message(role="assistant", content=answer or reference),
        )
        return Conversation(id=prompt, messages=turns, metadata={"reference": reference})

    long = "A sentence that has more than forty characters."
    learned = instruct._Learned.of([asked("a", long, f"{long} And more."), asked("b", "Short answer.")])
    assert learned.repeated_by(asked("c", f"a sentence  THAT has{long[19:-1]}")), (
        "case, spaces and the full stop are nothing"
    )
    assert learned.repeated_by(asked("a", "Another."))
    assert not learned.repeated_by(asked("c", "Short answer."))
    assert not learned.repeated_by(asked("c", f"{long[:-1]}, or so."))


def test_tasks_are_balanced_and_capped(run: Path) -> None:
    counts = read_metrics(run)[0]
    for task in ("parameter", "returns", "exception", "shorten", "purpose", "which"):
        assert counts[f"train/{task}"] == 40
        assert counts[f"held_out/{task}"] == 10
    assert counts["train/kind"] == 10, "a kind of object takes at most its share, and only functions are here"
    assert counts["train/identity"] >= 20
    assert counts["conversations"] == len(read(run / "conversations.jsonl"))
    assert counts["held_out"] == len(read(run / "held_out.jsonl"))


def test_every_held_out_answer_is_tidy_and_passes_the_rule(run: Path) -> None:
    for conversation in read(run / "held_out.jsonl"):
        assert conversation.metadata["style"] == "tidy"
        assert conversation.answer == conversation.metadata["reference"]
        assert judge.score(conversation, conversation.answer or "").total == 4
        assert judge.accuracy(conversation.task, conversation.answer or "", conversation.metadata["reference"]) == 1.0


def test_training_answers_come_in_both_styles_and_tidy_ones_win(run: Path) -> None:
    train = [c for c in read(run / "conversations.jsonl") if c.task in ("parameter", "returns", "shorten", "purpose")]
    untidy = [c for c in train if c.metadata["style"] == "untidy"]
    assert 0.35 < len(untidy) / len(train) < 0.65
    for conversation in untidy:
        assert judge.score(conversation, conversation.answer or "").total < 4
        assert judge.score(conversation, conversation.metadata["reference"]).total == 4


def test_the_data_are_what_trainers_read_and_samples_show_each_task(run: Path) -> None:
    train = formats.conversations(run)
    assert train == read(run / "conversations.jsonl")
    assert len({c.id for c in train}) == len(train)
    samples = json.loads((run / "samples.json").read_text())
    assert set(samples) == {c.task for c in train}
    assert all(len(examples) == 3 for examples in samples.values())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    runs = [
        make(tmp_path / str(n), documents(), per_task=20, held_out_per_task=5, seed=seed)
        for n, seed in enumerate((1, 1, 2))
    ]
    first, second, third = (content_hash(run) for run in runs)
    assert first == second != third


def test_a_question_with_two_answers_is_dropped(tmp_path: Path) -> None:
    text = "Adds the numbers of {} to the list. It is fast.\n\nArgs:\n    first: The {} number of the list."
    metadata = {"kind": "function", "name": "pack.add", "module": "pack", "package": "pack"}
    made = [
        Document(id=word, text=f"pack.add(first)\n\n{text.format(word, word)}", source="p", licence="MIT",
                 language="en", metadata=metadata)
        for word in ("odd", "even")
    ]  # fmt: skip
    run = make(tmp_path, made, held_out_per_task=0)
    tasks = {c.task for c in read(run / "conversations.jsonl")}
    assert "purpose" not in tasks, "two documents explain pack.add"
    assert "parameter" in tasks
    assert not (run / "held_out.jsonl").exists()


CHINESE = "第{0}天，孩子们在村子的第{0}口水井打水。老奶奶在第{0}棵树下唱歌。从来没有人在第{0}天迟到过。"


def test_a_chinese_folder_gives_three_reading_tasks_and_a_name(tmp_path: Path) -> None:
    made = [
        Document(id=str(n), text=CHINESE.format(n), source="file", licence="unknown", language="zh",
                 split="held_out" if n > 30 else "train")
        for n in range(40)
    ]  # fmt: skip
    run = make(tmp_path, made, name="小师", author="村里人")
    train = read(run / "conversations.jsonl")
    assert {c.task for c in train} == {"shorten", "quote", "follows", "identity"}
    assert {c.task for c in read(run / "held_out.jsonl")} == {"shorten", "quote", "follows"}
    assert any(c.answer == "我是小师，由村里人训练的一个小语言模型。" for c in train)
    assert {c.metadata["language"] for c in train} == {"zh"}


def test_what_cannot_work_is_said_before_anything_is_written(tmp_path: Path) -> None:
    made = documents()
    with pytest.raises(
        RecordError, match="none of the 0 held-out documents gives a question: prepare with more held out"
    ):
        make(tmp_path / "a", [d for d in made if d.split == "train"])
    with pytest.raises(RecordError, match="none of the 0 training documents gives a question"):
        make(tmp_path / "b", [d for d in made if d.split == "held_out"])
    for folder in ("a", "b"):
        assert not (tmp_path / folder / "instruct").exists()
        assert not list((tmp_path / folder / "instruct.partial").glob("*conversations*"))
    with pytest.raises(RecordError, match="no such file"):
        instruct.execute(instruct.Recipe(documents=tmp_path / "none"), Run(tmp_path / "c", "instruct", {}, [], True))
    with pytest.raises(SettingsError, match="untidy"):
        settings.check(instruct.Recipe, {"documents": tmp_path, "untidy": 1.5}, "instruct")
