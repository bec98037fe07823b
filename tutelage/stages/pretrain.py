"""documents -> base model, by predicting the next token; or an encoder, by predicting hidden ones

The model is a transformers decoder with fresh weights. Documents are encoded once, laid one after the other, those of
one module together, and cut into pieces of `max_length` tokens; pieces never see each other. They are read from the
disk as they are needed.

With `objective: masked_token` it is an encoder instead, which reads pairs of segments in both directions and guesses
the tokens that are hidden in them, and whether the second segment follows the first.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from huggingface_hub.errors import StrictDataclassError
from pydantic import Field
from transformers import AutoConfig, BertForPreTraining, PreTrainedModel

from tutelage.corpus import mixing, shards, tokens
from tutelage.corpus.pieces import Cut, Loader, Steps
from tutelage.errors import RecordError, SettingsError
from tutelage.model import checkpoint, device, distribution, encoder
from tutelage.model.chat import Chat
from tutelage.model.encoder import Marks
from tutelage.records import Document, read
from tutelage.run import Run, processes, rank, write_json
from tutelage.sentences import counted
from tutelage.settings import Input
from tutelage.training import masking
from tutelage.training.batches import Batch, Example, continuation, flat, micro, plan
from tutelage.training.lanes import Losses
from tutelage.training.likelihood import bits_per_byte_of, document_end, self_check, token_log_probabilities
from tutelage.training.masking import Sentence
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
    objective: Literal["next_token", "masked_token"] = "next_token"
    """next_token: a decoder that guesses each next token; masked_token: an encoder (`architecture: bert`) that guesses
    hidden tokens, and whether one segment follows another."""
    architecture: str = "qwen3"
    """Any decoder of transformers, such as qwen3, llama, mistral, gemma2, gpt2; or the encoder bert."""
    hidden_size: Annotated[int, Field(gt=0)] = 256
    """Width of the hidden states."""
    num_hidden_layers: Annotated[int, Field(gt=0)] = 4
    """Number of blocks."""
    num_attention_heads: Annotated[int, Field(gt=0)] = 4
    """Heads in each block."""
    intermediate_size: Annotated[int, Field(ge=0)] = 0
    """Width inside the feed-forward layers; 0 for three times the hidden size, four times in an encoder."""
    config: dict[str, Any] | None = None
    """More keys for the architecture's config, by its own names."""
    max_length: Annotated[int, Field(gt=1)] = 512
    """Tokens of a piece or pair; a decoder's context is four times that at most."""
    packing: Literal["concatenate", "none"] = "concatenate"
    """concatenate: documents of one module or file follow each other in a piece and see each other; none: a piece is
    of one document. For next_token."""
    copy_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the reading that comes first and is short texts, each twice in a row. A small model learns early to copy
    from its context that way, which it otherwise learns late or never. For next_token."""
    batch_tokens: Annotated[int, Field(gt=0)] = 8192
    """Tokens of a step."""
    max_tokens: Annotated[int, Field(ge=0)] = 0
    """Stop after so many tokens; 0 reads every document once, or `num_train_epochs` times."""
    num_train_epochs: Annotated[float, Field(gt=0)] = 1
    """How often each document is read, where `max_tokens` does not stop before."""
    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """How much sources weigh, by name or pattern, such as `{"novels/*": 3}`: as if each of their documents were there
    so often; 0 leaves them out, and what is not named weighs 1. For next_token."""
    eval_documents: Annotated[int, Field(ge=0)] = 100
    """Held-out documents that are measured at the end: by bits per byte, or by what is guessed rightly."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.1


def execute(recipe: Recipe, run: Run) -> None:
    """Pretrains and saves the base model, or the encoder.

    Raises:
        SettingsError: an architecture that cannot be made or does not fit the objective, or no document to learn from.
        RecordError: one document alone, where a pair needs two.
    """
    where = device.prepare(recipe.seed, recipe.bf16)
    chat = Chat.load(recipe.tokenizer)
    (_masked_token if recipe.objective == "masked_token" else _next_token)(recipe, chat, where, run)


