"""Whole educations on text that is made here, in English and Chinese: undisturbed, and killed again and again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
import tiny
import yaml

from tutelage.cli import main
from tutelage.run import read_done

COURSES = Path(__file__).parent.parent / "courses"
PLACES = "harbour market garden library station bakery mill bridge square tower".split()
PEOPLE = "sailor baker teacher farmer smith miller weaver painter singer doctor".split()
THINGS = "a lamp,a book,some bread,an old map,two apples,the blue door,a long rope,a small boat".split(",")
ZH_PLACES = "港口 市场 花园 图书馆 车站 面包店 磨坊 桥头 广场 钟楼".split()
ZH_PEOPLE = "水手 面包师 老师 农夫 铁匠 磨坊主 织工 画家 歌手 医生".split()
ZH_THINGS = "一盏灯 一本书 一些面包 一张旧地图 两个苹果 一扇蓝门 一根长绳 一条小船".split()


def english(rng: random.Random) -> str:
    return " ".join(
        f"The {rng.choice(PEOPLE)} walked to the {rng.choice(PLACES)} and found {rng.choice(THINGS)} there."
        for _ in range(6)
    )


def chinese(rng: random.Random) -> str:
    return "".join(
        f"{rng.choice(ZH_PEOPLE)}走到{rng.choice(ZH_PLACES)}，在那里看见了{rng.choice(ZH_THINGS)}。" for _ in range(6)
    )


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course of every stage that makes something, on 120 texts in two languages; it takes seconds."""
    rng = random.Random(0)
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(120):
        text = chinese(rng) if number % 2 else english(rng)
        (texts / f"{number:03}.txt").write_text(text + "\n", encoding="utf-8")
    small = {"max_length": 256, "batch_tokens": 512, "learning_rate": 3e-3, "save_seconds": 0}
    tuned = {"batch_size": 8, "learning_rate": 1e-3, "save_seconds": 0}
    stages: dict[str, dict[str, Any]] = {
        "prepare": {"sources": [str(texts)], "licence": "own", "held_out_share": 0.1, "near_duplicates": False},
        "tokenizer": {"documents": "prepare", "vocab_size": 600},
        "pretrain": {"documents": "prepare", "tokenizer": "tokenizer", "hidden_size": 32, "num_hidden_layers": 2,
                     "num_attention_heads": 2, "copy_share": 0.2, "max_tokens": 6000, **small},
        "instruct": {"documents": "prepare", "per_task": 40, "held_out_per_task": 6},
        "sft": {"model": "pretrain", "conversations": "instruct", **small},
        "collect": {"model": "sft", "prompts": "instruct", "count": 24, "held_out_count": 6, "max_new_tokens": 16},
        "reward": {"model": "sft", "comparisons": "collect", **tuned},
        "dpo": {"model": "sft", "comparisons": "collect", "lora_rank": 2, **tuned},
        "kto": {"model": "sft", "verdicts": "collect", **tuned},
        "ppo": {"model": "sft", "prompts": "instruct", "reward": "reward", "iterations": 3, "batch_size": 8,
                "mini_batch_size": 4, "max_new_tokens": 12, "learning_rate": 1e-3, "save_seconds": 0},
        "evaluate": {"models": ["pretrain", "sft", "dpo", "kto", "ppo"], "held_out": "instruct", "documents": "prepare",
                     "reward": "reward", "comparisons": "collect", "over": {"kto": "sft", "dpo": "sft", "ppo": "sft"},
                     "prompts_per_task": 3, "max_new_tokens": 12, "kl_prompts": 4},
    }  # fmt: skip
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump({"seed": 3, "stages": stages}, sort_keys=False), encoding="utf-8")
    return file


def hashes(runs: Path) -> dict[str, str]:
    return {path.parent.name: read_done(path.parent)["hash"] for path in sorted(runs.glob("tiny/*/done"))}


