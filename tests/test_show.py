"""What `show` colours is what a trainer trains."""

from pathlib import Path

import pytest
from rich.text import Text
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tutelage import records
from tutelage.errors import ModelError
from tutelage.model.chat import TEMPLATE, Chat
from tutelage.records import Conversation, Message
from tutelage.run import Run
from tutelage.show import MARK, READ, TRAINED, TRAINED_MARK, show

SPECIAL = ["<|pad|>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a tokenizer of single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*SPECIAL, *alphabet])}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(SPECIAL)
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<|pad|>", eos_token="<|endoftext|>")
    fast.chat_template = TEMPLATE
    path = tmp_path_factory.mktemp("course") / "tokenizer"
    with Run.begin(path, "tokenizer", {}, [], quiet=True) as run:
        fast.save_pretrained(run.folder)
        run.finish()
    return path


def conversations(path: Path) -> Path:
    turns = (("user", "hi <|end|>"), ("assistant", "好"), ("user", "?"), ("assistant", "b"))
    messages = tuple(Message(role=role, content=content) for role, content in turns)  # type: ignore[arg-type]
    records.write(path, [Conversation(id="one", messages=messages, task="greet")])
    return path


def styled(text: Text) -> list[tuple[str, str]]:
    return [(text.plain[span.start : span.end], str(span.style)) for span in text.spans if str(span.style) != "dim"]


def test_tokens_are_coloured_as_they_are_trained(tmp_path: Path, tokenizer: Path) -> None:
    file = conversations(tmp_path / "c.jsonl")
    parts = list(show(file, str(tokenizer)))
    text = next(part for part in parts if isinstance(part, Text) and "<|user|>" in part.plain)
    pieces = styled(text)
    assert pieces[:3] == [("<|user|>", MARK), ("h", READ), ("i", READ)]
    # A mark that is only written, by a person, is plain text.
    assert ("<|end|>", READ) not in pieces
    assert [piece for piece, style in pieces if style == READ][:10] == list("hi <|end|>")
    assert [piece for piece, style in pieces if style == TRAINED] == ["好", "b"]  # three bytes, one character
    assert [piece for piece, style in pieces if style == TRAINED_MARK] == ["<|end|>", "<|end|>"]
    assert [piece for piece, style in pieces if style == MARK] == [
        "<|user|>", "<|end|>", "<|assistant|>", "<|user|>", "<|end|>", "<|assistant|>",
    ]  # fmt: skip
    encoded = Chat.load(tokenizer).encode(next(records.read(file, Conversation)).messages)
    assert f"{len(encoded.ids)} tokens, {sum(encoded.trained)} trained" in [str(part) for part in parts]


def test_without_colours_what_is_trained_stands_in_brackets(tmp_path: Path, tokenizer: Path) -> None:
    parts = [str(part) for part in show(conversations(tmp_path / "c.jsonl"), str(tokenizer), brackets=True)]
    (text,) = [part for part in parts if "<|user|>" in part]
    assert text.replace("·", "").endswith("<|assistant|>⟦好<|end|>⟧<|user|>?<|end|><|assistant|>⟦b<|end|>⟧")


def test_the_tokenizer_of_the_same_course_is_found(tmp_path: Path, tokenizer: Path) -> None:
    folder = tokenizer.parent / "instruct"
    folder.mkdir(exist_ok=True)
    conversations(folder / "conversations.jsonl")
    assert any("<|user|>" in str(part) for part in show(folder))
    assert not any("<|user|>" in str(part) for part in show(conversations(tmp_path / "c.jsonl")))


def test_foreign_shapes_are_shown_as_they_are_read(tmp_path: Path, tokenizer: Path) -> None:
    file = tmp_path / "alpaca.jsonl"
    file.write_text('{"instruction": "Say a.", "input": "", "output": "a"}\n' * 2)
    (text,) = [part for part in show(file, str(tokenizer), 1) if isinstance(part, Text) and "<|user|>" in part.plain]
    assert [piece for piece, style in styled(text) if style == TRAINED] == ["a"]
    kto = tmp_path / "kto.jsonl"
    kto.write_text('{"prompt": "Say a.", "completion": "a", "label": true}\n')
    assert any("good" in str(part) for part in show(kto, str(tokenizer)))
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "Say a.", "chosen": "a", "rejected": "b"}\n')
    shown = [str(part) for part in show(pairs, str(tokenizer))]
    assert [part for part in shown if "rank" in part] == ["[bold]rank 1[/bold]", "[bold]rank 2[/bold]"]


def test_a_model_without_tokenizer_is_told(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match="no tokenizer: it needs tokenizer"):
        list(show(conversations(tmp_path / "c.jsonl"), str(tmp_path / "model")))
