"""collect: answers ranked by the rule, votes checked and split by prompt."""

import dataclasses
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny

from tutelage.errors import RecordError, SettingsError
from tutelage.evaluation import judge
from tutelage.feedback import selection, snapshot
from tutelage.feedback.snapshot import Asked, Candidate, Given, Header, Opinion, Row
from tutelage.records import Comparison, Conversation, Message, Rating, Verdict, read
from tutelage.run import read_metrics
from tutelage.stages import collect, reward
from tutelage.stages.collect import agreement, spread
from tutelage.training import rewards

SHORT: dict[str, Any] = {"count": 12, "held_out_count": 5, "responses": 3, "max_new_tokens": 10}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instruct run's two files: two tasks, and held-out questions of their own."""
    folder = tmp_path_factory.mktemp("instruct")
    for name, first in (("conversations.jsonl", 0), ("held_out.jsonl", 100)):
        tiny.jsonl(folder / name, [
            Conversation(
                id=f"q{first + i}", messages=(tiny.user(f"What is {first + i}?"), tiny.assistant("The cat sat.")),
                task="cat" if i % 3 else "dog", documents=(f"doc{i}",), split="held_out" if first else "train",
            )
            for i in range(15)
        ])  # fmt: skip
    return folder


def records(folder: Path) -> tuple[list[Comparison], list[Comparison], list[Verdict]]:
    return (
        list(read(folder / "comparisons.jsonl", Comparison)), list(read(folder / "held_out.jsonl", Comparison)),
        list(read(folder / "verdicts.jsonl", Verdict)),
    )  # fmt: skip


def test_the_rule_ranks_the_models_answers(model_folder: Path, asked: Path, tmp_path: Path) -> None:
    (numbers,) = tiny.run_stage(collect, tmp_path / "votes", model=model_folder, prompts=asked, noise=0.0, **SHORT)
    training, held_out, verdicts = records(tmp_path / "votes")
    questions = {c.id: c for name in ("conversations", "held_out") for c in read(asked / f"{name}.jsonl", Conversation)}
    by_text = {c.messages[0].content: c for c in questions.values()}
    assert len(training) == numbers["comparisons"] <= 12
    assert len(held_out) == numbers["held_out"] <= 5
    for comparison in [*training, *held_out]:
        question = by_text[comparison.prompt[0].content]
        assert comparison.prompt == question.prompt
        assert (comparison.judge, comparison.task, comparison.documents) == ("rule", question.task, question.documents)
        assert comparison.split == question.split == ("train" if comparison in training else "held_out")
        assert len(set(comparison.responses)) == len(comparison.responses)
        assert comparison.metadata["reference"] == "The cat sat."
    # The rule itself, without noise: whether an answer stopped is the only thing that its text does not say.
    for comparison in training:
        scored = [
            {judge.score(comparison, text, stopped).total for stopped in (True, False)} for text in comparison.responses
        ]
        for a, b in comparison.pairs():
            assert max(scored[a]) > min(scored[b])
    assert numbers["good"] == sum(v.good for v in verdicts)
    for verdict in verdicts:
        if verdict.good:
            assert judge.score(verdict, verdict.response).total == 4


def test_the_same_recipe_gives_the_same_votes(model_folder: Path, asked: Path, tmp_path: Path) -> None:
    found: list[list[bytes]] = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        tiny.run_stage(collect, tmp_path / name, model=model_folder, prompts=asked, seed=seed, **SHORT)
        found.append([(tmp_path / name / file).read_bytes() for file in ("comparisons.jsonl", "verdicts.jsonl")])
    assert found[0] == found[1] != found[2]


def test_noise_changes_ranks_but_not_the_held_out(model_folder: Path, asked: Path, tmp_path: Path) -> None:
    found: list[tuple[list[Comparison], list[Comparison], list[Verdict]]] = []
    for noise in (0.0, 1.0):
        tiny.run_stage(collect, tmp_path / str(noise), model=model_folder, prompts=asked, noise=noise, **SHORT)
        found.append(records(tmp_path / str(noise)))
    exact, noisy = found
    assert [c.responses for c in exact[0]] == [c.responses for c in noisy[0]]
    assert [c.ranks for c in exact[0]] != [c.ranks for c in noisy[0]]
    assert exact[1] == noisy[1]
    assert not any(v.good for v in exact[2])  # a random model says nothing right
    assert 0.25 < sum(v.good for v in noisy[2]) / len(noisy[2]) < 0.75


