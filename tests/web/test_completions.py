import json
import multiprocessing
import resource
import signal
from pathlib import Path

import pytest

from tutelage.errors import RecordError, RunError
from tutelage.inference.language_model import Sampling
from tutelage.records import Message
from tutelage.web import completions
from tutelage.web.completions import AnswersLog, Score, Thumb

ASKED = (Message(role="system", content="short"), Message(role="user", content="什么是 GIL？"))


def test_an_answer_comes_back_as_it_was_kept(tmp_path: Path):
    log = AnswersLog(tmp_path / "runs" / "answers.jsonl", "ppo", "ab12")
    id = completions.new_id()
    log.keep(id, ASKED, "全局解释器锁。", "stop", Sampling(temperature=0.5, seed=3, stop=("x",)))
    log.keep(completions.new_id(), ASKED, "other", "length", Sampling())
    found = log.find(id)
    assert found is not None
    assert (found.model, found.model_hash, found.prompt, found.response) == ("ppo", "ab12", ASKED, "全局解释器锁。")
    assert found.sampling == Sampling(temperature=0.5, seed=3, stop=("x",))
    assert [answer.finish_reason for answer in completions.read_answers(log.path)] == ["stop", "length"]
    line = json.loads(log.path.read_text().splitlines()[0])
    assert line["prompt"] == [{"role": "system", "content": "short"}, {"role": "user", "content": "什么是 GIL？"}]
    assert log.find("chatcmpl-nobody") is None
    assert log.find(id[:-1]) is None


def test_ids_are_fresh():
    ids = {completions.new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(id) == len("chatcmpl-") + 24 and int(id.removeprefix("chatcmpl-"), 16) >= 0 for id in ids)


def test_without_a_path_nothing_is_kept():
    log = AnswersLog(None, "ppo", "")
    log.keep("chatcmpl-1", ASKED, "a", "stop", Sampling())
    assert log.find("chatcmpl-1") is None


def test_a_line_cut_by_a_crash_is_cut_off(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    completions.append(path, {"n": 1})
    with path.open("a") as file:
        file.write('{"n": 2, "half')
    completions.append(path, {"n": 3})
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 3]


def test_a_line_longer_than_a_block_is_whole(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    for _ in range(3):
        completions.append(path, {"text": "长" * 200_000})
    assert [len(json.loads(line)["text"]) for line in path.read_text().splitlines()] == [200_000] * 3


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    completions.append(path, {"n": 1})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(RunError, match=r"answers\.jsonl: cannot be written: File too large"):
            completions.append(path, {"text": "longer than ten bytes"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert path.read_bytes() == before


def _write(path: str, who: int) -> None:
    for number in range(50):
        completions.append(Path(path), {"who": who, "n": number, "text": "x" * 5000})


def test_two_processes_write_one_log(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    writers = [multiprocessing.get_context("spawn").Process(target=_write, args=(str(path), who)) for who in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [[line["n"] for line in lines if line["who"] == who] for who in (0, 1)] == [list(range(50))] * 2


def test_feedback_lies_beside_the_answers(tmp_path: Path):
    answers = tmp_path / "answers.jsonl"
    completions.keep_feedback(answers, Thumb(completion_id="chatcmpl-1", kind="thumb", value="up"))
    completions.keep_feedback(answers, Score(completion_id="chatcmpl-1", kind="score", value=4, axis="helpful"))
    thumb, score = completions.read_feedback(tmp_path / "feedback.jsonl")
    assert isinstance(thumb, Thumb)
    assert thumb.value == "up"
    assert thumb.time.endswith("Z")
    assert isinstance(score, Score)
    assert (score.value, score.scale, score.axis) == (4.0, (1.0, 5.0), "helpful")


def test_a_damaged_line_is_named(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    completions.append(path, {"id": "chatcmpl-1"})
    with pytest.raises(RecordError, match=r"answers\.jsonl:1: not an answer: time"):
        list(completions.read_answers(path))
    feedback = tmp_path / "feedback.jsonl"
    feedback.write_text('{"kind": "shrug"}\n')
    with pytest.raises(RecordError, match=r"feedback\.jsonl:1: not a judgement"):
        list(completions.read_feedback(feedback))


def test_the_log_lies_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "first" / "ppo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert completions.answers_beside(Path("first/ppo")) == tmp_path / "first" / "answers.jsonl"
    monkeypatch.chdir(tmp_path / "first" / "ppo")
    assert completions.answers_beside(Path()) == tmp_path / "first" / "answers.jsonl"
    assert completions.answers_beside(Path("maker/of-a-hub")) == Path("answers.jsonl")
