"""What each way of adapting a model holds in memory, counted tensor by tensor, at a small and a large vocabulary.

    python benchmarks/memory.py            every method twice, each in a process of its own; a few minutes
    python benchmarks/memory.py --page     rewrites the table in docs/adapters.md from the last results alone

It writes benchmarks/results/memory.json and memory.svg, and the table in docs/adapters.md. Counted are the weights,
their gradients after the backward pass, the optimizer's state after the update, and the activations: what autograd
keeps between the passes, each piece of memory once, weights left out. ``peak`` is the most that was alive at once, by
torch's profiler; what an allocator keeps besides is not in it. Seconds are of processor time on one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "adapters.md"
BEGIN, END = "<!-- memory -->", "<!-- /memory -->"
PARTS = ("weights", "gradients", "optimizer", "activations")
COLOURS = ("#1f4e79", "#c55a11", "#7f6000", "#548235")
VOCABULARIES = (8192, 151936)
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"lora_rank": 16, "lora_alpha": 32},
    "dora": {"lora_rank": 16, "lora_alpha": 32, "use_dora": True},
    "bottleneck": {"bottleneck_size": 64},
    "lisa": {"lisa_layers": 2, "lisa_interval": 1},
    "lisa, blocks alone": {"lisa_layers": 2, "lisa_interval": 1, "lisa_embeddings": False},
}
SEQUENCES, LENGTH = 4, 256
STEPS = 6
"""For LISA as many draws of two blocks of six; the means are told."""


def measure(method: str, vocabulary: int) -> dict[str, Any]:
    """The ledger of one method, in bytes, and its seconds a step. To be called in a fresh process."""
    import torch
    from torch.autograd.graph import saved_tensors_hooks
    from torch.profiler import ProfilerActivity, profile
    from transformers import Qwen2Config

    from tutelage.model import checkpoint
    from tutelage.model.adapters import Adapting, adapt
    from tutelage.training.batches import Branch, Example, flat
    from tutelage.training.likelihood import token_log_probabilities
    from tutelage.training.lisa import Drawn, Lisa
    from tutelage.training.optimizer import Learning, Optimizers

    torch.set_num_threads(1)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=384, num_hidden_layers=6, num_attention_heads=6, num_key_value_heads=6,
        intermediate_size=1024, max_position_embeddings=1024, tie_word_embeddings=True,
    )  # fmt: skip
    settings = METHODS[method]
    adapting = Adapting(**{name: value for name, value in settings.items() if not name.startswith("lisa")})
    lisa = Lisa(**{name: value for name, value in settings.items() if name.startswith("lisa")})
    model = adapt(checkpoint.create(config, seed=1), adapting, "causal", seed=1)
    drawn = Drawn(model, lisa, seed=1)
    optimizers = Optimizers(model, Learning())
    torch.manual_seed(1)
    rows = torch.randint(10, vocabulary, (SEQUENCES, LENGTH)).tolist()
    batch = flat([Example([], [Branch(row, [False] + [True] * (LENGTH - 1))]) for row in rows])
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    weights = sum({id(w): w.numel() * w.element_size() for w in model.parameters()}.values())

    kept: dict[int, int] = {}

    def count(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold its graph, and that the tensor

    seen: list[dict[str, float]] = []
    for step in range(STEPS + 1):
        kept.clear()
        began = time.process_time()
        with drawn.live(step, optimizers):
            with saved_tensors_hooks(count, lambda tensor: tensor):
                loss = -token_log_probabilities(model, batch).mean()
            loss.backward()
        gradients = sum(w.grad.numel() * w.grad.element_size() for w in model.parameters() if w.grad is not None)
        optimizers.step(1.0)
        seconds = time.process_time() - began
        state = sum(value.numel() * value.element_size() for value in optimizers.state().values() if value.ndim)
        if step:  # the first one warms up
            numbers = {
                "gradients": gradients,
                "optimizer": state,
                "activations": sum(kept.values()),
                "seconds": seconds,
            }
            seen.append(numbers)
    highest = 0
    for step in range(1, STEPS + 1 if lisa.lisa_layers else 2):
        held = sum(value.numel() * value.element_size() for value in optimizers.state().values())
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            with drawn.live(step, optimizers):
                (-token_log_probabilities(model, batch).mean()).backward()
            optimizers.step(1.0)
        highest = max(highest, weights + held + peak(profiled))
    mean = {name: statistics.fmean(one[name] for one in seen) for name in seen[0]}
    return {
        "weights": weights,
        **{name: round(mean[name]) for name in ("gradients", "optimizer", "activations")},
        "most_activations": max(one["activations"] for one in seen),
        "peak_memory_bytes": highest,
        "trainable": sum(w.numel() for w in model.parameters() if w.requires_grad),
        "seconds_per_step": mean["seconds"],
    }


def peak(profiled: Any) -> int:
    """The most bytes of tensors that were alive at once, of those made while the profiler looked."""
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(changes))


def run(repeats: int) -> dict[str, Any]:
    """Every method at every vocabulary, in turns."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TUTELAGE_THREADS": "1"}
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for turn in range(repeats):
        for vocabulary in VOCABULARIES:
            for method in METHODS:
                command = [sys.executable, __file__, "--one", method, str(vocabulary)]
                child = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                found.setdefault((method, vocabulary), []).append(json.loads(child.stdout.splitlines()[-1]))
                print(f"{turn + 1}/{repeats} {vocabulary:>6} {method}", file=sys.stderr)
    rows: list[dict[str, Any]] = []
    for (method, vocabulary), several in found.items():
        seconds = [one["seconds_per_step"] for one in several]
        row = {"benchmark": "memory", "method": method, "vocabulary": vocabulary, **several[0]}
        row |= {"setting": METHODS[method], "seconds_per_step": min(seconds), "range": [min(seconds), max(seconds)]}
        rows.append(row)
    return {"machine": platform.processor() or platform.machine(), "tokens": SEQUENCES * LENGTH, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """Markdown, in megabytes."""
    lines: list[str] = []
    for vocabulary in VOCABULARIES:
        rows = [row for row in result["rows"] if row["vocabulary"] == vocabulary]
        full = rows[0]
        held = full["gradients"] + full["optimizer"]
        lines += [
            f"Vocabulary of {vocabulary:,} tokens, {full['weights'] / 4e6:.1f} M weights:",
            "",
            "| method | trained | weights | gradients | optimizer | of full's | activations | peak | step |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            share = (row["gradients"] + row["optimizer"]) / held
            sizes = " | ".join(f"{row[part] / 1e6:.1f}" for part in ("weights", "gradients", "optimizer"))
            lines.append(
                f"| {row['method']} | {row['trainable'] / 1e6:.2f} M | {sizes} | {share:.1%} | "
                f"{row['activations'] / 1e6:.0f} | {row['peak_memory_bytes'] / 1e6:.0f} | "
                f"{row['seconds_per_step'] / full['seconds_per_step']:.2f} |"
            )
        lines.append("")
    return "\n".join(lines)


def draw(result: dict[str, Any]) -> str:
    """SVG: for each vocabulary a stack for each method, one scale for both."""
    width, label, bar, line = 1000, 190, 640, 34
    longest = max(sum(row[part] for part in PARTS) for row in result["rows"])
    parts: list[str] = []
    for place, part in enumerate(PARTS):
        parts.append(f'<rect x="{label + 150 * place}" y="8" width="14" height="14" fill="{COLOURS[place]}"/>')
        parts.append(f'<text x="{label + 20 + 150 * place}" y="20">{part}</text>')
    top = 40
    for vocabulary in VOCABULARIES:
        parts.append(f'<text x="10" y="{top + 14}" font-weight="bold">{vocabulary:,} tokens</text>')
        top += 26
        for row in (row for row in result["rows"] if row["vocabulary"] == vocabulary):
            parts.append(f'<text x="10" y="{top + 15}">{escape(row["method"])}</text>')
            left = float(label)
            for part, colour in zip(PARTS, COLOURS, strict=True):
                size = bar * row[part] / longest
                parts.append(f'<rect x="{left:.1f}" y="{top}" width="{size:.1f}" height="20" fill="{colour}"/>')
                left += size
            total = sum(row[part] for part in PARTS) / 1e6
            parts.append(f'<text x="{left + 8:.1f}" y="{top + 15}">{total:,.0f} MB</text>')
            top += line
        top += 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" font-family="sans-serif" font-size="13">'
        f'<rect width="{width}" height="{top}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "VOCABULARY"), help=argparse.SUPPRESS)
    parser.add_argument("--page", action="store_true", help="only rewrite the table and the picture")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    file = RESULTS / "memory.json"
    if not options.page:
        RESULTS.mkdir(exist_ok=True)
        file.write_text(json.dumps(run(options.repeats), indent=2) + "\n", encoding="utf-8")
    result = json.loads(file.read_text(encoding="utf-8"))
    (RESULTS / "memory.svg").write_text(draw(result), encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    between = re.compile(f"{BEGIN}.*?{END}", re.DOTALL)
    PAGE.write_text(between.sub(lambda _: f"{BEGIN}\n{table(result)}{END}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