def test_prompts_are_spread_over_the_tasks() -> None:
    found = [Conversation(id=f"{task}{i}", messages=(tiny.user("q"), tiny.assistant("a")), task=task)
             for task, count in (("a", 50), ("b", 5), ("c", 20)) for i in range(count)]  # fmt: skip
    chosen = spread(found, 25, seed=1)
    assert Counter(record.task for record in chosen) == {"a": 10, "b": 5, "c": 10}
    assert len({record.id for record in chosen}) == 25
    assert spread(found, 25, seed=1) == chosen != spread(found, 25, seed=2)
    assert len(spread(found, 1000, seed=1)) == 75
    assert [record.task for record in chosen] != sorted(record.task for record in chosen)


def vote(prompt: str, a: str, b: str, ranks: tuple[int, int] = (1, 2), name: str = "") -> Comparison:
    return Comparison(
        id=name or f"{prompt}{a}{b}", prompt=(tiny.user(prompt),), responses=(a, b), ranks=ranks, judge="person",
        rater="someone",
    )  # fmt: skip


def test_votes_are_split_by_prompt_and_become_verdicts(tmp_path: Path) -> None:
    found = [vote(f"q{i // 2}", f"good {i}", f"bad {i}") for i in range(80)]
    found.append(vote("tie", "x", "y", (1, 1)))
    votes = tiny.jsonl(tmp_path / "votes.jsonl", found)
    tiny.run_stage(collect, tmp_path / "run", judge="votes", votes=votes, held_out_share=0.3)
    training, held_out, verdicts = records(tmp_path / "run")
    assert len(training) + len(held_out) == 81
    assert len({c.prompt for c in held_out}) == 12  # 0.3 of 41
    assert not {c.prompt for c in training} & {c.prompt for c in held_out}
    assert {c.split for c in training} == {"train"}
    assert {c.split for c in held_out} == {"held_out"}
    assert {(c.judge, c.rater) for c in training} == {("person", "someone")}
    assert {v.prompt for v in verdicts} <= {c.prompt for c in training}
    assert all(v.good == v.response.startswith("good") for v in verdicts)
    assert len(verdicts) == 2 * sum(bool(c.pairs()) for c in training)


def test_the_turns_of_a_conversation_fall_on_one_side(tmp_path: Path) -> None:
    found = [vote(f"q{i // 3}", f"good {i}", f"bad {i}") for i in range(60)]
    # The second and third vote of each three are on later turns of the same conversation.
    found = [
        dataclasses.replace(
            one, prompt=one.prompt + (Message(role="assistant", content=f"a{i}"), tiny.user("on")) * (i % 3)
        )
        for i, one in enumerate(found)
    ]
    votes = tiny.jsonl(tmp_path / "votes.jsonl", found)
    tiny.run_stage(collect, tmp_path / "run", judge="votes", votes=votes, held_out_share=0.3)
    training, held_out, verdicts = records(tmp_path / "run")
    assert len(held_out) == 3 * 6
    assert not {c.prompt[0] for c in [*training, *verdicts]} & {c.prompt[0] for c in held_out}


def test_what_was_held_out_stays_so(tmp_path: Path) -> None:
    found = [vote(f"q{i}", "good", "bad") for i in range(6)]
    found[2] = dataclasses.replace(found[2], split="held_out")
    votes = tiny.jsonl(tmp_path / "votes.jsonl", found)
    tiny.run_stage(collect, tmp_path / "run", judge="votes", votes=votes, held_out_share=0)
    training, held_out, _ = records(tmp_path / "run")
    assert [c.prompt[0].content for c in held_out] == ["q2"]
    assert len(training) == 5


def test_agreement_of_judges() -> None:
    found = [vote("q", "a", "b", name="1"), vote("q", "b", "a", (2, 1), name="2"), vote("q", "b", "a", name="3")]
    assert agreement(found) == (1, 3)  # the first two agree, the third with neither
    assert agreement([*found, vote("other", "a", "b")]) == (1, 3)
    assert agreement([vote("q", "a", "b", (1, 1), name="4"), found[0]]) == (0, 0)


