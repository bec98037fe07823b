"""Our engine beside `transformers.generate`: the same weights, prompts and numbers of new tokens. Prints rows of JSON.

Each side is a process of its own; they compute in turn, so that both see the same machine. Of each pair of turns the
ratio is taken, ours over theirs; told are the median and the range. With one thread the clock is the processor time of
the process, which a busy neighbour hardly moves; else the wall's. Tokens are those up to an answer's end.

The weights are random, so nothing ends by itself: where lengths are to be like real ones, one token in 32 is an end.
`transformers` takes the prompts 64 at a time, padded on the left; our slots are refilled as they become free.
One prompt is answered as in a chat, as a stream.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    "course": {"architecture": "qwen3", "vocab_size": 2048, "hidden_size": 128, "num_hidden_layers": 4,
               "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "intermediate_size": 384},
    "S": {"architecture": "qwen2", "vocab_size": 8192, "hidden_size": 384, "num_hidden_layers": 6,
          "num_attention_heads": 6, "num_key_value_heads": 6, "intermediate_size": 1024},
}  # fmt: skip
"""The model of the first course, and the one of 14 million weights that the other benchmarks use."""
TOGETHER = 64
"""Sequences of a batch of `transformers`."""


@dataclass(frozen=True)
class Setting:
    """What both sides are asked."""

    name: str
    shape: str
    prompts: int
    samples: int
    new: int
    temperature: float
    ends: bool
    """Whether answers end, one token in 32; else each has all its tokens."""


SETTINGS = (
    Setting("course, 64 prompts, 96 tokens", "course", 64, 1, 96, 1.0, False),
    Setting("course, 64 prompts, 96 tokens, greedy", "course", 64, 1, 96, 0.0, False),
    Setting("course, 16 prompts with 4 samples, 96 tokens", "course", 16, 4, 96, 1.0, False),
    Setting("course, 192 prompts, answers that end, at most 96 tokens", "course", 192, 1, 96, 1.0, True),
    Setting("course, one prompt, 128 tokens", "course", 1, 1, 128, 1.0, False),
    Setting("S, 16 prompts, 64 tokens", "S", 16, 1, 64, 1.0, False),
    Setting("S, 64 prompts, 32 tokens", "S", 64, 1, 32, 1.0, False),
    Setting("S, one prompt, 48 tokens", "S", 1, 1, 48, 1.0, False),
)


def prompts(setting: Setting) -> list[list[int]]:
    """Of 110 to 190 tokens, about 150."""
    rng = random.Random(setting.name)
    vocabulary = SHAPES[setting.shape]["vocab_size"]
    return [[rng.randrange(7, vocabulary) for _ in range(rng.randrange(110, 191))] for _ in range(setting.prompts)]


def ends(setting: Setting) -> list[int]:
    """The ids that end an answer."""
    return list(range(3, SHAPES[setting.shape]["vocab_size"], 32)) if setting.ends else []


def model(shape: str, attention: str) -> Any:
    """The same random weights for both sides."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        SHAPES[shape]["architecture"],
        **{name: value for name, value in SHAPES[shape].items() if name != "architecture"},
        max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32).eval()


def ours(setting: Setting) -> Any:
    """A function that answers all prompts by our engine, and gives the number of tokens."""
    from tutelage.inference.engine import Engine
    from tutelage.inference.language_model import Sampling
    from tutelage.model import attention

    ids: Any = SimpleNamespace(stops=frozenset(ends(setting)), prompt=list, decode=str)
    engine = Engine(model(setting.shape, attention.NAME), ids, "tutelage")

    asked: Any = prompts(setting)

    def answer(turn: int) -> int:
        sampling = Sampling(temperature=setting.temperature, max_new_tokens=setting.new, seed=turn)
        if setting.prompts == 1:
            for _ in engine.reply(*asked, sampling):
                pass
            return setting.new
        return sum(len(one.ids) for one in engine.generate(asked, sampling, setting.samples))

    return answer


