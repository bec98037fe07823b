import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage import records
from tutelage.errors import RecordError
from tutelage.instruction import formats
from tutelage.records import Comparison, Conversation, Message, Verdict

USER, SYSTEM = Message(role="user", content="Hi"), Message(role="system", content="Be kind")
HELLO = Message(role="assistant", content="Hello")


@pytest.fixture
def lines(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: object, name: str = "data.jsonl") -> Path:
        file = tmp_path / name
        file.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
        return file

    return write


def said(role: str, content: object) -> dict[str, Any]:
    return {"role": role, "content": content}


def share(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[place % 2], "value": value} for place, value in enumerate(values)]


HI, BYE, SYS = said("user", "Hi"), said("assistant", "Hello"), said("system", "Be kind")
PARTS = [said("user", [{"type": "text", "text": "Hi"}]), said("assistant", [{"type": "text", "value": "Hello"}])]
ADD = (Message(role="user", content="Add\n1"), Message(role="assistant", content="2"))
TWICE = (USER, HELLO, USER, HELLO)

CONVERSATIONS: list[tuple[dict[str, Any], tuple[Message, ...]]] = [
    ({"instruction": "Hi", "output": "Hello"}, (USER, HELLO)),
    ({"instruction": "Hi", "input": "", "output": "Hello", "system": "Be kind"}, (SYSTEM, USER, HELLO)),
    ({"instruction": "Add", "input": "1", "output": "2"}, ADD),
    ({"instruction_zh": "Hi", "input_zh": "", "output_zh": "Hello"}, (USER, HELLO)),
    ({"instruction": "Hi", "output": ["Hello", "Bye"]}, (USER, HELLO)),
    ({"instruction": "Hi", "input": [], "output": "Hello", "history": [["Hi", "Hello"]]}, TWICE),
    ({"conversations": share("Hi", "Hello")}, (USER, HELLO)),
    ({"conversations": share("Hi", "Hello"), "system": "Be kind"}, (SYSTEM, USER, HELLO)),
    ({"conversation": [{"human": "Hi", "assistant": "Hello"}]}, (USER, HELLO)),
    ({"messages": [SYS, HI, BYE]}, (SYSTEM, USER, HELLO)),
    ({"messages": PARTS}, (USER, HELLO)),
    ({"id": 7, "source": "x", "messages": [HI, BYE]}, (USER, HELLO)),
    ({"prompt": "Hi", "completion": "Hello"}, (USER, HELLO)),
    ({"prompt": [HI], "completion": [BYE]}, (USER, HELLO)),
    ({"question": "Hi", "answer": "Hello"}, (USER, HELLO)),
]


@pytest.mark.parametrize(("row", "messages"), CONVERSATIONS)
def test_conversations_of_the_wild_are_recognised(
    row: dict[str, Any], messages: tuple[Message, ...], lines: Any
) -> None:
    found = formats.conversations(lines(row))
    assert [conversation.messages for conversation in found] == [messages]
    assert found[0].judge == "person"
    assert [c.prompt for c in formats.prompts(lines(row))] == [messages[:-1]]


def test_media_are_laid_on_their_marks(lines: Any) -> None:
    turns = [{"role": "user", "content": "<image>a<image>"}, {"role": "assistant", "content": "b"},
             {"role": "user", "content": "<image>"}, {"role": "assistant", "content": "c"}]  # fmt: skip
    found = formats.conversations(lines({"messages": turns, "images": ["1", "2", "3"]}))
    assert [message.images for message in found[0].messages] == [("1", "2"), (), ("3",), ()]
    with pytest.raises(RecordError, match="not as many paths as <image> marks"):
        formats.conversations(lines({"messages": turns, "images": ["1", "2"]}))