def _next_token(recipe: Recipe, chat: Chat, where: torch.device, run: Run) -> None:
    config = configured(recipe, len(chat.tokenizer), chat)
    folder = _encoded(recipe, chat, run)
    facts = shards.read_index(folder)["facts"]
    mixture = _mixed(recipe, facts, run)
    loader = _loader(recipe, folder, mixture)
    steps = Steps([*_copies(recipe, folder, mixture), (loader, 1)], recipe.batch_tokens)

    model = checkpoint.create(config, recipe.seed)
    self_check(model, flat([continuation(piece.tokens.tolist()) for piece in loader.peek(2)]).to(where))
    run.note(_size(model, steps.tokens, counted(steps.pieces, "piece"), len(steps)))
    model.train()
    trainer = Trainer(run, model, recipe, len(steps), memory={"reading": steps.state_dict()}, longest=recipe.max_length)
    steps.load_state_dict(trainer.memory["reading"])
    pieces: list[Example] = []

    def losses(_: list[int], batch: Batch, step: Sequence[int]) -> Losses:
        supervised = sum(pieces[i].supervised for i in step)
        loss = -token_log_probabilities(model, batch, alike=True).sum() / supervised
        yield loss, {"tokens": len(batch.ids)}

    for step in trainer.steps():
        pieces = [continuation(ids) for ids in steps.take(step)]
        trainer.learn(range(len(pieces)), pieces, losses)
        trainer.update()
        trainer.memory["reading"] = steps.state_dict()

    model.eval()
    if facts["held_out"]:
        bits = bits_per_byte_of(model, chat, facts["held_out"], recipe.max_length)
        run.measure(len(steps), split="held_out", bits_per_byte=bits)
        run.note(f"held-out bits per byte {bits:.3f}")
    model.generation_config.eos_token_id = sorted({*chat.stops, document_end(chat)})  # pyright: ignore
    model.generation_config.pad_token_id = chat.tokenizer.pad_token_id  # pyright: ignore
    checkpoint.save(model, chat, run.folder)


def _masked_token(recipe: Recipe, chat: Chat, where: torch.device, run: Run) -> None:
    """The loss of a step: the mean over its masked tokens, plus the mean over its pairs."""
    for name in ("copy_share", "weights"):
        if getattr(recipe, name):
            raise SettingsError(f"{name}: belongs to objective next_token: leave it out")
    if processes() > 1:
        raise SettingsError("objective masked_token: it runs in one process: start it without torchrun")
    if recipe.max_length < 8:
        raise SettingsError(f"max_length {recipe.max_length}: too short for two segments: give 8 or more")
    marks = encoder.add_marks(chat.tokenizer)
    config = configured(recipe, marks.vocabulary, chat)
    train, held_out = _sentences(recipe, chat, run)
    pairs = masking.pairs(train, recipe.max_length, random.Random(f"{recipe.seed}:pairs"))
    sizes = [pair.tokens for pair in pairs]
    steps = _until(recipe, plan(sizes, recipe.batch_tokens, recipe.num_train_epochs, recipe.seed))

    model = encoder.create(config, recipe.seed)
    what = f"{counted(len(pairs), 'pair')} of {counted(len(train), 'document')}"
    run.note(_size(model, sum(sizes), what, len(steps)))
    model.train()
    trainer = Trainer(run, model, recipe, steps=len(steps), longest=max(sizes))
    for step in trainer.steps():
        rng = random.Random(f"{recipe.seed}:masks:{step}")
        masked = sum(pairs[i].masked for i in steps[step])
        for chosen in micro(steps[step], [sizes[i] for i in steps[step]], recipe.max_batch_tokens):
            row = masking.row([pairs[i] for i in chosen], marks, rng, where)
            guesses = masking.guesses(model, row)
            token_loss = -guesses.tokens.sum() / masked
            pair_loss = -guesses.follows.sum() / len(steps[step])
            trainer.backward(
                token_loss + pair_loss,
                tokens=len(row.ids),
                masked_token_loss=token_loss,
                masked_token_accuracy=guesses.tokens_right.sum() / masked,
                next_sentence_loss=pair_loss,
                next_sentence_accuracy=guesses.follows_right.sum() / len(steps[step]),
            )
        trainer.update()

    model.eval()
    common = Counter(token for document in train for sentence in document for token in sentence.following)
    _measure(model, marks, held_out, common.most_common(1)[0][0], recipe, run, len(steps))
    encoder.save(model, chat.tokenizer, run.folder)


