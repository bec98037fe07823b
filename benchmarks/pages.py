"""How well and how fast the main text of web pages is found, beside trafilatura and resiliparse.

    python benchmarks/pages.py [--pages FOLDER]

The pages are those of trafilatura's own tests, with the sentences that must and must not be in the result. They are
taken from its source distribution 1.0.0, which is fetched from PyPI unless FOLDER holds it unpacked. What trafilatura
finds only among readers' comments is not asked for.

Seconds are those of the process, each the best of three rounds in turn.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tutelage.corpus.encodings import decode_page
from tutelage.corpus.html import main_text

VERSION = "1.0.0"
ROUNDS = 3


@dataclass
class Page:
    """A page, and what must and must not be found in it."""

    text: str
    wanted: list[str] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, help="the unpacked source distribution of trafilatura 1.0.0")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        pages = read(args.pages or fetch(Path(scratch)))
    ways = {"tutelage": main_text, **peers(pages)}
    size = sum(len(page.text.encode()) for page in pages)
    best = dict.fromkeys(ways, float("inf"))
    found: dict[str, list[str]] = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.process_time()
            found[name] = [way(page.text) for page in pages]
            best[name] = min(best[name], time.process_time() - start)
    print(f"{len(pages)} pages, {size / 1e6:.1f} MB")
    print(f"{'':18} {'F1':>5} {'unwanted kept':>14} {'wanted missed':>14} {'MB/s':>6} {'pages/s':>8}")
    for name in ways:
        print(f"{name:18} {score(pages, found[name])} {size / 1e6 / best[name]:6.1f} {len(pages) / best[name]:8.0f}")


def fetch(scratch: Path) -> Path:
    """The source distribution, unpacked."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*command, "--dest", str(scratch), f"trafilatura=={VERSION}"], check=True)
    with tarfile.open(scratch / f"trafilatura-{VERSION}.tar.gz") as packed:
        packed.extractall(scratch, filter="data")
    return scratch / f"trafilatura-{VERSION}"


def read(folder: Path) -> list[Page]:
    """The pages that `tests/realworld_tests.py` asserts something about. The file is read, never run."""
    tree = ast.parse((folder / "tests" / "realworld_tests.py").read_text(encoding="utf-8"))
    files = next(
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Dict)
        and "MOCK_PAGES" in ast.unparse(node.targets)
    )
    pages: dict[str, Page] = {}
    address = ""
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.Assert)]
    for node in sorted(statements, key=lambda one: one.lineno):
        if isinstance(node, ast.Assign):
            if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "load_mock_page":
                address = ast.literal_eval(node.value.args[0])
        elif address in files:
            if address not in pages:
                pages[address] = Page(decode_page((folder / "tests" / "cache" / files[address]).read_bytes()).text)
            for words, there in asserted(node.test):
                kept = pages[address].wanted if there else pages[address].unwanted
                if words not in kept:
                    kept.append(words)
    return list(pages.values())


def asserted(test: ast.expr) -> Iterator[tuple[str, bool]]:
    """(words, whether they must be there) in an assertion; alternatives are left out."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        for value in test.values:
            yield from asserted(value)
    elif isinstance(test, ast.Compare) and isinstance(test.left, ast.Constant):
        yield str(test.left.value), isinstance(test.ops[0], ast.In)


def peers(pages: list[Page]) -> dict[str, Callable[[str], str]]:
    """The libraries that are installed, each as a function."""
    found: dict[str, Callable[[str], str]] = {}
    if importlib.util.find_spec("trafilatura"):
        import trafilatura

        def extract(page: str, fast: bool = False, comments: bool = False) -> str:
            return trafilatura.extract(page, include_comments=comments, fast=fast) or ""

        for page in pages:
            with_comments, without = plain(extract(page.text, comments=True)), plain(extract(page.text))
            page.wanted = [
                words for words in page.wanted if plain(words) not in with_comments or plain(words) in without
            ]
        found["trafilatura"] = extract
        found["trafilatura fast"] = lambda page: extract(page, fast=True)
    if importlib.util.find_spec("resiliparse"):
        from resiliparse.extract.html2text import extract_plain_text

        found["resiliparse main"] = lambda page: extract_plain_text(page, main_content=True, alt_texts=False)
    return found


def plain(text: str) -> str:
    """Without marks of inline code, and with one space between words."""
    return " ".join(text.replace("`", "").split())


def score(pages: list[Page], found: list[str]) -> str:
    wanted = [plain(words) in plain(text) for page, text in zip(pages, found, strict=True) for words in page.wanted]
    kept = [plain(words) in plain(text) for page, text in zip(pages, found, strict=True) for words in page.unwanted]
    precision, recall = sum(wanted) / max(1, sum(wanted) + sum(kept)), sum(wanted) / max(1, len(wanted))
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    missed = len(wanted) - sum(wanted)
    return f"{f1:5.3f} {f'{sum(kept)} of {len(kept)}':>14} {f'{missed} of {len(wanted)}':>14}"


if __name__ == "__main__":
    main()
