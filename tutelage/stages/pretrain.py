"""documents -> base model, by predicting the next token

The model is a transformers decoder with fresh weights. Documents are laid one after the other, those of one
module together, and cut into pieces of `max_length` tokens; pieces never see each other.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from huggingface_hub.errors import StrictDataclassError
from pydantic import Field
from transformers import AutoConfig

from tutelage.errors import SettingsError
from tutelage.model import checkpoint, device
from tutelage.model.chat import Chat
from tutelage.records import Document, read
from tutelage.run import Run
from tutelage.settings import Input
from tutelage.training.batches import Branch, Example, concatenated, documents, flat, plan, rows
from tutelage.training.likelihood import bits_per_byte_of, document_end, self_check, token_log_probabilities
from tutelage.training.optimizer import Learning
from tutelage.training.trainer import Trainer

MAKES = "model"

COPIED = 64
"""Tokens of a text that is read twice."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Learning):
    documents: Annotated[Path, Input("documents")]
    """What to read: a prepare run, or Documents in JSONL or Parquet."""
    tokenizer: Annotated[Path, Input("tokenizer")]
    """A tokenizer run, or any folder with a tokenizer and a chat template."""
    architecture: str = "qwen3"
    """Which decoder: any model type of transformers, such as qwen3, llama, mistral, gemma2, gpt2."""
    hidden_size: Annotated[int, Field(gt=0)] = 256
    """Width of the hidden states."""
    num_hidden_layers: Annotated[int, Field(gt=0)] = 4
    """Number of blocks."""
    num_attention_heads: Annotated[int, Field(gt=0)] = 4
    """Heads in each block."""
    intermediate_size: Annotated[int, Field(ge=0)] = 0
    """Width inside the feed-forward layers; 0 for three times the hidden size."""
    config: dict[str, Any] | None = None
    """More keys for the architecture's config, by its own names."""
    max_length: Annotated[int, Field(gt=1)] = 512
    """Tokens of a piece; the model's context is four times that at most."""
    packing: Literal["concatenate", "none"] = "concatenate"
    """concatenate: documents of one module or file follow each other in a piece and see each other; none: a piece is
    of one document."""
    copy_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the reading that comes first and is short texts, each twice in a row. A small model learns early to copy
    from its context that way, which it otherwise learns late or never."""
    batch_tokens: Annotated[int, Field(gt=0)] = 8192
    """Tokens of a step."""
    max_tokens: Annotated[int, Field(ge=0)] = 0
    """Stop after so many tokens; 0 reads every document once, or `num_train_epochs` times."""
    num_train_epochs: Annotated[float, Field(gt=0)] = 1
    """How often each document is read, where `max_tokens` does not stop before."""
    eval_documents: Annotated[int, Field(ge=0)] = 100
    """Held-out documents whose bits per byte are measured at the end."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.1


def execute(recipe: Recipe, run: Run) -> None:
    """Pretrains and saves the base model."""
    where = device.prepare(recipe.seed)
    chat = Chat.load(recipe.tokenizer)
    pieces, held_out = _pieces(recipe, chat, run)
    sizes = [piece.tokens for piece in pieces]
    copies = _copies(recipe, pieces)
    first = plan([piece.tokens for piece in copies], recipe.batch_tokens, 1, recipe.seed) if copies else []
    steps = [[len(pieces) + i for i in step] for step in first]
    steps += plan(sizes, recipe.batch_tokens, recipe.num_train_epochs, recipe.seed)
    pieces += copies
    if recipe.max_tokens:
        steps = steps[: max(1, math.ceil(recipe.max_tokens / recipe.batch_tokens))]

    model = checkpoint.create(_config(recipe, chat), recipe.seed)
    self_check(model, flat(pieces[:2]).to(where))
    run.note(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {sum(sizes) / 1e6:.2f} M tokens in "
        f"{len(pieces)} pieces, {len(steps)} steps, {device.describe()}"
    )
    model.train()
    trainer = Trainer(run, model, recipe, steps=len(steps))
    for step in trainer.steps():
        supervised = sum(pieces[i].supervised for i in steps[step])
        for _, batch in rows(steps[step], pieces, recipe.max_batch_tokens, where):
            loss = -token_log_probabilities(model, batch).sum() / supervised
            trainer.backward(loss, tokens=len(batch.ids))
        trainer.update()

    model.eval()
    if held_out:
        bits = bits_per_byte_of(model, chat, held_out, recipe.max_length)
        run.measure(len(steps), split="held_out", bits_per_byte=bits)
        run.note(f"held-out bits per byte {bits:.3f}")
    model.generation_config.eos_token_id = sorted({*chat.stops, document_end(chat)})  # pyright: ignore
    model.generation_config.pad_token_id = chat.tokenizer.pad_token_id  # pyright: ignore
    checkpoint.save(model, chat, run.folder)


