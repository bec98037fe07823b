"""A LanguageModel for tests, and a server around it on a loopback port."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Generator, Sequence

import uvicorn

from tutelage.errors import SettingsError
from tutelage.inference.language_model import Reply, Sampling
from tutelage.records import Message


class Parrot:
    """Repeats the last message, a word at a time. The context holds so many words; a sleep stands for work.

    The message "seed" is answered with the seed and the row in the batch, which decide how an answer is drawn.
    """

    def __init__(self, name: str = "parrot", context: int = 64, sleep: float = 0.0) -> None:
        self.name = name
        self.context = context
        self.sleep = sleep
        self.batches: list[int] = []
        self.closed = 0
        self.threads: set[str] = set()

    def replies(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Reply]:
        self.batches.append(len(prompts))
        answers: list[Reply] = []
        for row, prompt in enumerate(prompts):
            pieces = self._pieces(prompt, sampling, row)
            while True:
                try:
                    next(pieces)
                except StopIteration as end:
                    answers.append(end.value)
                    break
        return answers

    def reply(self, prompt: Sequence[Message], sampling: Sampling) -> Generator[str, None, Reply]:
        try:
            return (yield from self._pieces(prompt, sampling))
        finally:
            self.closed += 1

    def loglikelihood(self, prompt: Sequence[Message], continuation: str) -> float:
        return -float(len(continuation.split()) + len(prompt))

    def _pieces(self, prompt: Sequence[Message], sampling: Sampling, row: int = 0) -> Generator[str, None, Reply]:
        self.threads.add(threading.current_thread().name)
        read = sum(len(message.content.split()) for message in prompt)
        if read > self.context:
            raise SettingsError(
                f"{self.name}: a prompt of {read} tokens does not fit the context of {self.context}: shorten it"
            )
        text = f"{sampling.seed}/{row}" if prompt[-1].content == "seed" else prompt[-1].content
        words = text.split(" ")
        said: list[str] = []
        for place, word in enumerate(words[: sampling.max_new_tokens]):
            time.sleep(self.sleep)
            piece = word if place == 0 else " " + word
            cut = [piece.index(stop) for stop in sampling.stop if stop in piece]
            if cut:
                said.append(piece[: min(cut)])
                yield said[-1]
                return self._reply(said, "stop", read)
            said.append(piece)
            yield piece
        return self._reply(said, "length" if len(words) > sampling.max_new_tokens else "stop", read)

    def _reply(self, said: list[str], reason: str, read: int) -> Reply:
        return Reply(text="".join(said), finish_reason=reason, prompt_tokens=read, completion_tokens=len(said))  # type: ignore[arg-type]


@contextlib.contextmanager
def served(app: object) -> Generator[str]:
    """The app on a free loopback port; gives its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2)  # type: ignore[arg-type]
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
