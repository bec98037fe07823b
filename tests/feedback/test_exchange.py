"""Every shape goes out and comes back as the same bytes; what it says of an answer is what was said."""

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from tutelage.errors import RecordError
from tutelage.feedback import exchange
from tutelage.feedback.exchange import SHAPES
from tutelage.feedback.judged import judged
from tutelage.feedback.snapshot import Asked, Candidate, Given, Header, Opinion, Row, line, rows, save, split_of
from tutelage.feedback.tool_shapes import cell
from tutelage.records import Message

QUESTIONS = (
    Asked(key="better", kind="compare", dimension="overall"),
    Asked(key="safer", kind="compare", dimension="harmless"),
    Asked(key="safe", kind="binary", dimension="harmless", per_response=True),
    Asked(key="helpful", kind="scale", dimension="helpful", low=1, high=5, per_response=True),
    Asked(key="ideal", kind="text", dimension="overall"),
)
ORDER = (Asked(key="order", kind="rank", dimension="overall"),)
PROMPT = (
    Message(role="user", content='What is "it"?\n换行'),
    Message(role="assistant", content="It."),
    Message(role="user", content="\u2028 and =1+1?"),
)


def opinion(rater: str, better: float | None, **more) -> Opinion:
    values = [
        Given(question="better", num=better) if better else Given(question="better", text="both_bad"),
        Given(question="safer", num=3.0), Given(question="safe", slot=0, num=1.0),
        Given(question="safe", slot=1, num=0.0), Given(question="helpful", slot=0, num=4.0),
        Given(question="helpful", slot=1, num=2.0), Given(question="ideal", text="=HYPERLINK(1)"),
    ]  # fmt: skip
    return Opinion(id=f"j {rater}", rater=rater, values=tuple(values), seconds=12.5, submitted=1_900_000_000_000_000,
                   shown=(1, 0), guideline=2, **more)  # fmt: skip


def pair(item: str = "I1", **more) -> Row:
    held = {
        "prompt": PROMPT[:1],
        "responses": (Candidate(text="Left."), Candidate(text="右", model="m2")),
        "answers": (opinion("ann", 6.0), opinion("bob", 2.0), opinion("cid", 4.0), opinion("dot", None)),
        "language": "en",
    }
    return Row(item=item, **{**held, **more})


def ranked(**more) -> Row:
    values = [(1, 2, 2), (3, 1, 2)]
    answers = tuple(
        Opinion(
            id=f"k{n}", rater=f"r{n}",
            values=tuple(Given(question="order", slot=s, num=float(v)) for s, v in enumerate(ranks)),
        )
        for n, ranks in enumerate(values)
    )  # fmt: skip
    responses = tuple(Candidate(text=text) for text in ("a", "b", "c"))
    return Row(**{"item": "K", "prompt": PROMPT, "responses": responses, "answers": answers, **more})


def there_and_back(name: str, given: bytes) -> bytes:
    shape = SHAPES[name]
    assert shape.read
    values = json.loads(given) if shape.array else [json.loads(one) for one in given.decode().split("\n") if one]
    back = [shape.read(value, "x") for value in values]
    return b"".join(exchange.export(name, exchange.questions_of(name, values) or QUESTIONS, back))


@pytest.mark.parametrize("name", [name for name, shape in SHAPES.items() if shape.read])
def test_out_and_back_are_the_same_bytes(name) -> None:
    for questions, row in ((QUESTIONS, pair()), (ORDER, ranked())):
        out = b"".join(exchange.export(name, questions, [row, *([pair("I2")] if questions is QUESTIONS else [])]))
        if out not in (b"", b"[\n\n]\n"):
            assert there_and_back(name, out) == out
            assert (
                exchange.sniffed(json.loads(out)[0] if SHAPES[name].array else json.loads(out.splitlines()[0]))
                is (SHAPES[name])
            )


def test_every_shape_says_something_of_a_pair_or_a_ranking() -> None:
    for name in SHAPES:
        out = b"".join(exchange.export(name, QUESTIONS, [pair()])) + b"".join(exchange.export(name, ORDER, [ranked()]))
        assert len(out) > 40, name


