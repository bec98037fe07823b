"""Stages small enough to see through: words, a "model" that counts them, votes on it. No torch."""

import sys
import textwrap
from pathlib import Path

import pytest

import tutelage.stages
from tutelage import catalogue
from tutelage import course as courses
from tutelage.course import Course

COURSE = """\
stages:
  gather: {count: 4}
  talk: {documents: gather}
  base: {stage: learn, documents: gather}
  sft: {stage: learn, model: base, conversations: talk, learning_rate: 0.01}
  vote: {models: [sft]}
"""

STAGES = {
    "gather": '''
        """files -> documents, the toy way"""
        from dataclasses import dataclass
        from typing import Annotated
        from pathlib import Path
        from pydantic import Field
        from tutelage.records import Document, identify
        from tutelage.settings import Input
        import json, pyarrow, pyarrow.parquet
        MAKES = "documents"
        @dataclass(frozen=True, kw_only=True)
        class Recipe:
            """What is gathered."""
            sources: Annotated[tuple[str, ...], Input("files")] = ("words",)
            """Files, or words."""
            count: Annotated[int, Field(gt=0)] = 3
            """How many."""
            seed: int = 1
            """Of the words."""
        def execute(recipe, run):
            rows = [{"id": identify("doc", i, recipe.seed), "text": f"document {i} of {recipe.seed}", "source": "toy",
                     "licence": "CC0-1.0", "language": "en", "split": "train" if i else "held_out",
                     "metadata": json.dumps({"name": f"toy.d{i}"})} for i in range(recipe.count)]
            for source in recipe.sources:
                if Path(source).exists():
                    rows[-1]["text"] += " " + Path(source).read_text()
            refused = {"id": identify("refused", recipe.seed), "rule": "short", "reason": "2 characters",
                       "source": "toy", "licence": "CC0-1.0"}
            for name, table in (("documents", rows), ("refused", [refused])):
                (run.folder / name).mkdir()
                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), run.folder / name / "0.parquet")
            run.note("gathered")
    ''',
    "talk": '''
        """documents -> conversations, the toy way"""
        from dataclasses import dataclass
        from pathlib import Path
        from typing import Annotated
        from tutelage import records
        from tutelage.settings import Input
        MAKES = "conversations"
        @dataclass(frozen=True, kw_only=True)
        class Recipe:
            documents: Annotated[Path, Input("documents")]
            """What is talked about."""
            seed: int = 1
        def execute(recipe, run):
            found = {"train": [], "held_out": []}
            for d in records.read(recipe.documents, records.Document):
                found[d.split].append(records.Conversation(
                    id=records.identify("talk", d.id), documents=(d.id,), split=d.split, task="echo", messages=(
                    records.Message(role="user", content=f"What does {d.metadata['name']} say?"),
                    records.Message(role="assistant", content=d.text))))
            records.write(run.folder / "conversations.jsonl", found["train"])
            records.write(run.folder / "held_out.jsonl", found["held_out"])
    ''',
    "learn": '''
        """documents or conversations -> model, the toy way"""
        from dataclasses import dataclass, field
        from pathlib import Path
        from typing import Annotated, Literal
        from pydantic import Field
        from tutelage.settings import Input
        from tutelage.run import content_hash
        MAKES = "model"
        @dataclass(frozen=True, kw_only=True)
        class Learning:
            learning_rate: Annotated[float, Field(gt=0)] = 0.1
            """How fast."""
        @dataclass(frozen=True, kw_only=True)
        class Recipe(Learning):
            documents: Annotated[Path | None, Input("documents")] = None
            """To read."""
            conversations: Annotated[Path | None, Input("conversations")] = None
            """To imitate."""
            model: Annotated[Path | None, Input("model")] = None
            """To start from."""
            kind: Literal["small", "large"] = "small"
            """How large."""
            options: dict[str, int] | None = None
            """More."""
            notes: Path | None = None
            """A file of notes."""
            seed: int = 1
            """Of the weights."""
        def execute(recipe, run):
            run.measure(1, loss=2.0)
            run.measure(2, loss=1.0)
            (run.folder / "model.txt").write_text(f"{recipe.learning_rate} {recipe.seed} {recipe.kind}")
    ''',
    "vote": '''
        """a model -> comparisons, the toy way"""
        from dataclasses import dataclass
        from pathlib import Path
        from typing import Annotated
        from tutelage import records
        from tutelage.settings import Input
        MAKES = ("comparisons", "report")
        @dataclass(frozen=True, kw_only=True)
        class Recipe:
            models: Annotated[tuple[Path, ...], Input("model")]
            """Who answers."""
        def execute(recipe, run):
            records.write(run.folder / "comparisons.jsonl", [records.Comparison(
                id=records.identify("vote"), prompt=(records.Message(role="user", content="Q?"),),
                responses=("good", "bad"), ranks=(1, 2), judge="rule")])
    ''',
    "prefer": '''
        """comparisons -> a better model, the toy way"""
        from dataclasses import dataclass
        from pathlib import Path
        from typing import Annotated
        from tutelage.settings import Input
        MAKES = "model"
        @dataclass(frozen=True, kw_only=True)
        class Recipe:
            model: Annotated[Path, Input("model")]
            """To start from."""
            comparisons: Annotated[Path, Input("comparisons")]
            """To learn from."""
        def execute(recipe, run):
            (run.folder / "model.txt").write_text("better")
    ''',
    "fill": '''
        """the disk -> full, the toy way"""
        from dataclasses import dataclass
        MAKES = "model"
        @dataclass(frozen=True, kw_only=True)
        class Recipe:
            how: str = "os"
        def execute(recipe, run):
            if recipe.how == "os":
                (run.folder / "model.txt").symlink_to("/dev/full")
                (run.folder / "model.txt").write_text("x" * 100_000)
            if recipe.how == "words":
                raise RuntimeError("I/O error: No space left on device (os error 28)")
            if recipe.how == "torch":
                import torch
                with open("/dev/full", "wb") as full:
                    torch.save(torch.zeros(100_000), full)
            raise ValueError("another fault")
    ''',
    "wait": '''
        """nothing -> a model, slowly, the toy way"""
        import time
        from dataclasses import dataclass
        MAKES = "model"
        @dataclass(frozen=True, kw_only=True)
        class Recipe:
            seconds: float = 30
        def execute(recipe, run):
            run.note("waiting")
            time.sleep(recipe.seconds)
    ''',
    "offer": '''
        """a model -> a service, the toy way"""
        from dataclasses import dataclass
        MAKES = "service"
        @dataclass(frozen=True, kw_only=True)
        class Recipe:
            port: int = 1
        def execute(recipe, run):
            raise AssertionError("never in a course")
    ''',
}  # fmt: skip


def write_stages(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in STAGES.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source).lstrip(), encoding="utf-8")
    return folder


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Makes the toy stages the only ones."""
    monkeypatch.setattr(tutelage.stages, "__path__", [str(write_stages(folder / "toy_stages"))])
    for name in STAGES:
        monkeypatch.delitem(sys.modules, f"tutelage.stages.{name}", raising=False)
        monkeypatch.delattr(tutelage.stages, name, raising=False)
    catalogue.glance.cache_clear()


def command(folder: Path, *arguments: str) -> list[str]:
    """The command line in a process of its own, with the toy stages."""
    code = (
        "import sys, tutelage.stages, tutelage.cli; "
        f"tutelage.stages.__path__ = [{str(folder / 'toy_stages')!r}]; sys.exit(tutelage.cli.main(sys.argv[1:]))"
    )
    return [sys.executable, "-c", code, *arguments]


def small_course(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the runs of `small.yaml`, a course of toys that is taken to its end in `tmp_path`."""
    install(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(COURSE)
    courses.run(Course.load(Path("small.yaml")), quiet=True)
    return Path("runs")
