from collections.abc import Iterator, Sequence

import pytest

from tutelage.errors import RecordError
from tutelage.evaluation import tasks
from tutelage.evaluation.judge import RuleScore
from tutelage.evaluation.tasks import ALL, Answer, answers, choose, gains, mark, scores, wins
from tutelage.inference.language_model import Reply, Sampling
from tutelage.records import Conversation, Message


def question(number: int, task: str = "kind", answer: str = "`a` is a method.") -> Conversation:
    turns = [Message(role="user", content=f"question {number}")]
    if answer:
        turns.append(Message(role="assistant", content=answer))
    return Conversation(id=f"c{number}", messages=tuple(turns), task=task, split="held_out")


def answer(number: int, response: str, task: str = "kind", stopped: bool = True, tokens: int = 4) -> Answer:
    return Answer(prompt=f"c{number}", task=task, response=response, stopped=stopped, tokens=tokens)


class Parrot:
    """Says the prompt again; is cut at ten tokens."""

    name = "parrot"

    def replies(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Reply]:
        assert sampling.max_new_tokens == 10
        return [
            Reply(
                text=prompt[-1].content,
                finish_reason="length" if "long" in prompt[-1].content else "stop",
                prompt_tokens=3,
                completion_tokens=len(prompt[-1].content),
            )
            for prompt in prompts
        ]

    def reply(self, prompt: Sequence[Message], sampling: Sampling) -> Iterator[str]:
        raise NotImplementedError

    def loglikelihood(self, prompt: Sequence[Message], continuation: str) -> float:
        raise NotImplementedError


def test_answers_are_to_the_prompt_without_the_reference():
    long = Conversation(
        id="x",
        messages=(Message(role="user", content="long 长"), Message(role="assistant", content="secret")),
        task="recall",
    )
    asked = [question(1), long]
    found = answers(asked, Parrot().replies([one.prompt for one in asked], Sampling(max_new_tokens=10)))
    assert found == [
        Answer(prompt="c1", task="kind", response="question 1", stopped=True, tokens=10),
        Answer(prompt="x", task="recall", response="long 长", stopped=False, tokens=6),
    ]


def test_marks_of_each_task_and_of_all():
    asked = [question(i) for i in range(4)] + [question(i, "meaning", "It opens a file.") for i in (4, 5)]
    given = [answer(i, "`a` is a method.") for i in range(3)] + [answer(3, "It is a class.", stopped=False, tokens=64)]
    given += [answer(4, "It opens a file.", "meaning"), answer(5, "Nothing of the kind", "meaning", stopped=False)]
    kind, meaning, everything = mark(given, asked)
    assert (kind.task, meaning.task, everything.task) == ("kind", "meaning", ALL)
    assert (kind.accuracy.mean, kind.accuracy.prompts) == (0.75, 4)
    assert kind.accuracy.low < 0.75 < kind.accuracy.high
    assert meaning.accuracy.mean == pytest.approx(0.5)
    assert everything.accuracy.mean == pytest.approx((3 + 0 + 1 + 0) / 6)
    assert (kind.stopped.mean, everything.stopped.mean) == (0.75, pytest.approx(4 / 6))
    assert (kind.tokens, everything.tokens) == (19, pytest.approx((3 * 4 + 64 + 4 + 4) / 6))


def test_marks_in_chinese():
    asked = [question(1, "meaning", "它打开一个文件。")]
    right, wrong = (
        mark([answer(1, text, "meaning")], asked)[0].accuracy.mean for text in ("它打开一个文件。", "天气晴朗。")
    )
    assert (right, wrong) == (1, 0)


def test_the_rule_sees_whether_an_answer_stopped():
    asked = [question(1), question(2)]
    ended, cut = scores([answer(1, "`a` is a method."), answer(2, "`a` is a method.", stopped=False)], asked)
    assert (ended.total, cut.total) == (4, 3)


def test_wins_are_counted_prompt_by_prompt():
    good, bad = RuleScore(1, 1, 1, 1), RuleScore(0, 1, 1, 1)
    found = wins("sft", ["a", "b", "c", "d"], [good, good, bad, bad], [bad, good, bad, good])
    assert (found.over, found.mean, found.prompts) == ("sft", pytest.approx((1 + 0.5 + 0.5 + 0) / 4), 4)


def test_gains_are_taken_prompt_by_prompt():
    asked = [question(i) for i in range(40)] + [question(i, "meaning", "It opens a file.") for i in range(40, 60)]
    # Half of the prompts are hard for both; of the easy ones the first model misses ten more.
    right = [answer(i, "`a` is a method." if i < 20 else "It is a class.") for i in range(40)]
    worse = [answer(i, "`a` is a method." if i < 10 else "It is a class.") for i in range(40)]
    same = [answer(i, "It opens a file.", "meaning") for i in range(40, 60)]
    kind, meaning, everything = gains("base", [*right, *same], [*worse, *same], asked)
    assert (kind.task, kind.over, kind.mean, kind.prompts) == ("kind", "base", pytest.approx(0.25), 40)
    assert (meaning.mean, everything.mean, everything.prompts) == (0, pytest.approx(10 / 60), 60)
    before, after = mark(worse, asked)[0].accuracy, mark(right, asked)[0].accuracy
    assert 0 < kind.low < 0.25 < kind.high
    assert before.high > after.low  # side by side the two intervals overlap
    (back,) = [gain for gain in gains("sft", worse, right, asked) if gain.task == "kind"]
    assert (back.mean, back.low, back.high) == pytest.approx((-0.25, -kind.high, -kind.low), abs=0.03)


def test_a_gain_on_every_prompt_is_no_certainty():
    asked = [question(i) for i in range(7)]
    good, bad = ([answer(i, text) for i in range(7)] for text in ("`a` is a method.", "It is a class."))
    kind, _ = gains("base", good, bad, asked)
    assert (kind.mean, kind.high) == (1, 1)
    assert 0 < kind.low < 1


def test_a_gain_needs_the_same_prompts():
    asked = [question(1), question(2)]
    with pytest.raises(RecordError, match=r"answer to 'c2': base gave none: ask both the same prompts"):
        gains("base", [answer(1, "a"), answer(2, "a")], [answer(1, "a")], asked)


def test_choosing_is_by_seed_and_id_alone():
    asked = [question(i, task) for i, task in enumerate(["kind", "recall"] * 30)]
    chosen = choose(asked, 7, seed=1)
    assert [c.task for c in chosen] == ["kind"] * 7 + ["recall"] * 7
    assert choose(asked[::-1], 7, seed=1) == chosen
    assert choose(asked, 7, seed=2) != chosen
    assert len(choose(asked, 1000, seed=1)) == 60


def test_a_conversation_without_an_answer():
    with pytest.raises(RecordError, match="conversation c1: no answer"):
        choose([question(1, answer="")], 5, 1)


def test_a_conversation_twice():
    with pytest.raises(RecordError, match="c1: stands twice"):
        choose([question(1), question(1)], 5, 1)


def test_an_answer_to_nothing():
    with pytest.raises(RecordError, match="'c9': no held-out conversation"):
        mark([answer(9, "what")], [question(1)])
    with pytest.raises(RecordError, match="nothing was judged"):
        tasks.mark([], [question(1)])