def _pieces(recipe: Recipe, chat: Chat, run: Run) -> tuple[list[Example], list[str]]:
    """Training pieces, and the held-out texts to measure on. With `max_tokens`, only what is needed is encoded."""
    modules: dict[str, list[str]] = {}
    held_out: list[str] = []
    for document in read(recipe.documents, Document):
        if document.split == "train":
            modules.setdefault(document.metadata.get("module", document.id), []).append(document.text)
        else:
            held_out.append(document.text)
    rng = random.Random(recipe.seed)
    neighbours = list(modules.values())
    rng.shuffle(neighbours)
    rng.shuffle(held_out)
    end = document_end(chat)
    wanted = recipe.max_tokens or None
    pieces: list[Example] = []
    rest: list[int] = []
    tokens = 0
    for texts in run.progress(neighbours, "encoding"):
        encoded = [chat.text(text) for text in texts]
        if recipe.packing == "none":
            added = documents(encoded, end, recipe.max_length)
        else:
            added, rest = concatenated([rest, *encoded], end, recipe.max_length)
        pieces += added
        tokens += sum(piece.tokens for piece in added)
        if wanted is not None and tokens >= wanted:
            break
    else:
        pieces += documents([rest], None, recipe.max_length) if len(rest) > 1 else []
    if not pieces:
        raise SettingsError(f"{recipe.documents}: no document of the train split is long enough to learn from")
    return pieces, held_out[: recipe.eval_documents]


def _copies(recipe: Recipe, pieces: list[Example]) -> list[Example]:
    """The last pieces, cut short, each read twice: the second time it can be copied from the first."""
    wanted = recipe.copy_share * sum(piece.tokens for piece in pieces)
    copies: list[Example] = []
    half = min(COPIED, recipe.max_length // 2)
    for piece in reversed(pieces):
        ids = piece.branches[0].ids
        for start in range(0, len(ids) - half + 1, half):
            if wanted <= 0:
                return copies
            twice = ids[start : start + half] * 2
            copies.append(Example([], [Branch(twice, [False] + [True] * (len(twice) - 1))]))
            wanted -= len(twice)
    return copies


def _config(recipe: Recipe, chat: Chat) -> Any:
    vocabulary = len(chat.tokenizer)
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": recipe.hidden_size,
        "num_hidden_layers": recipe.num_hidden_layers,
        "num_attention_heads": recipe.num_attention_heads,
        "num_key_value_heads": recipe.num_attention_heads,
        "head_dim": recipe.hidden_size // recipe.num_attention_heads,
        "intermediate_size": recipe.intermediate_size or 3 * recipe.hidden_size,
        "max_position_embeddings": 4 * recipe.max_length,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": chat.end,
        "pad_token_id": chat.tokenizer.pad_token_id,
        "use_cache": True,
        **(recipe.config or {}),
    }
    if recipe.hidden_size % recipe.num_attention_heads:
        raise SettingsError(
            f"hidden_size {recipe.hidden_size} is not a multiple of num_attention_heads {recipe.num_attention_heads}"
        )
    try:
        config = AutoConfig.for_model(recipe.architecture, **shape)
    except (ValueError, TypeError, StrictDataclassError) as error:
        first = str(error.__cause__ or error).splitlines()[0][:200]
        raise SettingsError(f"architecture: {recipe.architecture!r} of {json.dumps(shape)[:80]}...: {first}") from None
    return config
