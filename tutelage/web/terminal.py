"""A chat in the terminal, or through a pipe.

What a model says could be anything, also commands to the terminal: control characters are taken out before they are
shown. Ctrl-C is heard between two pieces of an answer, never in the middle of the model's arithmetic.
"""

from __future__ import annotations

import contextlib
import io
import math
import signal
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Literal

from rich.console import Console

from tutelage import records
from tutelage.errors import TutelageError
from tutelage.inference.language_model import LanguageModel, Reply, Sampling
from tutelage.records import Conversation, Message
from tutelage.settings import nearest
from tutelage.web.completions import AnswersLog, new_id

BANNER = "Welcome to the CLI application, use `clear` to remove the history, use `exit` to exit the application."
QUOTES = '"""'
HELP = """\
clear          remove the history
exit           leave (also Ctrl-D)
Ctrl-C         stop the answer; twice, leave
\"\"\"            a line of three quotes begins and ends a message of several lines
/regen         answer the last message again
/system TEXT   what the model is told first; without TEXT, nothing
/temp X        the temperature: 0 takes the likeliest word, 1 draws as the model means it
/save FILE     keep this conversation, as a line of JSON that `sft` can learn from
/load FILE     go on with a conversation that was kept
/help          this list"""

# C0 but newline and tab, DEL, and C1: what a terminal would obey rather than show.
_CONTROLS = {code: None for code in (*range(32), 127, *range(128, 160)) if code not in (9, 10)}


def chat(
    model: LanguageModel,
    sampling: Sampling,
    *,
    console: Console | None = None,
    read: Callable[[str], str] | None = None,
    answers: Path | None = None,
    model_hash: str = "",
) -> None:
    """Talks until `exit` or the end of the input.

    Args:
        console: where it is shown; the standard output if None.
        read: gives the next line for a prompt, and raises EOFError at the end; the standard input if None.
        answers: the log to which every answer is added; None keeps none.
        model_hash: the content hash of the model's folder, for the log.
    """
    log = AnswersLog(answers, model.name, model_hash)
    _Chat(model, sampling, console or _screen(), read or _read, log).run()


def printable(text: str) -> str:
    """The text without control characters, but with its newlines and tabs."""
    return text.translate(_CONTROLS)


