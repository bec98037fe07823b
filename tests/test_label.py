"""The verb: the first owner's link, an address at which passwords are safe, and a site that answers."""

import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tutelage.cli import main


def test_the_first_owner_comes_by_a_link_that_is_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    database = tmp_path / "label.db"
    for _ in range(2):
        assert main(["label", "owner", "--database", str(database), "--url", "https://label.example.org"]) == 0
    links = re.findall(r"https://label\.example\.org/invite/([\w-]{43})\n", capsys.readouterr().out)
    assert len(set(links)) == 2
    held = database.read_bytes()
    assert not any(link.encode() in held for link in links)
    assert database.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--url", "label.example.org"], "write it as https://"),
        (["--url", "http://label.example.org"], "in the clear"),
        (["--url", "https://label.example.org/inside"], "write it as https://"),
        (["--host", "0.0.0.0", "--port", "0"], "in the clear"),
        (["--database", "mysql://x"], "postgresql://"),
        (["--database", "no/such/folder/label.db"], "make it first"),
    ],
)
def test_what_would_not_be_safe_is_not_served(more: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    given = ["label", *([] if "--database" in more else ["--database", "label.db"]), *more]
    assert main([*given, *([] if "--port" in more else ["--port", "0"])]) == 2
    assert said in capsys.readouterr().err
    assert not Path("label.db").exists()


def test_it_serves_until_it_is_stopped(tmp_path: Path):
    site = subprocess.Popen(
        [sys.executable, "-m", "tutelage", "label", "--database", str(tmp_path / "label.db"), "--port", "0"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert site.stderr is not None
        line = site.stderr.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url, line
        end = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"{url[0]}/health", timeout=5) as answer:
                    assert answer.status == 200
                    break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)
        with urllib.request.urlopen(url[0], timeout=5) as answer:
            assert answer.url.endswith("/sign-in")
            assert "Sign in" in answer.read().decode()
        site.send_signal(2)
        assert site.wait(20) == 0
        assert "Stopped." in site.stderr.read()
    finally:
        site.kill()
        site.wait()
        if site.stderr:
            site.stderr.close()


def test_a_database_is_looked_after_from_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    database, copy, again = (tmp_path / name for name in ("label.db", "copy.db", "again.db"))
    assert main(["label", "owner", "--database", str(database)]) == 0
    assert main(["label", "backup", str(copy), "--database", str(database)]) == 0
    assert main(["label", "restore", str(copy), "--database", str(again)]) == 0
    assert main(["label", "projects", "--database", str(again)]) == 0
    capsys.readouterr()
    assert main(["label", "verify", "--database", str(again)]) == 0
    assert re.search(r"\d+:[0-9a-f]{64}", capsys.readouterr().out)
    assert main(["label", "backup", str(copy), "--database", str(database)]) == 2
    assert main(["label", "export", "none", "preference", str(tmp_path / "x"), "--database", str(database)]) == 2