def test_what_each_says_is_what_was_said() -> None:
    def lines(name, questions=QUESTIONS, row=None) -> list[dict]:
        return [json.loads(one) for one in b"".join(exchange.export(name, questions, [row or pair()])).splitlines()]

    first, second = lines("preference")
    assert (first["chosen"][0]["content"], first["rejected"][0]["content"], first["rater"]) == ("右", "Left.", "ann")
    assert (second["chosen"][0]["content"], second["strength"]) == ("Left.", 2)
    assert [one["winner"] for one in lines("arena")] == ["model_b", "model_a", "tie", "tie (bothbad)"]
    assert lines("arena")[0]["model_b"] == "m2"
    assert [one["ranks"] for one in lines("ranking")] == [[2, 1], [1, 2], [1, 1], [1, 1]]
    assert lines("reward")[0]["scores"] == {"helpful": 4.0}
    assert lines("reward")[0]["scale"] == {"helpful": [1, 5]}
    assert [(one["better_response_id"], one["safer_response_id"]) for one in lines("safe_rlhf")] == [(1, 0), (0, 0)]
    assert lines("safe_rlhf")[0]["is_response_1_safe"] is False
    assert [one["label"] for one in lines("kto")[:2]] == [True, False]
    assert lines("completion")[0]["completion"][0]["content"] == "=HYPERLINK(1)"
    assert lines("hh")[0]["chosen"] == '\n\nHuman: What is "it"?\n换行\n\nAssistant: 右'
    pairs = lines("preference", ORDER, ranked())
    assert [(one["chosen"][0]["content"], one["rejected"][0]["content"]) for one in pairs] == [
        ("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"),
    ]  # fmt: skip
    tree = lines("open_assistant", ORDER, ranked())[0]
    replies = tree["prompt"]["replies"][0]["replies"][0]["replies"]
    assert [(one["text"], one["rank"]) for one in replies] == [("a", 1), ("b", 0), ("c", 1)]


def test_the_reviewers_word_stands_for_all() -> None:
    row = pair(decided=opinion("rev", 1.0))
    out = [json.loads(one) for one in b"".join(exchange.export("preference", QUESTIONS, [row])).splitlines()]
    assert [(one["rater"], one["strength"], one["chosen"][0]["content"]) for one in out] == [("rev", 3, "Left.")]


def test_a_table_calculates_nothing() -> None:
    text = b"".join(exchange.export("csv", QUESTIONS, [pair()])).decode()
    table = list(csv.DictReader(io.StringIO(text)))
    assert {row["text"] for row in table if row["question"] == "ideal"} == {"'=HYPERLINK(1)"}
    assert {row["slot"] for row in table} == {"-1", "0", "1"}
    for bad in ("=1", "+1a", "-x", "@a", "\tx", "\r=1"):
        assert cell(bad) == "'" + bad
    assert [cell(value) for value in ("-1", "1.5", "a=b", "")] == ["-1", "1.5", "a=b", ""]


def test_unknown_shapes_and_broken_lines_are_refused() -> None:
    with pytest.raises(RecordError, match="one of preference"):
        b"".join(exchange.export("xml", QUESTIONS, []))
    for name, bad in (
        ("preference", {"prompt": "p", "chosen": 3, "rejected": "b"}), ("kto", {"prompt": "p", "completion": "c"}),
        ("hh", {"chosen": "no speaker", "rejected": "x"}), ("arena", {"winner": "me"}),
        ("arena", {"winner": "me", "conversation_a": [{"role": "assistant", "content": "a"}],
                   "conversation_b": [{"role": "assistant", "content": "a"}]}),
        ("safe_rlhf", {"better_response_id": 2}), ("ranking", {"prompt": "p", "responses": ["a", "b"], "ranks": [1]}),
        ("reward", {"prompt": "p", "response": "r", "scores": {"x": "high"}}), ("open_assistant", {"prompt": {}}),
        ("label_studio", {"data": 3}), ("argilla", {"fields": 3}), ("snapshot", {"item": 3}),
        ("preference", {"prompt": [{"role": "x"}], "chosen": "a", "rejected": "b"}),
    ):  # fmt: skip
        with pytest.raises(RecordError, match=r"^spot:3"):
            SHAPES[name].read(bad, "spot:3")