def test_a_course_goes_through_and_is_done_once(course: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert main(["run", str(course), "--runs", str(runs), "--quiet"]) == 0
    first = hashes(runs)
    assert list(first) == sorted(yaml.safe_load(course.read_text())["stages"])
    report = json.loads((runs / "tiny" / "report.json").read_text(encoding="utf-8"))
    assert list(report["stages"]) == list(yaml.safe_load(course.read_text())["stages"])
    wins = {name: stage["win_rates"] for name, stage in report["stages"].items() if stage["win_rates"]}
    assert {name: [w["over"] for w in won] for name, won in wins.items()} == {
        "sft": ["pretrain"], "dpo": ["sft"], "kto": ["sft"], "ppo": ["sft"],
        "evaluate": ["pretrain", "sft", "sft", "sft"],
    }  # fmt: skip
    assert all(0 <= w["low"] <= w["mean"] <= w["high"] <= 1 and w["prompts"] > 0 for won in wins.values() for w in won)
    page = (runs / "tiny" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "ppo" in page
    stamps = {path: path.stat().st_mtime_ns for path in runs.glob("tiny/*/done")}
    assert main(["run", str(course), "--runs", str(runs), "--quiet"]) == 0
    assert {path: path.stat().st_mtime_ns for path in runs.glob("tiny/*/done")} == stamps


SMALL = {
    "prepare.licence": "own", "prepare.near_duplicates": False, "prepare.held_out_share": 0.1,
    "instruct.per_task": 20, "instruct.held_out_per_task": 4, "sft.batch_tokens": 512, "collect.count": 12,
    "collect.held_out_count": 4, "collect.max_new_tokens": 12, "dpo.batch_size": 4, "evaluate.prompts_per_task": 2,
    "evaluate.max_new_tokens": 8, "evaluate.kl_prompts": 2,
}  # fmt: skip
SMALL_BASE = {
    "tokenizer.vocab_size": 500, "pretrain.hidden_size": 32, "pretrain.num_hidden_layers": 2,
    "pretrain.num_attention_heads": 2, "pretrain.batch_tokens": 512, "pretrain.max_tokens": 4000,
}  # fmt: skip


def shipped(name: str, runs: Path, settings: dict[str, object]) -> int:
    """Runs a course of the repository with single settings laid over it."""
    flags = [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    return main(["run", str(COURSES / name), "--runs", str(runs), "--quiet", *flags])


@pytest.mark.parametrize("name", ["own-files", "chinese"])
def test_a_shipped_course_on_files(name: str, course: Path, tmp_path: Path) -> None:
    texts = {"prepare.sources": [str(course.parent / "texts")]}
    assert shipped(f"{name}.yaml", tmp_path / "runs", {**SMALL, **SMALL_BASE, **texts}) == 0
    asked = (tmp_path / "runs" / name / "instruct" / "conversations.jsonl").read_text(encoding="utf-8")
    assert "水手" in asked


def test_a_shipped_course_from_a_model_on_the_disk(course: Path, tmp_path: Path) -> None:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = tiny.write_tokenizer(tmp_path / "words", template=tiny.CHATML, special=special, end="<|im_end|>")
    changes = {"eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 1024}
    model = tiny.write_model(tmp_path / "llama", tokenizer, "llama", **changes)
    given = {"prepare.sources": [str(course.parent / "texts")], "sft.model": str(model)}
    assert shipped("from-hub.yaml", tmp_path / "runs", {**SMALL, **given}) == 0
    tuned = tmp_path / "runs" / "from-hub" / "sft"
    assert (tuned / "adapter_config.json").exists()


@pytest.mark.slow
def test_twenty_kills_end_with_the_same_hashes(course: Path, tmp_path: Path) -> None:
    # Each has a working folder of its own, so that an adapter names its base by the same path.
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    calm.mkdir()
    wild.mkdir()
    began = time.monotonic()
    subprocess.run(command(course), cwd=calm, check=True)
    length = time.monotonic() - began
    rng = random.Random(5)
    for _ in range(20):
        child = subprocess.Popen(command(course), cwd=wild, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            # Most of these moments lie in the start and in one or two stages, so all stages are met on the way.
            child.wait(timeout=rng.uniform(1, 4 + length / 4))
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        else:
            assert child.returncode == 0
            rmtree(wild / "runs" / "tiny" / "ppo")  # it was done: the last lessons once more
    subprocess.run(command(course), cwd=wild, check=True)
    assert hashes(wild / "runs") == hashes(calm / "runs")


def command(course: Path) -> list[str]:
    return [sys.executable, "-m", "tutelage", "run", str(course), "--quiet"]
