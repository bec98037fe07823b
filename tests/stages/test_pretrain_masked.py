"""pretrain with objective masked_token: an encoder learns to guess hidden tokens and what follows."""

import random
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertForPreTraining

from tutelage.errors import ModelError, RecordError, SettingsError
from tutelage.model import checkpoint
from tutelage.records import Document
from tutelage.stages import pretrain
from tutelage.training.trainer import Trainer

MASKED: dict[str, Any] = {
    "objective": "masked_token", "architecture": "bert", "hidden_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 4, "max_length": 64, "batch_tokens": 512, "learning_rate": 1e-2,
}  # fmt: skip
WORDS = "cat dog mat man".split()


def documents(count: int = 100) -> list[Document]:
    """Each about one of four subjects: what a sentence hides can be told from what stands beside it."""
    rng = random.Random(0)
    found: list[Document] = []
    for i in range(count):
        word = WORDS[i % 4]
        text = " ".join(f"The {word} {rng.choice(['ran to', 'sat on'])} the {word}." for _ in range(rng.randint(4, 12)))
        split = "held_out" if i % 5 == 4 else "train"
        found.append(Document(id=f"d{i}", text=text, source="s", licence="CC0-1.0", language="en", split=split))  # pyright: ignore
    return found


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.jsonl(tmp_path_factory.mktemp("texts") / "texts.jsonl", documents())


def test_the_loss_falls_and_hidden_tokens_are_guessed(texts: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    rows = tiny.run_stage(
        pretrain, tmp_path / "encoder", documents=texts, tokenizer=tokenizer_folder, num_train_epochs=8,
        optimizer="muon",
        config={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}, **MASKED,
    )  # fmt: skip
    last = rows.pop()
    assert [row["step"] for row in rows] == list(range(len(rows)))
    assert rows[0]["masked_token_loss"] == pytest.approx(5.67, abs=0.1)  # ln 289
    assert rows[0]["next_sentence_loss"] == pytest.approx(0.69, abs=0.1)
    for row in rows:
        assert row["loss"] == pytest.approx(row["masked_token_loss"] + row["next_sentence_loss"], rel=1e-5)
    assert rows[-1]["masked_token_loss"] < 0.5 * rows[0]["masked_token_loss"]
    assert last["split"] == "held_out"
    assert last["masked_token_accuracy"] > last["commonest_token_accuracy"] + 0.15

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    asked = tokenizer("The dog ran to the<|mask|>. The dog sat on the dog.", return_tensors="pt")
    place = asked.input_ids[0].tolist().index(tokenizer.mask_token_id)
    both, one = (
        kind.from_pretrained(tmp_path / "encoder").eval() for kind in (BertForPreTraining, AutoModelForMaskedLM)
    )
    with torch.no_grad():
        logits = one(**asked).logits
        torch.testing.assert_close(both(**asked).prediction_logits, logits, rtol=0, atol=1e-6)
    assert len(tokenizer) == 289
    assert one.config.vocab_size == 289
    assert one.config.max_position_embeddings == 64
    assert tokenizer.decode(logits[0, place].argmax()) in {f" {word}" for word in WORDS}


@pytest.mark.slow
def test_what_follows_is_told_by_its_subject(texts: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    """A quarter of the random segments have the same subject: 7 of 8 is the most that can be had."""
    values = {"optimizer": "muon", "num_train_epochs": 25, "documents": texts, "tokenizer": tokenizer_folder,
              "config": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}  # fmt: skip
    last = tiny.run_stage(pretrain, tmp_path / "encoder", **{**MASKED, "num_hidden_layers": 2, **values})[-1]
    assert last["next_sentence_accuracy"] > 0.75
    # Here nothing but the subject tells what follows, so within a document it cannot be told.
    assert last["same_document_accuracy"] == pytest.approx(0.5, abs=0.15)


def test_stopped_and_begun_again_it_ends_the_same(
    texts: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout."""
    values = {
        "documents": texts,
        "tokenizer": tokenizer_folder,
        "save_seconds": 0,
        "max_tokens": 6000,
        "eval_documents": 5,
        **MASKED,
    }
    hashes: list[str] = []

    def run(name: str) -> list[dict[str, Any]]:
        with tiny.begun(pretrain, tmp_path / name, **values) as (recipe, begun):
            pretrain.execute(recipe, begun)
            hashes.append(begun.finish())
        return tiny.read_metrics(tmp_path / name)

    whole = run("whole")
    log = Trainer.log

    def stop(self: Trainer, **numbers: Any) -> None:
        log(self, **numbers)
        if self.step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "log", stop)
        with pytest.raises(KeyboardInterrupt):
            run("cut")
    again = run("cut")
    assert "goes on from step 5 of" in (tmp_path / "cut" / "log.txt").read_text()
    assert hashes[0] == hashes[1]
    for one, two in zip(whole, again, strict=True):
        assert {**one, "tokens_per_second": 0} == {**two, "tokens_per_second": 0}


def test_tokens_computed_at_a_time_change_no_result(texts: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    common = {"documents": texts, "tokenizer": tokenizer_folder, "max_tokens": 1500, "eval_documents": 4, **MASKED,
              "config": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}}  # fmt: skip
    one = tiny.run_stage(pretrain, tmp_path / "a", max_batch_tokens=70, **common)
    two = tiny.run_stage(pretrain, tmp_path / "b", max_batch_tokens=4096, **common)
    assert len(one) == len(two) == 4
    for a, b in zip(one, two, strict=True):
        for name in ("loss", "gradient_norm", "masked_token_accuracy", "tokens"):
            if name in a:
                assert a[name] == pytest.approx(b[name], rel=1e-3)


def test_what_does_not_fit_is_refused(texts: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    def run(**values: Any) -> None:
        given = {"documents": texts, "tokenizer": tokenizer_folder, **MASKED, **values}
        tiny.run_stage(pretrain, tmp_path / "run", **given)

    with pytest.raises(SettingsError, match="'qwen3' does not fit: it needs an encoder: write architecture: bert"):
        run(architecture="qwen3")
    with pytest.raises(SettingsError, match="objective next_token: 'bert' does not fit: it needs a decoder"):
        run(objective="next_token")
    with pytest.raises(SettingsError, match="copy_share: belongs to objective next_token"):
        run(copy_share=0.1)
    with pytest.raises(SettingsError, match="max_length 7: too short for two segments"):
        run(max_length=7)
    alone = tiny.jsonl(tmp_path / "alone.jsonl", documents(1))
    with pytest.raises(RecordError, match=r"alone\.jsonl: 1 document to train on: .* needs two at least"):
        run(documents=alone)
    assert not (tmp_path / "run.partial").exists()


def test_several_processes_are_refused(
    texts: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "processes", lambda: 2)
    with pytest.raises(SettingsError, match="objective masked_token: it runs in one process"):
        tiny.run_stage(pretrain, tmp_path / "run", documents=texts, tokenizer=tokenizer_folder, **MASKED)


def test_an_encoder_is_no_chat_model(texts: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    """A course that gives it to sft, say, is told."""
    few = {**MASKED, "max_tokens": 600, "eval_documents": 0}
    tiny.run_stage(pretrain, tmp_path / "encoder", documents=texts, tokenizer=tokenizer_folder, **few)
    with pytest.raises(ModelError):
        checkpoint.load(tmp_path / "encoder")