def test_agreement_is_told(tmp_path: Path) -> None:
    found = [vote("q", "a", "b", name=str(i)) for i in range(3)]
    votes = tiny.jsonl(tmp_path / "votes.jsonl", found)
    tiny.run_stage(collect, tmp_path / "run", judge="votes", votes=votes, held_out_share=0)
    last = read_metrics(tmp_path / "run")[-1]
    assert (last["agreement"], last["judged_twice"]) == (1.0, 3)


def test_what_is_missing_is_named(model_folder: Path, asked: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="judge: rule needs model and prompts"):
        tiny.run_stage(collect, tmp_path / "run", model=model_folder)
    with pytest.raises(SettingsError, match="judge: votes needs votes"):
        tiny.run_stage(collect, tmp_path / "run", judge="votes")
    with pytest.raises(RecordError, match="no such file"):
        tiny.run_stage(collect, tmp_path / "run", judge="votes", votes=tmp_path / "nowhere.jsonl")
    votes = tiny.jsonl(tmp_path / "votes.jsonl", [vote("q0", "a", "b"), vote("q1", "a", "b")])
    with pytest.raises(RecordError, match=r"votes.jsonl: no comparison is left to train on: lower held_out_share"):
        tiny.run_stage(collect, tmp_path / "run", judge="votes", votes=votes, held_out_share=0.999999)
    assert not (tmp_path / "run.partial").exists()
    assert asked.is_dir()


def test_what_reward_models_disagree_about_is_worth_asking(model_folder: Path, asked: Path, tmp_path: Path) -> None:
    votes = tiny.jsonl(tmp_path / "votes.jsonl", tiny.comparisons(16))
    members = tuple(tmp_path / f"reward{seed}" for seed in (1, 2))
    for seed, folder in enumerate(members):
        tiny.run_stage(
            reward, folder, model=model_folder, comparisons=votes, num_train_epochs=2, learning_rate=0.01, seed=seed
        )
    settings = {"judge": "people", "model": model_folder, "prompts": asked, **SHORT, "count": 9}
    for responses in (2, 3):
        run = tmp_path / f"items{responses}"
        tiny.run_stage(collect, run, rewards=members, **{**settings, "responses": responses})
        items = [json.loads(line) for line in (run / "items.jsonl").read_text().splitlines()]
        assert len({item["worth"] for item in items}) > 1
        item = items[-1]
        prompt = [Message(**turn) for turn in item["prompt"]]
        given = [rewards.of_answers(folder, [(prompt, item["responses"])], 4096)[0] or [] for folder in members]
        assert item["worth"] == pytest.approx(selection.disagreement_of_many(given), abs=1e-6)
    same = (members[0], members[0])
    tiny.run_stage(collect, tmp_path / "same", rewards=same, **{**settings, "responses": 2})
    lines = (tmp_path / "same" / "items.jsonl").read_text().splitlines()
    assert all(json.loads(line)["worth"] == 0 for line in lines)
    with pytest.raises(SettingsError, match="two reward models or more, and judge: people"):
        tiny.run_stage(collect, tmp_path / "one", rewards=members[:1], **settings)


def test_people_get_a_project_and_their_snapshot_is_trained_on(model_folder: Path, asked: Path, tmp_path: Path) -> None:
    (numbers,) = tiny.run_stage(
        collect, tmp_path / "pairs", judge="people", model=model_folder, prompts=asked,
        **{**SHORT, "count": 9, "responses": 2},
    )  # fmt: skip
    made = json.loads((tmp_path / "pairs" / "project.json").read_text())
    assert (made["name"], made["kind"]) == ("pairs", "compare")
    assert [question["kind"] for question in made["questions"]] == ["compare"]
    items = [json.loads(line) for line in (tmp_path / "pairs" / "items.jsonl").read_text().splitlines()]
    assert len(items) == numbers["items"] > 1
    assert all(len(set(item["responses"])) == 2 for item in items)
    assert not (tmp_path / "pairs" / "comparisons.jsonl").exists()
    # People say what they say, and what comes of it is a snapshot.
    questions = (Asked(key="better", kind="compare", dimension="overall"),)
    rows = [
        Row(
            item=f"I{place}", prompt=tuple(Message(**turn) for turn in item["prompt"]),
            responses=tuple(Candidate(text=text) for text in item["responses"]),
            answers=(Opinion(id=f"j{place}", rater="reader 1", values=(Given(question="better", num=6.0),)),),
        )
        for place, item in enumerate(items)
    ]  # fmt: skip
    lines = [snapshot.line(row) for row in rows]
    header = Header(
        project="P", name="pairs", questions=questions, guidelines={}, query={}, items=len(rows), answers=len(rows),
        people=1, sha256=hashlib.sha256("".join(lines).encode()).hexdigest(),
    )  # fmt: skip
    snapshot.save(tmp_path / "people", header, lines)
    tiny.run_stage(collect, tmp_path / "votes", judge="votes", votes=tmp_path / "people", held_out_share=0.3)
    training, held_out, verdicts = records(tmp_path / "votes")
    assert len(training) + len(held_out) == len(rows)
    assert held_out
    assert {(one.judge, one.rater, one.ranks, one.metadata["score"]) for one in training} == {
        ("person", "reader 1", (2, 1), "6")
    }
    assert [one.good for one in verdicts] == [False, True] * len(training)
    (tmp_path / "people" / "rows.jsonl").write_text("")
    with pytest.raises(RecordError, match="not what it was"):
        tiny.run_stage(collect, tmp_path / "again", judge="votes", votes=tmp_path / "people")