def _measure(
    model: BertForPreTraining, marks: Marks, held_out: list[list[Sentence]], common: int, recipe: Recipe, run: Run,
    step: int,
) -> None:  # fmt: skip
    """Held-out documents: what the encoder guesses rightly. ``common``: the commonest token of training.

    A next sentence is told from one of another document by its subject alone, so it is also told from other sentences
    of the same document, where these are long enough. One half is chance in both.
    """
    if len(held_out) < 2:
        run.note(f"{counted(len(held_out), 'held-out document')}: at least two are needed to measure")
        return
    rng = random.Random(f"{recipe.seed}:held_out")
    others = masking.pairs(held_out, recipe.max_length, rng)
    near = masking.pairs(held_out, recipe.max_length, rng, same_document=True)
    targets, found = masking.answers(model, others, marks, rng, recipe.max_batch_tokens)
    numbers = {
        "masked_token_loss": -float(found.tokens.double().mean()),
        "masked_token_accuracy": float(found.tokens_right.mean()),
        "commonest_token_accuracy": float((targets == common).float().mean()),
        "next_sentence_accuracy": masking.balanced(others, found.follows_right),
    }
    if {pair.follows for pair in near} == {True, False}:
        _, found = masking.answers(model, near, marks, rng, recipe.max_batch_tokens)
        numbers |= {"same_document_accuracy": masking.balanced(near, found.follows_right)}
    run.measure(step, split="held_out", **numbers)
    run.note("held-out: " + ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in numbers.items()))


def _until(recipe: Recipe, steps: list[list[int]]) -> list[list[int]]:
    """The steps until `max_tokens`."""
    return steps[: max(1, math.ceil(recipe.max_tokens / recipe.batch_tokens))] if recipe.max_tokens else steps


def _size(model: PreTrainedModel, tokens: float, what: str, steps: int) -> str:
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    size = f"{parameters:.2f} M parameters, {tokens / 1e6:.2f} M tokens"
    return f"{size} in {what}, {counted(steps, 'step')}, {device.describe()}"


def _encoded(recipe: Recipe, chat: Chat, run: Run) -> Path:
    """The token shards of the documents; written by one process, and only once."""
    folder = run.checkpoint / "tokens"
    wanted = tokens.Wanted(
        weights=recipe.weights or {}, most=recipe.max_tokens, held_out=recipe.eval_documents, seed=recipe.seed
    )
    if rank():
        while distribution.largest(0):  # until the first process is done
            pass
    elif not _whole(folder, run):
        written = tokens.write(recipe.documents, folder, chat.backend, document_end(chat), wanted, device.threads())
        told = ""
        for word in run.progress(written, "encoding"):
            distribution.largest(1)
            told = word
        run.note(told)
    if not rank():
        distribution.largest(0)
    return folder


def _whole(folder: Path, run: Run) -> bool:
    """Whether the shards of a half run are there, bit for bit."""
    if not folder.exists():
        return False
    try:
        shards.verify(folder)
    except RecordError as error:
        run.note(str(error))
        return False
    return True


def _mixed(recipe: Recipe, facts: dict[str, Any], run: Run) -> mixing.Mixture:
    """How often each source is read: told, and kept in ``reading.json``."""
    sizes = {name: group["tokens"] for name, group in facts["groups"].items()}
    weights = recipe.weights or {}
    total = recipe.num_train_epochs * sum(weights.get(name, 1.0) * size for name, size in sizes.items())
    if recipe.max_tokens:
        total = min(total, (1 - recipe.copy_share) * recipe.max_tokens)
    mixture = mixing.plan(sizes, {name: weights[name] for name in weights if name in sizes}, total=total)
    for name, share in mixture.sources.items():
        group = facts["groups"][name]
        about = "" if group["counted"] else "about "
        run.note(
            f"{name} ({counted(len(group['sources']), 'source')}): "
            f"{counted(group['documents'], 'document')}, {about}{counted(share.size, 'token')}, "
            f"weight {share.weight:g}, {share.epochs:.2f} epochs, {share.share:.1%} of what is read"
        )
    for warning in mixture.warnings:
        run.note(f"beware: {warning}")
    write_json(run.folder / "reading.json", {**mixture.card(), "groups": facts["groups"]})
    return mixture