HH = "\n\nHuman: Hi\n\nAssistant: {}"
A, B = said("assistant", "A"), said("assistant", "B")
SIDES = {"chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}}
PAIRS: list[dict[str, Any]] = [
    {"prompt": "Hi", "chosen": "A", "rejected": "B"},
    {"prompt": [HI], "chosen": [A], "rejected": [B]},
    {"chosen": [HI, A], "rejected": [HI, B]},
    {"chosen_messages": [HI, A], "rejected_messages": [HI, B]},
    {"prompt": "Hi", "chosen": [HI, A], "rejected": [HI, B]},
    {"instruction": "Hi", "input": "", "chosen": "A", "rejected": "B"},
    {"conversations": share("Hi"), **SIDES},
    {"messages": [HI, A], "rejected_response": "B"},
    {"chosen": HH.format("A"), "rejected": HH.format("B")},
    {"prompt": "Hi", "responses": ["B", "A"], "ranks": [2, 1]},
    {"prompt": "Hi", "completions": ["B", "A"], "ranking": [1, 0]},
    {"instruction": "Hi", "output": ["A", "B"]},
]


@pytest.mark.parametrize("row", PAIRS)
def test_preferences_of_the_wild_are_recognised(row: dict[str, Any], lines: Any) -> None:
    found = formats.comparisons(lines(row), judge="model")[0]
    ((best, worst),) = found.pairs()
    assert (found.prompt, found.responses[best], found.responses[worst], found.judge) == ((USER,), "A", "B", "model")
    assert [c.prompt for c in formats.prompts(lines(row))] == [(USER,)]


def test_a_ranking_of_three_is_places_best_first(lines: Any) -> None:
    found = formats.comparisons(lines({"prompt": "Hi", "responses": ["a", "b", "c"], "ranking": [2, 0, 1]}))[0]
    assert found.ranks == (2, 3, 1)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "completion": "Hello", "label": True},
        {"prompt": "Hi", "completion": "Hello", "label": 1},
        {"messages": [HI, BYE], "label": "true"},
        {"conversations": share("Hi", "Hello"), "kto_tag": True},
    ],
)
def test_verdicts_of_the_wild_are_recognised(row: dict[str, Any], lines: Any) -> None:
    found = formats.verdicts(lines(row))[0]
    assert (found.prompt, found.response, found.good) == ((USER,), "Hello", True)
    prompt = formats.prompts(lines(row))[0]
    assert prompt.messages == (USER,), "a judged answer is no reference"


OWN_CONVERSATION = Conversation(id="a", messages=(USER, HELLO), task="t", metadata={"reference": "Hello"})
OWN_COMPARISON = Comparison(
    id="b", prompt=(USER,), responses=("x", "y", "z"), ranks=(1, 2, 2), judge="person", task="t"
)
OWN_VERDICT = Verdict(id="c", prompt=(USER,), response="x", good=False, judge="rule", metadata={"reference": "r"})


def test_our_own_records_come_back_as_they_were_from_files_and_runs(tmp_path: Path) -> None:
    records.write(tmp_path / "run" / "conversations.jsonl", [OWN_CONVERSATION])
    records.write(tmp_path / "run" / "comparisons.jsonl", [OWN_COMPARISON])
    records.write(tmp_path / "run" / "verdicts.jsonl", [OWN_VERDICT])
    records.write(tmp_path / "run" / "held_out.jsonl", [OWN_CONVERSATION, OWN_CONVERSATION])
    (tmp_path / "run" / "done").write_text("{}")
    assert formats.conversations(tmp_path / "run") == [OWN_CONVERSATION]
    assert formats.comparisons(tmp_path / "run") == [OWN_COMPARISON]
    assert formats.verdicts(tmp_path / "run") == [OWN_VERDICT]
    assert formats.prompts(tmp_path / "run") == [OWN_CONVERSATION]
    assert len(formats.conversations(tmp_path / "run" / "held_out.jsonl")) == 2, (
        "a repeat is no reason to leave one out"
    )
    asked = formats.prompts(tmp_path / "run" / "verdicts.jsonl")[0]
    assert (asked.messages, asked.metadata) == ((USER,), {"reference": "r"})


def test_arrays_archives_and_folders_are_read(tmp_path: Path) -> None:
    rows = [{"prompt": str(n), "completion": "x"} for n in range(3)]
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(rows, indent=2), encoding="utf-8")
    with gzip.open(tmp_path / "b.json.gz", "wt") as file:
        json.dump(rows, file)
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    for name in ("a.json", "b.json.gz", "c.jsonl.gz"):
        assert [c.messages[0].content for c in formats.conversations(tmp_path / name)] == ["0", "1", "2"]
    assert len(formats.conversations(tmp_path)) == 9
    prompts = formats.prompts(tmp_path / "a.json")
    assert prompts[0].answer == "x"


GOOD = {"prompt": "Hi", "completion": "Hello"}
BAD_CONVERSATIONS = [
    ('{"prompt": "Hi", ', r"data.jsonl:2: broken JSON at column"),
    ({"messages": [said("usr", "Hi")]}, r'data.jsonl:2: messages.0: role "usr": write system, user, assistant or tool'),
    ({"id": "1", "messages": [said("usr", "Hi")]}, r'data.jsonl:2: messages.0.role "usr": write system'),
    ({"messages": [HI]}, r"data.jsonl:2: a conversation without an answer"),
    ({"id": "1", "messages": [HI]}, r"data.jsonl:2: a conversation without an answer"),
    ('{"prompt": "Hi", "completion": "x", "score": NaN}', r"data.jsonl:2: score: nan: a finite number"),
    ({"text": "Hi"}, r"data.jsonl:2: no known shape: its keys are text"),
    ({"prompt": "Hi"}, r"data.jsonl:2: no known shape"),
    ([1, 2], r"data.jsonl:2: found \[1, 2\]: an object is wanted"),
    ({"prompt": {"a": 1}, "completion": "x"}, r"data.jsonl:2: prompt: found"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "message"), BAD_CONVERSATIONS)