def test_scores_and_texts_of_a_snapshot_are_kept(tmp_path: Path) -> None:
    questions = (
        Asked(key="tone", kind="scale", dimension="tone", low=1, high=5, per_response=True),
        Asked(key="ideal", kind="text", dimension="overall"),
    )  # fmt: skip
    rows = [
        Row(
            item=f"I{n}", prompt=(tiny.user(f"q{n}"),), responses=(Candidate(text="a"), Candidate(text="b")),
            answers=(
                Opinion(
                    id=f"j{n}", rater="r", values=(
                        Given(question="tone", slot=0, num=2.0), Given(question="tone", slot=1, num=5.0),
                        Given(question="ideal", text=f"better {n}"),
                    ),
                ),
            ),
        )
        for n in range(8)
    ]  # fmt: skip
    lines = [snapshot.line(row) for row in rows]
    header = Header(
        project="P", name="n", questions=questions, guidelines={}, query={}, items=8, answers=8, people=1,
        sha256=hashlib.sha256("".join(lines).encode()).hexdigest(),
    )  # fmt: skip
    snapshot.save(tmp_path / "people", header, lines)
    tiny.run_stage(collect, tmp_path / "votes", judge="votes", votes=tmp_path / "people", held_out_share=0.25)
    training, held_out, _ = records(tmp_path / "votes")
    assert {one.ranks for one in training} == {(2, 1)}
    ratings = list(read(tmp_path / "votes" / "ratings.jsonl", Rating))
    written = list(read(tmp_path / "votes" / "conversations.jsonl", Conversation))
    assert {(one.axis, one.score, one.scale) for one in ratings} == {("tone", 2.0, (1, 5)), ("tone", 5.0, (1, 5))}
    assert len(written) == len(training) == 8 - len(held_out)
    # What is held out is held out of everything.
    assert not {one.prompt for one in held_out} & {one.prompt for one in [*ratings, *written]}


def test_what_cannot_be_asked_is_told_before_any_answer(
    gpt2_folder: Path, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it stands among what is asked last."""
    monkeypatch.setattr(collect, "_answers", lambda *_: pytest.fail("the model was asked"))
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked" / "conversations.jsonl").write_bytes((asked / "conversations.jsonl").read_bytes())
    long = Conversation(
        id="long", messages=(tiny.user("the cat " * 99), tiny.assistant("a cat.")), task="cat", split="held_out"
    )
    tiny.jsonl(tmp_path / "asked" / "held_out.jsonl", [long])
    with pytest.raises(SettingsError, match=r"does not fit the context of 64: .* ends '.*the cat '"):
        tiny.run_stage(collect, tmp_path / "run", model=gpt2_folder, prompts=tmp_path / "asked", **SHORT)


def test_answers_that_a_reward_model_cannot_read_are_worth_nothing(model_folder: Path, tmp_path: Path) -> None:
    votes = tiny.jsonl(tmp_path / "votes.jsonl", tiny.comparisons(8))
    tiny.run_stage(reward, tmp_path / "reward", model=model_folder, comparisons=votes, num_train_epochs=1)
    question = (tiny.user("the cat?"),)
    found = rewards.of_answers(
        tmp_path / "reward", [(question, ("a", "b")), (question, ("a", "the cat " * 9999))], 4096
    )
    assert found[0] is not None
    assert len(found[0]) == 2
    assert found[1] is None
