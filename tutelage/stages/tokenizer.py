"""documents -> tokenizer: pieces of text, learned on the training documents

Any text can be written in it and read back, byte for byte: its first tokens are the special ones, the next 256 are
the bytes, and the rest are what is frequent in the documents.

Source: byte-pair encoding, Sennrich, Haddow and Birch 2016, arXiv 1508.07909, on bytes, Radford et al. 2019; unigram,
Kudo 2018, arXiv 1804.10959. Words are split before as in GPT-4 and Llama 3: numbers in up to three digits, a space
with the word that it precedes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tutelage.corpus import columns, vocabulary
from tutelage.corpus.encoding import COMPARED, Encoder, pattern
from tutelage.errors import RecordError
from tutelage.model.chat import TEMPLATE
from tutelage.run import Run, write_json
from tutelage.sentences import counted
from tutelage.settings import Input

MAKES = "tokenizer"

PAD, END_OF_TEXT, END = "<|pad|>", "<|endoftext|>", "<|end|>"
SPECIAL = (PAD, END_OF_TEXT, "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", END)
"""Their ids are 0 to 6, in this order."""

MEASURED = 2_000_000
"""Characters of each language that are encoded for the report, at most."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How large a vocabulary, learned from what."""

    documents: Annotated[Path, Input("documents")]
    """What `prepare` made, or a file of documents. Held-out ones are not looked at."""
    vocab_size: Annotated[int, Field(ge=256 + len(SPECIAL), le=1_000_000)] = 4096
    """Tokens in all. A small model is better off with few: each costs a row of its embedding."""
    model: Literal["bpe", "unigram"] = "bpe"
    """bpe: pairs of tokens are joined, the most frequent first; unigram: of many pieces the most useful are kept, which
    takes minutes a megabyte."""
    digits: Literal["threes", "single", "runs"] = "threes"
    """Numbers in up to three digits, each digit alone (single), or whole (runs)."""
    han: Literal["words", "runs", "single"] = "words"
    """Chinese characters as other letters (words); never in a token with other letters (runs); each alone (single)."""
    spaces: Literal["runs", "single"] = "runs"
    """Several spaces or line ends as one token (runs), which code needs; or each alone (single)."""
    max_megabytes: Annotated[float, Field(gt=0)] = 20.0
    """Text to learn from, at most; chosen over all documents alike."""
    balance: Annotated[float, Field(ge=0, le=1)] = 1.0
    """How languages share that text: 1 as in the documents, 0 all alike, between them by a power of their sizes."""
    seed: int = 1
    """Chooses that text."""


def execute(recipe: Recipe, run: Run) -> None:
    """Writes ``tokenizer.json``, ``tokenizer_config.json``, ``chat_template.jinja`` and ``tokenizer_report.json``.

    Raises:
        RecordError: no document to train on.
    """
    languages = _held_out(recipe, run)
    texts, taken = columns.choose(lambda: columns.batches(recipe.documents), recipe.max_megabytes, recipe.seed,
                                  recipe.balance)  # fmt: skip
    cuts = pattern(recipe.digits, recipe.han, recipe.spaces)
    tokenizer = learn(run.progress(texts, "reading words", len(texts)), recipe.vocab_size, recipe.model, cuts)
    save(tokenizer, run.folder)

    measured = _measured(recipe, languages)
    encoder = Encoder(tokenizer, [text for found in measured.values() for text in found][:COMPARED])
    run.note(encoder.told)
    report = vocabulary.describe(tokenizer, encoder, measured, texts)
    report["special_tokens"] = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    report["learned_from"] = {"documents": len(texts), "bytes": sum(taken.values()), "languages": taken}
    report["encoder"] = encoder.told
    write_json(run.folder / "tokenizer_report.json", report)
    _tell(recipe, run, report)


def learn(
    texts: Iterable[str], vocab_size: int, model: Literal["bpe", "unigram"] = "bpe", cuts: str | None = None
) -> Tokenizer:
    """A tokenizer on bytes with our special tokens; the same texts give the same pairs. (The library adds up the
    probabilities of a unigram model in an order of its own: two of them differ in the third digit.)

    Args:
        texts: to learn from.
        vocab_size: tokens, at most.
        model: see `Recipe`.
        cuts: how text is cut into words; `tutelage.corpus.encoding.pattern`.
    """
    # All 256 bytes, whatever the text is made of: nothing is ever unknown.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    shared: dict[str, Any] = {"vocab_size": vocab_size, "special_tokens": list(SPECIAL), "initial_alphabet": alphabet}
    if model == "bpe":
        tokenizer = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(min_frequency=2, show_progress=False, **shared)
    else:
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(show_progress=False, **shared)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([  # pyright: ignore[reportAttributeAccessIssue]
        pre_tokenizers.Split(Regex(cuts or pattern()), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes what ``transformers.AutoTokenizer.from_pretrained(folder)`` loads."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[token for token in SPECIAL if token not in (PAD, END)],
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(str(folder))


def _held_out(recipe: Recipe, run: Run) -> Counter[str]:
    """Held-out documents of each language.

    Raises:
        RecordError: nothing to train on.
    """
    languages: Counter[str] = Counter()
    documents = 0
    for batch in run.progress(columns.batches(recipe.documents), "reading documents"):
        documents += len(batch)
        languages.update(name for name, held in zip(batch.languages, batch.held_out, strict=True) if held)
    if languages.total() == documents:
        raise RecordError(f"{recipe.documents}: no document with split train: all {documents} are held out")
    return languages


def _measured(recipe: Recipe, held_out: Counter[str]) -> dict[str, list[str]]:
    """Texts to measure by, of each language: held-out ones, or training ones where none is held out."""
    found: dict[str, list[str]] = {}
    sizes: Counter[str] = Counter()
    for batch in columns.batches(recipe.documents):
        for place, (language, held) in enumerate(zip(batch.languages, batch.held_out, strict=True)):
            if held == bool(held_out) and sizes[language] < MEASURED:
                text = batch.texts[place].as_py()
                if not sizes[language] or sizes[language] + len(text) <= MEASURED:
                    found.setdefault(language, []).append(text)
                sizes[language] += len(text)
    return found


def _tell(recipe: Recipe, run: Run, report: dict[str, Any]) -> None:
    known = report["languages"]
    run.measure(
        0,
        vocab_size=report["vocab_size"],
        documents=report["learned_from"]["documents"],
        tokens_per_han_character=report["tokens_per_han_character"],
        **{f"bytes_per_token_{name}": told["bytes_per_token"] for name, told in known.items()},
    )
    rates = ", ".join(f"{told['bytes_per_token']} bytes a token ({name})" for name, told in known.items())
    run.note(
        f"{report['vocab_size']:,} tokens, "
        f"learned from {counted(report['learned_from']['documents'], 'document')}: {rates}"
    )
    if report["vocab_size"] < recipe.vocab_size:
        run.note(f"fewer than the {recipe.vocab_size:,} asked for: the documents have no more pairs that repeat")
    if report["round_trip"]["changed"]:
        changed = counted(report["round_trip"]["changed"], "text")
        run.note(f"not as it was when it comes back: {changed}: see tokenizer_report.json")
