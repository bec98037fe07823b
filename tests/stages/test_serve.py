import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from tutelage import settings
from tutelage.errors import SettingsError
from tutelage.stages import serve

WEB_TESTS = Path(__file__).parents[1] / "web"

# The engine needs weights; how a model is served does not depend on which.
PROGRAM = f"""
import sys, types
from pathlib import Path
sys.path.insert(0, {str(WEB_TESTS)!r})
from parrot import Parrot

class Engine:
    @staticmethod
    def load(path):
        return Parrot(Path(path).name, sleep=0.15)

module = types.ModuleType("tutelage.inference.engine")
module.Engine = Engine
sys.modules[module.__name__] = module
from tutelage.stages import serve
from tutelage.run import Run
model, how = Path(sys.argv[1]), sys.argv[2]
if how == "run":
    recipe = serve.Recipe(model=model, port=0)
    with Run.begin(model.parent / "service", "serve", {{"model": str(model)}}) as run:
        serve.execute(recipe, run)
        run.finish()
else:
    serve.serve(model, "127.0.0.1", 0, None)
"""


class Service:
    """The stage in a process of its own."""

    def __init__(self, model: Path, how: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(model), how], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        assert self.process.stderr
        line = self.process.stderr.readline()
        assert "answers at http://127.0.0.1:" in line, line + self.process.stderr.read()
        self.url = line.split(" at ")[1].strip().rstrip("/")

    def ask(self, text: str, **more: object) -> bytes:
        body = {"messages": [{"role": "user", "content": text}], **more}
        request = urllib.request.Request(
            f"{self.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.read()

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGINT)
        _, words = self.process.communicate(timeout=20)
        return self.process.returncode, words


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "first" / "ppo"
    folder.mkdir(parents=True)
    (folder / "done").write_text('{"stage": "ppo", "hash": "abc123", "files": {}}')
    return folder


def test_a_run_serves_until_it_is_stopped_and_keeps_the_answers(model: Path):
    service = Service(model, "run")
    assert json.loads(service.ask("hello"))["choices"][0]["message"]["content"] == "hello"
    code, words = service.stop()
    assert code == 0, words
    assert "Stopped." in words
    assert "Traceback" not in words
    answer = json.loads((model.parent / "answers.jsonl").read_text())
    assert (answer["model"], answer["model_hash"], answer["response"]) == ("ppo", "abc123", "hello")
    assert (model.parent / "service" / "done").exists()
    assert "answers at" in (model.parent / "service" / "log.txt").read_text()


def test_it_stops_in_the_middle_of_an_answer_and_keeps_what_had_come(model: Path):
    service = Service(model, "run")
    heard: list[bytes] = []

    def read() -> None:
        try:
            heard.append(service.ask("word " * 60, stream=True))
        except (OSError, http.client.HTTPException) as error:
            heard.append(repr(error).encode())

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(1)
    code, words = service.stop()
    reader.join()
    assert code == 0, words
    answer = json.loads((model.parent / "answers.jsonl").read_text())
    assert answer["finish_reason"] == "cancelled"
    assert answer["response"].startswith("word word")


def test_without_a_log_nothing_is_kept(model: Path):
    service = Service(model, "direct")
    service.ask("hello")
    assert service.stop()[0] == 0
    assert sorted(path.name for path in model.parent.iterdir()) == ["ppo"]


def test_a_busy_port_is_told_before_the_model_is_loaded(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {port} on 127\.0\.0\.1: another program .*another --port"):
            serve.serve(tmp_path / "nowhere", "127.0.0.1", port, None)


def test_an_address_that_is_not_ours_is_told():
    with pytest.raises(SettingsError, match=r"is this an address of this machine"):
        serve.listen("192.0.2.1", 0)
    with pytest.raises(SettingsError, match=r"host 'no such host'"):
        serve.listen("no such host", 0)


def test_a_port_that_was_just_given_up_can_be_taken_again():
    with serve.listen("127.0.0.1", 0) as listening:
        address = listening.getsockname()
        client = socket.create_connection(address)
        server, _ = listening.accept()
        server.close()
        client.close()
    serve.listen(*address).close()


def test_the_recipe():
    recipe = settings.check(serve.Recipe, {"model": "runs/first/ppo", "port": 8001}, "course.yaml: serve")
    assert recipe == serve.Recipe(model=Path("runs/first/ppo"), port=8001)
    assert settings.inputs(serve.Recipe)["model"].kind == "model"
    with pytest.raises(SettingsError, match="port"):
        settings.check(serve.Recipe, {"model": "m", "port": 70000}, "course.yaml: serve")
    assert (serve.__doc__ or "").splitlines()[0] == "a model -> an API and a chat page, for as long as it runs"
