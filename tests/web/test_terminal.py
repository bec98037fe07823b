import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from parrot import Parrot
from rich.console import Console

from tutelage import records
from tutelage.inference.language_model import Sampling
from tutelage.records import Conversation
from tutelage.web import completions
from tutelage.web.terminal import chat, printable

BANNER = "Welcome to the CLI application, use `clear` to remove the history, use `exit` to exit the application."
PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from parrot import Parrot
from tutelage.inference.language_model import Sampling
from tutelage.web.terminal import chat
chat(Parrot(sleep=float(sys.argv[1])), Sampling())
print("left")
"""


def talk(*lines: str, parrot: Parrot | None = None, **settings: Any) -> str:
    """What is shown when these lines are typed."""
    screen = io.StringIO()
    waiting = list(lines)

    def read(prompt: str) -> str:
        screen.write(prompt)
        if not waiting:
            raise EOFError
        line = waiting.pop(0)
        if line == "^C":
            raise KeyboardInterrupt
        screen.write(line + "\n")
        return line

    sampling = settings.pop("sampling", Sampling())
    chat(parrot or Parrot(), sampling, console=Console(file=screen, width=40), read=read, **settings)
    assert not waiting or lines[-1] == "unread"
    return screen.getvalue()


def test_a_talk_looks_like_this():
    assert talk("hello there", "", "exit") == (
        f"{BANNER}\nUser: hello there\nAssistant: hello there\nUser: \nUser: exit\n"
    )


def test_the_end_of_the_input_leaves():
    assert talk("hi").endswith("Assistant: hi\nUser: \n")


def test_what_was_said_is_remembered_until_it_is_cleared(tmp_path: Path):
    log = tmp_path / "answers.jsonl"
    shown = talk("one", "two", "clear", "three", "clear the table", answers=log, model_hash="feed")
    assert "The history has been removed." in shown
    answers = list(completions.read_answers(log))
    assert [len(answer.prompt) for answer in answers] == [1, 3, 1, 3]
    assert answers[1].prompt[1].content == "one"
    assert answers[0].model_hash == "feed"
    assert answers[0].model == "parrot"


def test_the_system_and_the_temperature_are_set(tmp_path: Path):
    log = tmp_path / "answers.jsonl"
    shown = talk(
        "/system be brief", "a", "/temp 0", "b", "/system", "c", "/temp hot", "/temp nan", "/temp -1", answers=log
    )
    a, b, c = completions.read_answers(log)
    assert a.prompt[0].content == "be brief"
    assert (a.sampling.temperature, b.sampling.temperature, c.sampling.temperature) == (1, 0, 0)
    assert c.prompt[0].role == "user"
    assert shown.count("write a number from 0") == 3


def test_each_answer_is_drawn_anew(tmp_path: Path):
    log = tmp_path / "answers.jsonl"
    shown = talk("/regen", "seed", "/regen", "seed", answers=log, sampling=Sampling(seed=10))
    assert "There is no answer yet." in shown
    answers = list(completions.read_answers(log))
    assert [answer.response for answer in answers] == ["10/0", "11/0", "12/0"]
    assert [len(answer.prompt) for answer in answers] == [1, 1, 3]
    assert answers[2].prompt[1].content == "11/0"


def test_lines_between_quotes_are_one_message_and_never_a_command(tmp_path: Path):
    log = tmp_path / "answers.jsonl"
    talk('"""', "  first", "", "line", '"""', '"""', "exit", '"""', '"""', "/temp 0", '"""', '"""', '"""', answers=log)
    said = [answer.prompt[-1].content for answer in completions.read_answers(log)]
    assert said == ["  first\n\nline", "exit", "/temp 0"]


def test_a_mistyped_command_is_not_sent_to_the_model(tmp_path: Path):
    log = tmp_path / "answers.jsonl"
    shown = talk("/regn", "/quux", "/usr/bin is a path", answers=log)
    assert "did you mean '/regen'?" in shown
    assert "/quux: no such command: known are /help" in shown
    assert [answer.response for answer in completions.read_answers(log)] == ["/usr/bin is a path"]
    assert "/save FILE" in talk("/help")


def test_nothing_that_the_terminal_would_obey_reaches_it():
    everything = "".join(map(chr, range(256)))
    clean = printable(everything)
    assert clean == "\t\n" + "".join(map(chr, (*range(32, 127), *range(160, 256))))
    shown = talk("\x1b]52;c;ZXZpbA==\x07 \x9b2J \x08\rwide 宽字 ok")
    assert "Assistant: ]52;c;ZXZpbA== 2J wide 宽字 ok\n" in shown


def test_a_prompt_too_long_is_told_and_forgotten(tmp_path: Path):
    log = tmp_path / "answers.jsonl"
    shown = talk("word " * 70, "short", answers=log)
    assert "Error: parrot: a prompt of 70 tokens does not fit the context of 64: shorten it\n" in shown
    (answer,) = completions.read_answers(log)
    assert [m.content for m in answer.prompt] == ["short"]


def test_an_empty_answer_is_told_and_forgotten(tmp_path: Path):
    log = tmp_path / "answers.jsonl"
    screen = io.StringIO()
    lines = iter(["hush", "hello", "exit"])

    class Shy(Parrot):
        def reply(self, prompt: Any, sampling: Sampling) -> Any:
            return iter([" "]) if prompt[-1].content == "hush" else super().reply(prompt, sampling)

    chat(Shy(), Sampling(), console=Console(file=screen), read=lambda _: next(lines), answers=log)
    assert screen.getvalue().splitlines()[1:3] == [
        "Assistant:  ", "The model ended without a word, so nothing of this is remembered."
    ]  # fmt: skip
    assert [len(answer.prompt) for answer in completions.read_answers(log)] == [1, 1]


def test_a_talk_is_kept_and_taken_up_again(tmp_path: Path):
    file, log = tmp_path / "talk.jsonl", tmp_path / "answers.jsonl"
    other = tmp_path / "other.txt"
    other.write_text("precious")
    keep = f"/save {file}"
    shown = talk("/save", keep, "/system be kind", "hello", keep, keep, f"/save {other}")
    assert "give a file name" in shown
    assert "nothing to keep yet" in shown
    assert shown.count(f"Kept in {file}.") == 2
    assert f"{other}: is there already" in shown
    assert other.read_text() == "precious"
    (kept,) = records.read(file, Conversation)
    assert [(m.role, m.content) for m in kept.messages] == [
        ("system", "be kind"), ("user", "hello"), ("assistant", "hello")
    ]  # fmt: skip
    assert (kept.judge, kept.rater) == ("model", "parrot")

    shown = talk(f"/load {file}", "again", f"/load {other}", "/load nowhere.jsonl", "/load", answers=log)
    assert "User: hello\nAssistant: hello\n" in shown
    assert f"Error: {other}:1: broken JSON" in shown
    assert "nowhere.jsonl: no such file" in shown
    (answer,) = completions.read_answers(log)
    assert [m.content for m in answer.prompt] == ["be kind", "hello", "hello", "again"]


def test_two_interrupts_leave_and_one_does_not():
    assert talk("^C", "hi", "^C", "^C", "unread").count("Ctrl-C again, or `exit`, leaves.") == 2
    shown = talk('"""', "half a thought", "^C", "exit")
    assert "Assistant" not in shown