class _Chat:
    """A conversation and its settings."""

    def __init__(
        self, model: LanguageModel, sampling: Sampling, console: Console, read: Callable[[str], str], log: AnswersLog
    ) -> None:
        self.model = model
        self.sampling = sampling
        self.console = console
        self.read = read
        self.log = log
        self.system = ""
        self.turns: list[Message] = []
        self.saved: set[Path] = set()
        self.answered = 0
        self.interrupts = 0

    def run(self) -> None:
        self.say(BANNER)
        while True:
            try:
                text, quoted = self.message()
                self.interrupts = 0
                if text == "exit" and not quoted:
                    return
                if quoted and text:
                    self.ask(text)
                elif text:
                    self.obey(text)
            except EOFError:
                self.say("")
                return
            except KeyboardInterrupt:
                self.interrupts += 1
                self.say("")
                if self.interrupts > 1:
                    return
                self.say("Ctrl-C again, or `exit`, leaves.")
            except TutelageError as error:
                self.say(f"Error: {error}")

    def message(self) -> tuple[str, bool]:
        """What the user wrote, "" if nothing, and whether it stood between quotes: then it is never a command."""
        line = self.read("User: ")
        if line.strip() != QUOTES:
            return line.strip(), False
        lines: list[str] = []
        while (line := self.read("... ")).strip() != QUOTES:
            lines.append(line)
        text = "\n".join(lines)
        return (text if text.strip() else ""), True

    def obey(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        rest = rest.strip()
        match word:
            case "clear" if not rest:
                self.turns.clear()
                self.say("The history has been removed.")
            case "/help":
                self.say(HELP)
            case "/regen":
                self.again()
            case "/system":
                self.system = rest
                self.say("The model is told this first." if rest else "The model is told nothing first.")
            case "/temp":
                self.warm(rest)
            case "/save":
                self.save(rest)
            case "/load":
                self.load(rest)
            case _ if word.startswith("/") and word[1:].isalpha():
                known = ["/help", "/regen", "/system", "/temp", "/save", "/load"]
                self.say(f"{word}: no such command: {nearest(word, known)}")
            case _:
                self.ask(text)

    def ask(self, text: str) -> None:
        """Says it to the model and shows the answer. What the model refuses is not kept."""
        self.turns.append(Message(role="user", content=text.encode("utf-8", "replace").decode()))
        kept = False
        try:
            kept = self.answer()
        finally:
            if not kept:
                self.turns.pop()

    def again(self) -> None:
        if not self.turns:
            self.say("There is no answer yet.")
            return
        last = self.turns.pop()
        kept = False
        try:
            kept = self.answer()
        finally:
            if not kept:
                self.turns.append(last)

    def answer(self) -> bool:
        """Streams one answer; whether there is one. The next one is drawn with the next seed."""
        sampling = replace(self.sampling, seed=self.sampling.seed + self.answered)
        prompt = self.prompt()
        said: list[str] = []
        reason: Literal["stop", "length", "cancelled"] = "cancelled"
        with _stop_between_pieces() as stopped:
            self.show("Assistant: ")
            try:
                pieces = self.model.reply(prompt, sampling)
                while not stopped.is_set():
                    try:
                        piece = next(pieces)
                    except StopIteration as end:
                        # A generator may return the Reply, which knows how it ended.
                        reason = end.value.finish_reason if isinstance(end.value, Reply) else "stop"
                        break
                    said.append(piece)
                    self.show(piece)
            finally:
                self.interrupts = int(stopped.is_set())
                self.say("")
        self.answered += 1
        text = "".join(said)
        self.log.keep(new_id(), prompt, text, reason, sampling)
        if text.strip():
            self.turns.append(Message(role="assistant", content=text))
        elif reason != "cancelled":
            self.say("The model ended without a word, so nothing of this is remembered.")
        return bool(text.strip())

    def prompt(self) -> tuple[Message, ...]:
        system = [Message(role="system", content=self.system)] if self.system else []
        return (*system, *self.turns)

    def warm(self, text: str) -> None:
        try:
            temperature = float(text)
        except ValueError:
            temperature = -1.0
        if not (math.isfinite(temperature) and temperature >= 0):
            self.say(f"/temp {text}: write a number from 0, such as /temp 0.7")
            return
        self.sampling = replace(self.sampling, temperature=temperature)
        self.say(f"The temperature is {temperature:g}.")

    def save(self, name: str) -> None:
        path = Path(name).expanduser()
        if not name or not self.turns:
            self.say("/save: give a file name: /save talk.jsonl" if not name else "There is nothing to keep yet.")
        elif path.exists() and path.resolve() not in self.saved:
            self.say(f"{path}: is there already: choose another name")
        else:
            talk = Conversation(
                id=records.identify(*self.prompt()), messages=self.prompt(), judge="model", rater=self.model.name
            )
            try:
                records.write(path, [talk])
            except OSError as error:
                self.say(f"{path}: cannot be written: {error.strerror}")
                return
            self.saved.add(path.resolve())
            self.say(f"Kept in {path}.")

    def load(self, name: str) -> None:
        if not name:
            self.say("/load: give a file name: /load talk.jsonl")
            return
        path = Path(name).expanduser()
        try:
            talk = next(records.read(path, Conversation))
        except OSError as error:
            self.say(f"{path}: cannot be read: {error.strerror}")
            return
        first = talk.messages[0]
        self.system = first.content if first.role == "system" else ""
        self.turns = [turn for turn in talk.messages if turn is not first or first.role != "system"]
        self.saved.add(path.resolve())
        for turn in self.turns:
            self.say(f"{turn.role.capitalize()}: {turn.content}")

    def say(self, text: str) -> None:
        """A line of the program's own, or the end of one."""
        self.show(text + "\n")

    def show(self, text: str) -> None:
        """Text as it is: no markup, no wrapping, nothing that the terminal would obey."""
        self.console.file.write(printable(text))
        self.console.file.flush()


@contextlib.contextmanager
def _stop_between_pieces() -> Generator[threading.Event]:
    """Turns the first Ctrl-C into a flag, and the second into KeyboardInterrupt."""
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def _screen() -> Console:
    """The standard output. What it cannot encode is shown as a question mark."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    return Console(highlight=False)


def _read(prompt: str) -> str:
    """The next line of the standard input. From a pipe, it is shown as if it had been typed."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        # Gives `input` editing, history and the width of Chinese characters.
        import readline  # noqa: F401 # pyright: ignore[reportUnusedImport]

        return input(prompt)
    sys.stdout.write(prompt)
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    line = line.rstrip("\r\n")
    sys.stdout.write(printable(line) + "\n")
    return line
