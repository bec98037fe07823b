"""Writes the results into docs/benchmarks.md, between its marks: python benchmarks/page.py"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from contests import BENCHMARKS, STAND_ALONE

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"
MARKS = re.compile(r"(?<=<!-- results -->\n).*?(?=<!-- /results -->)", re.DOTALL)

HEAD = "| side | setting | tokens/s | samples/s | peak memory | of the GEMM limit | ours is | loss: theirs, ours |"


def updated(page: str, results: dict[str, dict[str, Any]]) -> str:
    """The page with the results in it; they are named by their files."""
    if not MARKS.search(page):
        raise ValueError("no marks for the results")
    parts = [_corpus(result) if name == "corpus" else _section(name, result) for name, result in results.items()]
    return MARKS.sub(lambda _: "\n" + "\n".join(parts) + "\n" if parts else "", page)


def _section(name: str, result: dict[str, Any]) -> str:
    machine = result["machine"]
    if "contests" not in result:
        return _plain(name, result)
    lines = [
        f"### {name}",
        "",
        f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores, {machine['memory_gib']} GiB; "
        f"{result['inputs']['source']}; {result['repeats']} pairs of windows of {result['window_seconds']:g} s, by "
        f"{'processor time' if machine['clock'] == 'cpu' else 'the clock on the wall'}; commit {result['commit']}.",
    ]
    for contest, told in result["contests"].items():
        limit = told["gemm_flops_per_second"] / 1e9
        lines += ["", f"{contest}, GEMM limit {limit:.0f} GFLOP/s:", "", HEAD, "|" + "---|" * HEAD.count(" |")]
        lines += [_row(row) for row in result["rows"] if row["benchmark"] == contest]
        lines += [f"\nLeft out: {words}" for words in told["left_out"]]
    return "\n".join([*lines, "", f"![{name}](../benchmarks/results/{name}.svg)", ""])


def _corpus(result: dict[str, Any]) -> str:
    """What `benchmarks/corpus.py` found: growth, and datatrove beside."""
    lines = ["### The whole of prepare", ""]
    if peer := result.get("peer"):
        turns = "; ".join(f"{turn['ours']} and {turn['theirs']} s" for turn in peer["turns"])
        lines += [
            f"Beside datatrove, {peer['megabytes']:g} MB of text in {peer['documents']:,} documents, "
            f"{peer['processes']} processes, start-up in both, by the clock: {turns}, "
            f"**{peer['ratio']:g} times as fast**; "
            f"{peer['ratio_of_work']:g} times by the work of all processes.",
            "",
        ]
    if growth := result.get("growth"):
        lines += ["| MB of text | documents | seconds | MB a second | most memory, GB |", "|---|---|---|---|---|"]
        for row in growth:
            pace = row["megabytes"] / row["seconds"]
            cells = f"{row['megabytes']:,.0f} | {row['documents']:,} | {row['seconds']:,g} | {pace:.1f}"
            lines.append(f"| {cells} | {row['memory_megabytes'] / 1000:.2f} |")
        lines += ["", "![growth](../benchmarks/results/corpus.svg)", ""]
    return "\n".join(lines)


def _plain(name: str, result: dict[str, Any]) -> str:
    """The rows of a script that measures by itself, under its own names."""
    machine, rows = result["machine"], result["rows"]
    names = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[str(row.get(key, "")) for key in names] for row in rows]
    table = [[key.replace("_", " ") for key in names], ["---"] * len(names), *cells]
    where = f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores; commit {result['commit']}."
    return "\n".join([f"### {name}", "", where, "", *(f"| {' | '.join(line)} |" for line in table), ""])


def _row(row: dict[str, Any]) -> str:
    low, high = row["tokens_per_second_range"]
    share, loss = row["share_of_gemm"], row.get("loss_at_equal_tokens")
    tokens = f"{row['tokens_per_second']:,.0f} ({low:,.0f} to {high:,.0f})" if row["tokens_per_second"] else ""
    against = f"{row['ratio']:.2f} ({row['range'][0]:.2f} to {row['range'][1]:.2f}) times as fast"
    if "ratio_to_equal_loss" in row:
        against += f", {row['ratio_to_equal_loss']:.2f} times to an equal loss"
    phases = "; ".join(f"{name} {part:.0%}" for name, part in row.get("phases", {}).items())
    cells = [
        f"{row['side']} ({row['version'].split()[-1]})",
        f"{row['setting']}, {row['precision']}" + (f"; {phases}" if phases else ""),
        tokens,
        f"{row['samples_per_second']:.3g}",
        f"{row['peak_memory_bytes'] / 1e9:.2f} GB",
        f"{share:.0%}" if share else "",
        against if row["side"] != "tutelage" else "",
        f"{loss:.3f}, {row['our_loss_at_equal_tokens']:.3f}" if loss is not None else "",
    ]
    return f"| {' | '.join(cells)} |"


def read() -> dict[str, dict[str, Any]]:
    """The results that are there, in the order of the benchmarks."""
    files = {name: RESULTS / f"{name}.json" for name in (*BENCHMARKS, *STAND_ALONE, "corpus")}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8"), read()), encoding="utf-8")
