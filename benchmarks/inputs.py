"""What every side of a benchmark is given: the same rows, tokenizer and weights.

    python benchmarks/inputs.py --output FOLDER [--data FOLDER] [--large]

With --data they are made from its Alpaca and hh-rlhf rows, as MANIFEST.md there calls them; without it from made-up
words of like lengths. No row is longer than 512 tokens, so that none is cut by one side and left out by another.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

LONGEST = 512
VOCABULARY = 8192
COUNTS = {"conversations": 2000, "pairs": 512, "rankings": 256, "verdicts": 512}
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6,
    "num_key_value_heads": 6, "intermediate_size": 1024,
}  # fmt: skip
LARGE: dict[str, Any] = {
    "vocab_size": 151936, "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "intermediate_size": 4864,
}  # fmt: skip
"""The shape of Qwen2.5-0.5B."""

Row = dict[str, Any]


def user(text: str) -> list[Row]:
    """A conversation that asks."""
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[Row]:
    """An answer."""
    return [{"role": "assistant", "content": text}]


def real(data: Path) -> tuple[list[Row], list[Row], list[str]]:
    """(conversations, pairs, documents) of the data folder, shuffled."""
    from tutelage.instruction import formats

    conversations: list[Row] = []
    for name in ("alpaca_en_demo.json.gz", "alpaca_zh_demo.json.gz"):
        for record in formats.conversations(data / "instruct" / "llamafactory" / name):
            messages = [{"role": message.role, "content": message.content} for message in record.messages]
            conversations.append({"prompt": messages[:-1], "completion": messages[-1:]})
    pairs: list[Row] = []
    hh = data / "preference" / "hh-rlhf_harmless-base_test.jsonl.gz"
    for comparison in formats.comparisons(hh, max_dropped=1):
        prompt = [{"role": message.role, "content": message.content} for message in comparison.prompt]
        if [message["role"] for message in prompt] == ["user", "assistant"] * (len(prompt) // 2) + ["user"]:
            chosen, rejected = (comparison.responses[comparison.ranks.index(rank)] for rank in (1, 2))
            pairs.append({"prompt": prompt, "chosen": assistant(chosen), "rejected": assistant(rejected)})
    with gzip.open(data / "pretrain" / "en" / "c4_demo.jsonl.gz", "rt", encoding="utf-8") as lines:
        documents = [json.loads(line)["text"] for line in lines]
    with gzip.open(data / "pretrain" / "en" / "wiki_demo.txt.gz", "rt", encoding="utf-8") as lines:
        documents += [line.strip() for line in lines if len(line) > 200]
    rng = random.Random(0)
    for found in (conversations, pairs, documents):
        rng.shuffle(found)
    return conversations, pairs, documents


def generated() -> tuple[list[Row], list[Row], list[str]]:
    """The same of words that mean nothing, some frequent and most rare, with lengths like those of the real rows."""
    rng = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(6000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]

    def text(mean: float) -> str:
        count = max(1, round(rng.lognormvariate(math.log(mean) - 0.32, 0.8)))
        return " ".join(rng.choices(words, weights, k=count)).capitalize() + "."

    conversations = [{"prompt": user(text(25)), "completion": assistant(text(110))} for _ in range(2200)]
    pairs = [
        {"prompt": user(text(100)), "chosen": assistant(text(40)), "rejected": assistant(text(40))} for _ in range(1400)
    ]
    return conversations, pairs, [text(350) for _ in range(1500)]


def make_tokenizer(texts: Iterator[str]) -> Any:
    """Byte-level pairs learned from the texts, with ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>", clean_up_tokenization_spaces=False
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def make_model(tokenizer: Any, shape: dict[str, Any], folder: Path) -> None:
    """Random weights of a Qwen2, and the tokenizer beside them."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        **shape, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    Qwen2ForCausalLM(config).float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def rankings(pairs: Sequence[Row]) -> list[Row]:
    """Rankings of four: the pair, and then the answers of the next row. The lengths are real, the order is made up."""
    found: list[Row] = []
    for row, other in zip(pairs, [*pairs[1:], pairs[0]], strict=True):
        responses = [side[name][0]["content"] for side in (row, other) for name in ("chosen", "rejected")]
        if len(set(responses)) == 4:
            found.append({"prompt": row["prompt"], "responses": responses, "ranks": [1, 2, 3, 4]})
    return found


def all_pairs(ranking: Row) -> Iterator[Row]:
    """The six pairs of a ranking of four."""
    for better in range(4):
        for worse in range(better + 1, 4):
            chosen, rejected = (assistant(ranking["responses"][place]) for place in (better, worse))
            yield {"prompt": ranking["prompt"], "chosen": chosen, "rejected": rejected}


def sequences(row: Row) -> list[list[Row]]:
    """The whole conversations of a row of any kind."""
    if "responses" in row:
        return [row["prompt"] + assistant(response) for response in row["responses"]]
    return [row["prompt"] + row[name] for name in ("completion", "chosen", "rejected") if name in row]


def make(output: Path, data: Path | None, large: bool) -> None:
    """Writes everything into a folder, which is not there before it is whole."""
    conversations, pairs, documents = real(data) if data else generated()
    tokenizer = make_tokenizer(_texts(conversations, pairs, documents))

    def tokens(messages: list[Row]) -> int:
        return len(tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])

    def fitting(rows: Sequence[Row], count: int) -> tuple[list[Row], float]:
        kept: list[Row] = []
        total = 0
        for row in rows:
            spans = [tokens(messages) for messages in sequences(row)]
            if max(spans) <= LONGEST and len(kept) < count:
                kept.append(row)
                total += sum(spans)
        return kept, total / len(kept)

    verdicts = [
        {"prompt": row["prompt"], "completion": row["chosen" if place % 2 else "rejected"], "label": bool(place % 2)}
        for place, row in enumerate(pairs)
    ]
    mean: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=output.parent) as beside:
        folder = Path(beside) / "inputs"
        folder.mkdir()
        kinds = {"conversations": conversations, "pairs": pairs, "rankings": rankings(pairs), "verdicts": verdicts}
        for name, rows in kinds.items():
            kept, mean[name] = fitting(rows, COUNTS[name])
            _write(folder / f"{name}.jsonl", kept)
            if name == "rankings":
                _write(folder / "rankings-as-pairs.jsonl", [pair for row in kept for pair in all_pairs(row)])
        _write(folder / "documents.jsonl", _documents(documents))
        _write(folder / "pieces.jsonl", _pieces(documents, lambda text: tokenizer(text)["input_ids"], tokenizer))
        make_model(tokenizer, SMALL, folder / "small")
        if large:
            make_model(tokenizer, LARGE, folder / "large")
        summary = {"source": "real rows" if data else "generated words", "mean_tokens": mean}
        (folder / "inputs.json").write_text(json.dumps(summary), encoding="utf-8")
        folder.rename(output)


def _texts(conversations: list[Row], pairs: list[Row], documents: list[str]) -> Iterator[str]:
    for row in (*conversations, *pairs):
        for messages in sequences(row):
            yield "\n".join(message["content"] for message in messages)
    yield from documents


def _documents(texts: Sequence[str]) -> list[Row]:
    """As records of ours."""
    return [
        {
            "id": f"d{place}", "text": text, "source": f"{place}.txt", "licence": "LicenseRef-measure-only",
            "language": "en", "split": "train",
        }
        for place, text in enumerate(texts) if text.strip()
    ]  # fmt: skip


def _pieces(texts: Sequence[str], encode: Callable[[str], list[int]], tokenizer: Any) -> list[Row]:
    """The texts one after the other, in pieces of 512 tokens and the one that follows."""
    row: list[int] = []
    for text in texts:
        row += [*encode(text), tokenizer.eos_token_id]
    return [{"ids": row[start : start + LONGEST + 1]} for start in range(0, len(row) - LONGEST, LONGEST)]


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    make(options.output, options.data, options.large)


if __name__ == "__main__":
    main()