def test_records_keep_who_said_it_and_the_raw_number() -> None:
    found = judged(QUESTIONS, [pair(split="held_out", sampled="uniform", p_select=0.25)])
    assert [(one.rater, one.ranks, one.metadata["score"]) for one in found.comparisons] == [
        ("ann", (2, 1), "6"), ("bob", (1, 2), "2"), ("cid", (1, 1), "4"), ("dot", (1, 1), "both_bad"),
    ]  # fmt: skip
    one = found.comparisons[0]
    assert (one.judge, one.split, one.metadata["harmless"], one.metadata["p_select"]) == (
        "person", "held_out", "3", "0.25",
    )  # fmt: skip
    assert [(one.axis, one.score, one.scale, one.response) for one in found.ratings[:2]] == [
        ("helpful", 4.0, (1, 5), "Left."), ("helpful", 2.0, (1, 5), "右"),
    ]  # fmt: skip
    assert [one.good for one in found.verdicts if one.rater == "ann"] == [True, False]
    assert next(one.answer for one in found.conversations) == "=HYPERLINK(1)"
    assert len({record.id for record in found}) == len(list(found))
    assert judged(QUESTIONS, [pair(gold=True)]).comparisons == []
    told = judged(ORDER, [ranked()]).comparisons
    assert [one.ranks for one in told] == [(1, 2, 2), (3, 1, 2)]
    alone = judged(QUESTIONS, [pair(decided=opinion("rev", 1.0))])
    assert [one.rater for one in alone.comparisons] == ["rev"]
    silent = Opinion(id="x", rater="e", values=(Given(question="better", cannot_tell="equal_values"),))
    assert list(judged(QUESTIONS, [pair(answers=(silent,))])) == []


def test_a_snapshot_is_never_changed(tmp_path: Path) -> None:
    import hashlib

    texts = [line(pair()), line(pair("I2"))]
    head = Header(
        project="P", name="n", questions=QUESTIONS, guidelines={"1": "x"}, query={}, items=2, answers=8, people=4,
        sha256=hashlib.sha256("".join(texts).encode()).hexdigest(),
    )  # fmt: skip
    folder = save(tmp_path / "s", head, texts)
    assert list(rows(folder)) == [pair(), pair("I2")]
    assert [line(row) for row in rows(folder)] == texts
    with pytest.raises(RecordError, match="never changed"):
        save(folder, head, texts)
    with pytest.raises(RecordError, match="nothing is kept"):
        save(tmp_path / "other", head, texts[:1])
    assert not (tmp_path / "other").exists()
    (folder / "rows.jsonl").write_text(texts[0].replace("Left.", "Best."))
    with pytest.raises(RecordError, match="not what it was"):
        next(rows(folder))
    with pytest.raises(RecordError, match="no snapshot"):
        next(rows(tmp_path))


def test_a_prompt_keeps_its_side_for_ever() -> None:
    prompts = [(Message(role="user", content=f"question {n}"),) for n in range(4000)]
    held = [split_of(prompt, 0.1) == "held_out" for prompt in prompts]
    assert 0.08 < sum(held) / len(held) < 0.12
    assert all(split_of(prompt, 0.3) == "held_out" for prompt, out in zip(prompts, held, strict=True) if out)
    assert split_of(prompts[0], 0) == "train"
    assert [n for n in range(36) if held[n]] == [4, 14, 17, 19, 34], "by a hash that does not change"
    system = Message(role="system", content="Be brief.")
    assert split_of((system, *prompts[0]), 0.8) != split_of(prompts[0], 0.8), "what it is told first belongs to it"


def test_all_turns_of_a_conversation_are_on_one_side() -> None:
    for n in range(200):
        first = (Message(role="system", content="Be brief."), Message(role="user", content=f"question {n}"))
        then = (*first, Message(role="assistant", content="An answer."), Message(role="user", content="And then?"))
        assert split_of(then, 0.5) == split_of(first, 0.5)


@pytest.mark.real_data
def test_hh_rlhf_comes_back_as_it_was() -> None:
    file = Path(__file__).parents[3] / "shared/data/preference/hh-rlhf_harmless-base_test.jsonl.gz"
    if not file.exists():
        pytest.skip("needs the shared data folder beside the project")
    same = total = 0
    with gzip.open(file, "rt", encoding="utf-8") as given:
        for text in given:
            value = json.loads(text)
            total += 1
            try:
                row = SHAPES["hh"].read(value, "x")
            except RecordError:
                continue
            same += [json.loads(one) for one in exchange.export("hh", SHAPES["hh"].asked, [row])] == [value]
    assert total > 1000
    assert same / total > 0.98