def theirs(setting: Setting) -> Any:
    """The same by `transformers.generate`."""
    import torch

    network, stops = model(setting.shape, "sdpa"), ends(setting)
    lengths: dict[str, Any] = {"max_new_tokens": setting.new}
    lengths |= {"eos_token_id": stops} if stops else {"min_new_tokens": setting.new}
    drawing: dict[str, Any] = {"do_sample": False}
    if setting.temperature:
        drawing = {"do_sample": True, "temperature": setting.temperature, "top_k": 0, "top_p": 1.0}
        drawing["num_return_sequences"] = setting.samples
    last = torch.tensor(stops)

    @torch.inference_mode()
    def answer(turn: int) -> int:
        torch.manual_seed(turn)
        asked, size, tokens = prompts(setting), TOGETHER // setting.samples, 0
        for some in (asked[start : start + size] for start in range(0, len(asked), size)):
            longest = max(map(len, some))
            ids = torch.tensor([[0] * (longest - len(one)) + one for one in some])
            mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in some])
            found = network.generate(ids, attention_mask=mask, pad_token_id=0, **lengths, **drawing)[:, longest:]
            ended = torch.isin(found, last).long().cumsum(1)
            tokens += int((ended - torch.isin(found, last).long() == 0).sum())
        return tokens

    return answer


def work(side: str, number: int) -> None:
    """A side's process: a turn for each line that comes in."""
    import torch

    from tutelage.model import device

    device.prepare(1)  # threads, and an allocator that keeps freed memory: for both sides
    torch.use_deterministic_algorithms(side == "tutelage")
    answer = (ours if side == "tutelage" else theirs)(SETTINGS[number])
    answer(0)
    print("ready", flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        tokens = answer(int(line))
        spent = (time.process_time() - cpu) if os.environ["OMP_NUM_THREADS"] == "1" else time.perf_counter() - wall
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps([tokens, spent, peak]), flush=True)


def measure(number: int, repeats: int, threads: int) -> list[dict[str, Any]]:
    """The rows of one setting."""
    import transformers

    import tutelage

    sides = {"transformers": f"transformers {transformers.__version__}", "tutelage": f"tutelage {version(tutelage)}"}
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TUTELAGE_THREADS": str(threads)}
    children = {
        side: subprocess.Popen(
            [sys.executable, __file__, "--work", side, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=environment,
        )
        for side in sides
    }  # fmt: skip
    turns: dict[str, list[tuple[int, float, int]]] = {side: [] for side in sides}
    for child in children.values():
        assert child.stdout
        child.stdout.readline()
    for turn in range(1, repeats + 1):
        for side, child in children.items():
            assert child.stdin
            assert child.stdout
            child.stdin.write(f"{turn}\n")
            child.stdin.flush()
            turns[side].append(tuple(json.loads(child.stdout.readline())))
    for child in children.values():
        child.communicate()
    speeds = {side: [tokens / spent for tokens, spent, _ in done] for side, done in turns.items()}
    ratios = [one / other for one, other in zip(speeds["tutelage"], speeds["transformers"], strict=True)]
    setting = SETTINGS[number]
    rows: list[dict[str, Any]] = []
    for side, told in sides.items():
        tokens = statistics.mean(tokens for tokens, _, _ in turns[side])
        speed = statistics.median(speeds[side])
        rows.append({
            "benchmark": "generate", "side": side, "version": told, "setting": setting.name, "precision": "float32",
            "threads": threads, "clock": "processor" if threads == 1 else "wall", "tokens_per_second": round(speed, 1),
            "samples_per_second": round(speed * setting.prompts * setting.samples / tokens, 3),
            "peak_memory_bytes": max(peak for _, _, peak in turns[side]),
            "ratio": round(statistics.median(ratios), 3) if side == "tutelage" else 1.0,
            "range": [round(min(ratios), 3), round(max(ratios), 3)] if side == "tutelage" else [1.0, 1.0],
        })  # fmt: skip
    return rows


def version(package: Any) -> str:
    """Of an installed package."""
    from importlib.metadata import version as told

    return told(package.__name__)


def main() -> None:
    """Reads what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="settings with this in their name")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "1")), help="of each side")
    options = parser.parse_args()
    if options.work:
        work(options.work[0], int(options.work[1]))
        return
    for number, setting in enumerate(SETTINGS):
        if options.only in setting.name:
            for row in measure(number, options.repeats, options.threads):
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