def test_a_pipe_is_read_to_its_end():
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, "0"], input="你好\nbad \udcff byte\n".encode("utf-8", "surrogateescape"),
        capture_output=True, timeout=30, env={**os.environ, "PYTHONIOENCODING": "utf-8"}, check=True,
    )  # fmt: skip
    assert result.stdout.decode() == (
        f"{BANNER}\nUser: 你好\nAssistant: 你好\nUser: bad \ufffd byte\nAssistant: bad \ufffd byte\nUser: \nleft\n"
    )
    assert result.stderr == b""


class Terminal:
    """The program on a terminal of its own, with a keyboard that sends signals."""

    def __init__(self, sleep: float) -> None:
        self.ours, theirs = pty.openpty()

        def adopt() -> None:
            os.setsid()
            import fcntl

            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(sleep)], stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=adopt,
            env={**os.environ, "TERM": "xterm", "LANG": "C.UTF-8"},
        )  # fmt: skip
        os.close(theirs)
        self.shown = ""

    def until(self, text: str, after: int = 0) -> None:
        end = time.monotonic() + 20
        while text not in self.shown[after:]:
            assert time.monotonic() < end, self.shown
            if select.select([self.ours], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self.ours, 4096).decode()
                except OSError:
                    break
        assert text in self.shown[after:], self.shown

    def type(self, text: str) -> int:
        mark = len(self.shown)
        os.write(self.ours, text.encode())
        return mark

    def close(self) -> None:
        if self.program.poll() is None:
            self.program.send_signal(signal.SIGKILL)
        self.program.wait(10)
        os.close(self.ours)


@pytest.fixture
def terminal() -> Any:
    opened: list[Terminal] = []

    def open_terminal(sleep: float) -> Terminal:
        opened.append(Terminal(sleep))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Callable[[float], Terminal]):
    screen = terminal(0.05)
    screen.until("User: ")
    screen.type("word " * 50 + "\n")
    screen.until("Assistant: word word")
    mark = screen.type("\x03")
    screen.until("User: ", mark)
    mark = screen.type("still here\n")
    screen.until("Assistant: still here", mark)
    screen.until("User: ", screen.shown.rindex("still here"))
    screen.type("\x04")
    screen.until("left")
    assert screen.program.wait(10) == 0


def test_ctrl_c_twice_leaves_even_from_a_model_that_is_busy(terminal: Callable[[float], Terminal]):
    screen = terminal(5.0)
    screen.until("User: ")
    screen.type("slow\n")
    screen.until("Assistant: ")
    began = time.monotonic()
    screen.type("\x03")
    time.sleep(0.2)
    screen.type("\x03")
    screen.until("left")
    assert screen.program.wait(10) == 0
    assert time.monotonic() - began < 3


def test_the_log_is_json_lines_that_others_can_read(tmp_path: Path):
    log = tmp_path / "answers.jsonl"
    talk("hi", answers=log)
    (line,) = log.read_text().splitlines()
    assert set(json.loads(line)) == {
        "id", "time", "model", "model_hash", "prompt", "response", "finish_reason", "sampling"
    }  # fmt: skip