def _loader(recipe: Recipe, folder: Path, mixture: mixing.Mixture) -> Loader:
    """All pieces. They overlap by one token, so that every token but a text's first is predicted exactly once."""
    cut = Cut(recipe.max_length, overlap=1, alone=recipe.packing == "none")
    return Loader(folder, cut, seed=recipe.seed, epochs=_epochs(folder, mixture))


def _copies(recipe: Recipe, folder: Path, mixture: mixing.Mixture) -> list[tuple[Loader, int]]:
    """Short pieces, each read twice in a row: the second time it can be copied from the first."""
    if not recipe.copy_share:
        return []
    cut = Cut(min(COPIED, recipe.max_length // 2), alone=recipe.packing == "none")
    often = recipe.copy_share / (1 - recipe.copy_share) / 2
    epochs = {name: often * epochs for name, epochs in _epochs(folder, mixture).items()}
    return [(Loader(folder, cut, seed=f"{recipe.seed}:copies", epochs=epochs), 2)]


def _epochs(folder: Path, mixture: mixing.Mixture) -> dict[str, float]:
    """How often each source's shards are read; they may hold only a part of it."""
    held = {source["name"]: source["reading"]["tokens"] for source in shards.read_index(folder)["sources"]}
    whole = {name: mixture.sources[name] for name in held}
    return {name: whole[name].epochs * whole[name].size / tokens for name, tokens in held.items()}


def _sentences(recipe: Recipe, chat: Chat, run: Run) -> tuple[list[list[Sentence]], list[list[Sentence]]]:
    """Training documents as sentences, in the seed's order, and held-out ones. With `max_tokens`, only what is needed.

    Raises:
        RecordError: fewer than two documents to train on.
    """
    texts: dict[bool, list[str]] = {True: [], False: []}
    for document in read(recipe.documents, Document):
        texts[document.split == "train"].append(document.text)
    rng = random.Random(recipe.seed)
    rng.shuffle(texts[True])
    rng.shuffle(texts[False])
    train: list[list[Sentence]] = []
    tokens = 0
    for text in run.progress(texts[True], "encoding"):
        if recipe.max_tokens and tokens >= recipe.max_tokens and len(train) > 1:
            break
        found = masking.split(text, chat)
        tokens += sum(len(sentence.following) for sentence in found)
        train += [found] if found else []
    if len(train) < 2:
        raise RecordError(
            f"{recipe.documents}: {counted(len(train), 'document')} to train on: objective masked_token needs two at "
            "least, as half of the second sentences are from another document: split the text, "
            "or write objective: next_token"
        )
    held_out = [masking.split(text, chat) for text in texts[False][: recipe.eval_documents]]
    return train, [document for document in held_out if document]


def configured(recipe: Recipe, vocabulary: int, chat: Chat | None) -> Any:
    """The architecture's config for a recipe; chat: knows the ids of the tokens that end a turn and that pad.

    Raises:
        SettingsError: the architecture does not fit the objective, or transformers refuses the shape.
    """
    masked = recipe.objective == "masked_token"
    if masked != (recipe.architecture in encoder.ARCHITECTURES):
        wanted = "an encoder: write architecture: bert" if masked else "a decoder, or objective: masked_token"
        raise SettingsError(f"objective {recipe.objective}: {recipe.architecture!r} does not fit: it needs {wanted}")
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": recipe.hidden_size,
        "num_hidden_layers": recipe.num_hidden_layers,
        "num_attention_heads": recipe.num_attention_heads,
        "intermediate_size": recipe.intermediate_size or (4 if masked else 3) * recipe.hidden_size,
        "max_position_embeddings": recipe.max_length if masked else 4 * recipe.max_length,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": chat and chat.end,
        "pad_token_id": chat and chat.tokenizer.pad_token_id,
    }
    if not masked:
        shape |= {
            "num_key_value_heads": recipe.num_attention_heads,
            "head_dim": recipe.hidden_size // recipe.num_attention_heads,
            "use_cache": True,
        }
    shape |= recipe.config or {}
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