def test_faults_stop_at_their_line(row: object, message: str, lines: Any) -> None:
    with pytest.raises(RecordError, match=message):
        formats.conversations(lines(GOOD, row), max_dropped=1.0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "Hi", "chosen": "A"}, "no known shape"),
        ({"prompt": "Hi", "responses": ["a", "b"], "ranks": [1]}, "2 whole numbers are wanted"),
        ('{"prompt": "Hi", "responses": ["a", "b"], "ranks": [1, NaN]}', "nan: a finite number"),
        ({"prompt": "Hi", "responses": ["a", "b"], "ranking": [1, 2]}, "places 0 to 1"),
        ({"prompt": "Hi", "responses": ["a", "b"]}, "without ranks"),
        (records.as_json(OWN_COMPARISON) | {"responses": ["x", "x", "z"]}, "identical but ranked differently"),
    ],
)
def test_faults_in_preferences_stop_at_their_line(row: object, message: str, lines: Any) -> None:
    with pytest.raises(RecordError, match=rf"data.jsonl:1: .*{message}"):
        formats.comparisons(lines(row), max_dropped=1.0)


def test_a_label_must_be_one(lines: Any) -> None:
    with pytest.raises(RecordError, match=r"data.jsonl:1: label: found 0.5: write true or false"):
        formats.verdicts(lines({"prompt": "Hi", "completion": "x", "label": 0.5}))
    with pytest.raises(RecordError, match=r"data.jsonl:1: no label"):
        formats.verdicts(lines(GOOD))


def test_rows_that_teach_nothing_are_counted_and_too_many_stop_the_reading(lines: Any) -> None:
    empty, cut = GOOD | {"completion": " "}, {"conversations": share("Hi", "Hello", "Thanks")}
    counts: Counter[str] = Counter()
    found = formats.conversations(lines(*[GOOD] * 198, empty, cut), dropped=counts)
    assert len(found) == 199
    assert counts == {"empty assistant turn": 1, formats.CUT: 1}
    assert found[-1].messages == (USER, HELLO)
    message = (
        r"data.jsonl:97: empty assistant turn: so are 2 of 100 rows, 1 for other reasons: more than 1% would be lost"
    )
    with pytest.raises(RecordError, match=message):
        formats.conversations(lines(*[GOOD] * 96, empty, empty, cut, GOOD))
    assert len(formats.conversations(lines(*[GOOD] * 97, empty, empty, cut), max_dropped=0.03)) == 98
    with pytest.raises(RecordError, match="none of its 1 rows can be used: empty assistant turn"):
        formats.conversations(lines(empty), max_dropped=1.0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Hi", "chosen": "A", "rejected": "A"}, "identical responses"),
        ({"prompt": "Hi", "chosen": "A", "rejected": ""}, "empty response"),
        ({"chosen": HH.format("A"), "rejected": HH.replace("Hi", "Ho").format("B")}, "do not share their prompt"),
        ({"chosen": HH.format("A") + "\n\nHuman: x", "rejected": HH.format("B")}, "not the assistant's"),
    ],
)
def test_preferences_that_teach_nothing_are_named(row: dict[str, Any], reason: str, lines: Any) -> None:
    with pytest.raises(RecordError, match=rf"data.jsonl:1: .*{reason}: so are 1 of 1 rows"):
        formats.comparisons(lines(row))
    good = {"prompt": "Hi", "chosen": "A", "rejected": "B"}
    assert len(formats.comparisons(lines(*[good] * 150, row))) == 150


def test_missing_and_empty_files_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such file or folder"):
        formats.conversations(tmp_path / "nothing.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(RecordError, match=r"empty.jsonl: empty"):
        formats.prompts(tmp_path / "empty.jsonl")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "done").write_text("{}")
    with pytest.raises(RecordError, match=r"holds no comparisons.jsonl"):
        formats.comparisons(tmp_path / "run")
    (tmp_path / "broken.json").write_text('[{"a": 1},\n {"b": ]')
    with pytest.raises(RecordError, match=r"broken.json:2: broken JSON"):
        formats.conversations(tmp_path / "broken.json")
    (tmp_path / "plain.jsonl.gz").write_text("[]")
    with pytest.raises(RecordError, match="not gzip data"):
        formats.conversations(tmp_path / "plain.jsonl.gz")
