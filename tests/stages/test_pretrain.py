"""pretrain: fresh weights learn to predict, whatever the architecture."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tutelage import settings
from tutelage.corpus.shards import read_index
from tutelage.errors import SettingsError
from tutelage.model import checkpoint
from tutelage.model.chat import Chat
from tutelage.records import Document
from tutelage.run import Run
from tutelage.stages import pretrain
from tutelage.training.likelihood import bits_per_byte

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_length": 32}
SHORT = {**SHAPE, "batch_tokens": 256, "num_train_epochs": 3, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.jsonl(tmp_path_factory.mktemp("texts") / "texts.jsonl", tiny.documents())


def pieces(texts: Path, tokenizer: Path, folder: Path, **values: Any) -> tuple[list[list[int]], list[str]]:
    """What is read, by its place in the documents, and the held-out texts."""
    recipe = settings.check(pretrain.Recipe, {"documents": texts, "tokenizer": tokenizer, **values}, "pretrain")
    with Run.begin(folder, "pretrain", {}, quiet=True) as run:
        folder = pretrain._encoded(recipe, Chat.load(tokenizer), run)
        facts = read_index(folder)["facts"]
        loader = pretrain._loader(recipe, folder, pretrain._mixed(recipe, facts, run))
    found = sorted(loader, key=lambda piece: (piece.source, piece.first))
    return [piece.tokens.tolist() for piece in found], facts["held_out"]


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("qwen3", {}),
        ("llama", {"optimizer": "muon"}),
        ("gpt2", {"packing": "none"}),
        ("mistral", {"config": {"sliding_window": 8, "num_key_value_heads": 2}}),
        ("gemma2", {"copy_share": 0.3}),
    ],
)
def test_the_loss_falls_and_transformers_loads_it(
    architecture: str, more: dict[str, Any], texts: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    rows = tiny.run_stage(
        pretrain, tmp_path / "base", documents=texts, tokenizer=tokenizer_folder, architecture=architecture,
        **SHORT, **more,
    )  # fmt: skip
    last = rows.pop()
    assert [row["step"] for row in rows] == list(range(len(rows)))
    assert rows[0]["loss"] == pytest.approx(math.log(286), abs=0.3)
    assert rows[-1]["loss"] < 0.75 * rows[0]["loss"]
    assert last["split"] == "held_out"
    held_out = [document.text for document in tiny.documents() if document.split == "held_out"]
    assert last["bits_per_byte"] == pytest.approx(bits_per_byte(tmp_path / "base", held_out, 32), abs=1e-6)

    model, chat = checkpoint.load(tmp_path / "base")
    foreign = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    assert type(foreign).__name__ == type(model).__name__
    ids = chat.text("the cat sat on the mat")
    with torch.no_grad():
        plain = tiny.plain_log_probabilities(foreign, [tiny.END_OF_TEXT, *ids], 1)
    bits = -float(plain.sum()) / math.log(2) / len("the cat sat on the mat")
    assert bits_per_byte(tmp_path / "base", ["the cat sat on the mat"]) == pytest.approx(bits, abs=1e-4)
    assert foreign.config.max_position_embeddings == 128
    known = json.loads((tmp_path / "base" / "generation_config.json").read_text())
    assert known["eos_token_id"] == [tiny.END_OF_TEXT, tiny.END]
    assert known["pad_token_id"] == tiny.PAD
    assert len(AutoTokenizer.from_pretrained(tmp_path / "base")) == 286
    assert (tmp_path / "base" / "chat_template.jinja").exists()


def test_the_same_seed_gives_the_same_files(texts: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    hashes: list[str] = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        with tiny.begun(
            pretrain, tmp_path / name, documents=texts, tokenizer=tokenizer_folder, seed=seed, max_tokens=600, **SHORT
        ) as (recipe, run):
            pretrain.execute(recipe, run)
            hashes.append(run.finish())
    assert hashes[0] == hashes[1] != hashes[2]


def test_pieces_hold_every_token_and_no_held_out_text(texts: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    chat = Chat.load(tokenizer_folder)
    train = [d for d in tiny.documents() if d.split == "train"]
    out = {d.text for d in tiny.documents() if d.split == "held_out"}
    found, held_out = pieces(texts, tokenizer_folder, tmp_path / "a", max_length=32)
    assert set(held_out) <= out
    assert len(held_out) == 4
    row = found[0] + [i for piece in found[1:] for i in piece[1:]]
    assert row.count(tiny.END_OF_TEXT) == len(train)
    said = chat.backend.decode(row, skip_special_tokens=False).split("<|endoftext|>")
    assert sorted(said) == sorted(["", *(d.text for d in train)])
    assert not out & set(said)
    assert max(map(len, found)) == 32

    alone, _ = pieces(texts, tokenizer_folder, tmp_path / "b", max_length=1000, packing="none")
    assert sorted(map(tuple, alone)) == sorted((*chat.text(d.text), tiny.END_OF_TEXT) for d in train)
    few, kept = pieces(texts, tokenizer_folder, tmp_path / "c", max_length=32, max_tokens=100, eval_documents=2)
    assert 90 <= sum(map(len, few)) < 150
    assert kept == held_out[:2]
    one, _ = pieces(texts, tokenizer_folder, tmp_path / "d", max_length=32, max_tokens=2)
    assert len(one) == 1


def test_texts_of_one_module_follow_each_other(tokenizer_folder: Path, tmp_path: Path) -> None:
    names = ["a", "b", "c"] * 4
    found = tiny.jsonl(tmp_path / "texts.jsonl", [
        Document(id=str(i), text=name * 5, source="s", licence="CC0-1.0", language="en", metadata={"module": name})
        for i, name in enumerate(names)
    ])  # fmt: skip
    (row,), _ = pieces(found, tokenizer_folder, tmp_path / "run", max_length=1000)
    text = Chat.load(tokenizer_folder).decode(row)
    assert sorted(text[i : i + 20] for i in (0, 20, 40)) == ["a" * 20, "b" * 20, "c" * 20]


def test_weights_are_epochs_and_are_told(tokenizer_folder: Path, tmp_path: Path) -> None:
    texts = tiny.jsonl(
        tmp_path / "texts.jsonl", [replace(one, source=f"{'ab'[i % 2]}/{i}") for i, one in enumerate(tiny.documents())]
    )
    given = {"weights": {"a/*": 2.5}, "max_length": 16, "num_train_epochs": 2}
    plain, _ = pieces(texts, tokenizer_folder, tmp_path / "plain", max_length=16, weights={"a/*": 1})
    found, _ = pieces(texts, tokenizer_folder, tmp_path / "found", **given)
    own = len(json.loads((tmp_path / "plain.partial" / "reading.json").read_text())["groups"]["a/*"]["sources"])
    assert own == 20
    counts = Counter(map(tuple, found))
    often = [counts[piece] for piece in dict.fromkeys(map(tuple, plain))]
    assert min(often) >= 2
    assert len(found) == pytest.approx(2 * 2.5 * len(plain) / 2 + 2 * len(plain) / 2, rel=0.1)

    rows = tiny.run_stage(pretrain, tmp_path / "run", documents=texts, tokenizer=tokenizer_folder, **{**SHAPE, **given})
    told = json.loads((tmp_path / "run" / "reading.json").read_text())
    assert told["sources"]["a/*"]["epochs"] == 5
    assert told["sources"]["*"]["epochs"] == 2
    assert told["sources"]["a/*"]["weight"] == 2.5
    assert told["groups"]["*"]["sources"] == {f"b/{i}": 1 for i in range(1, 40, 2) if i % 10 != 9}
    log = (tmp_path / "run" / "log.txt").read_text()
    assert " a/* (20 sources): 20 documents, 500 tokens, weight 2.5, 5.00 epochs, 75.8% of what is read" in log
    assert " * (16 sources): 16 documents, 400 tokens, weight 1, 2.00 epochs, 24.2% of" in log
    assert "beware: a/* is read 5.0 times: past 4 epochs" in log
    assert sum(row.get("tokens", 0) for row in rows) == pytest.approx(5 * 500 + 2 * 400, rel=0.1)


def test_copies_come_first(texts: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    """Every one twice in a row; a quarter of all that is read."""
    seen: list[list[int]] = []
    inner = pretrain.Trainer.learn

    def watched(self: Any, chosen: Any, examples: Any, losses: Any) -> None:
        seen.extend(examples[i].branches[0].ids for i in chosen)
        inner(self, chosen, examples, losses)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain.Trainer, "learn", watched)
        tiny.run_stage(
            pretrain, tmp_path / "run", documents=texts, tokenizer=tokenizer_folder, copy_share=0.25, **SHAPE
        )
    twice = [ids for ids in seen if ids[: len(ids) // 2] * 2 == ids]
    assert seen[: len(twice)] == twice
    assert sum(map(len, twice)) == pytest.approx(0.25 * sum(map(len, seen)), rel=0.1)
    assert max(map(len, twice)) == 32


def test_what_cannot_be_built_is_refused(texts: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    def run(**values: Any) -> None:
        tiny.run_stage(pretrain, tmp_path / "base", documents=texts, tokenizer=tokenizer_folder, **{**SHORT, **values})

    with pytest.raises(SettingsError, match="hidden_size 30 is not a multiple of num_attention_heads 4"):
        run(hidden_size=30)
    with pytest.raises(SettingsError, match=r"architecture: 'qwen3' .* even rotary dimension"):
        run(hidden_size=28)
    with pytest.raises(SettingsError, match="architecture: 'llamma'"):
        run(architecture="llamma")
    with pytest.raises(SettingsError, match="lr_scheduler_type"):
        run(lr_scheduler_type="cosinus")
    with pytest.raises(SettingsError, match="weights: no source 'made': there are made here"):
        run(weights={"made": 2})
    with pytest.raises(SettingsError, match=r"pretrain: weights: found -1: input should be greater than or equal to 0"):
        run(weights={"made here": -1})
    with pytest.raises(SettingsError, match="weights: nothing is left to read"):
        run(weights={"made here": 0})
    with pytest.raises(SettingsError, match="weights: belongs to objective next_token: leave it out"):
        run(weights={"made here": 2}, objective="masked_token", architecture="bert")
    assert not (tmp_path / "base").exists()
    assert not (tmp_path / "base.partial").exists()
