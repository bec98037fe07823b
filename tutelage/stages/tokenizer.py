"""documents -> tokenizer: byte-level pairs, learned on the training documents

Any text can be written in it and read back, byte for byte: its first tokens are the special ones, the next 256 are
the bytes, and the rest are what is frequent in the documents.

Source: Sennrich, Haddow and Birch 2016, arXiv 1508.07909 (byte-pair encoding); Radford et al. 2019 (on bytes). Words
are split before as in GPT-4 and Llama 3: numbers in up to three digits, a space with the word that it precedes.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tutelage.corpus.languages import han_characters
from tutelage.errors import RecordError
from tutelage.model.chat import TEMPLATE
from tutelage.records import Document, read
from tutelage.run import Run, write_json
from tutelage.settings import Input

MAKES = "tokenizer"

PAD, END_OF_TEXT, END = "<|pad|>", "<|endoftext|>", "<|end|>"
SPECIAL = (PAD, END_OF_TEXT, "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", END)
"""Their ids are 0 to 6, in this order."""

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How text is cut before pairs are joined: no token reaches over such a border."""

COMMON_HAN = (
    "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学"
    "么之都好看起发当没成只如事把还用第样道想作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱"
)
"""Frequent Chinese characters, to measure by where the documents have none."""

SAMPLE_WORDS = 20
MEASURED = 2_000_000
"""Characters of each language that are encoded for the report, at most."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How large a vocabulary, learned from what."""

    documents: Annotated[Path, Input("documents")]
    """What `prepare` made, or a file of documents. Held-out ones are not looked at."""
    vocab_size: Annotated[int, Field(ge=256 + len(SPECIAL), le=1_000_000)] = 4096
    """Tokens in all. A small model is better off with few: each costs a row of its embedding."""
    max_megabytes: Annotated[float, Field(gt=0)] = 20.0
    """Text to learn from, at most; chosen over all documents alike."""
    seed: int = 1
    """Chooses that text."""


def execute(recipe: Recipe, run: Run) -> None:
    """Writes ``tokenizer.json``, ``tokenizer_config.json``, ``chat_template.jinja`` and ``tokenizer_report.json``.

    Raises:
        RecordError: no document to train on.
    """
    documents = list(run.progress(read(recipe.documents, Document), "reading documents"))
    training = [document for document in documents if document.split == "train"]
    if not training:
        raise RecordError(f"{recipe.documents}: no document with split train: all {len(documents)} are held out")
    texts = choose(training, recipe.max_megabytes, recipe.seed)
    tokenizer = learn(run.progress(texts, "reading words", len(texts)), recipe.vocab_size)
    save(tokenizer, run.folder)

    held_out = [document for document in documents if document.split == "held_out"]
    report = describe(tokenizer, held_out or training, training)
    report["learned_from"] = {"documents": len(texts), "bytes": sum(len(text.encode()) for text in texts)}
    write_json(run.folder / "tokenizer_report.json", report)
    per_token = {f"bytes_per_token_{name}": known["bytes_per_token"] for name, known in report["languages"].items()}
    run.measure(
        0,
        vocab_size=report["vocab_size"],
        documents=len(texts),
        tokens_per_han_character=report["tokens_per_han_character"],
        **per_token,
    )
    rates = ", ".join(
        f"{known['bytes_per_token']} bytes a token ({name})" for name, known in report["languages"].items()
    )
    run.note(f"{report['vocab_size']:,} tokens, learned from {len(texts):,} documents: {rates}")
    if report["vocab_size"] < recipe.vocab_size:
        run.note(f"fewer than the {recipe.vocab_size:,} asked for: the documents have no more pairs that repeat")


def choose(documents: Sequence[Document], megabytes: float, seed: int) -> list[str]:
    """Texts of at most so many megabytes of UTF-8 (at least one text), drawn by a hash of seed and id."""
    ordered = sorted(documents, key=lambda document: (_draw(document.id, seed), document.text))
    chosen: list[str] = []
    left = megabytes * 1e6
    for document in ordered:
        size = len(document.text.encode())
        if chosen and size > left:
            break
        chosen.append(document.text)
        left -= size
    return chosen


def learn(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer with our special tokens; the same texts give the same tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([  # pyright: ignore[reportAttributeAccessIssue]
        pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        # All 256 bytes, whatever the text is made of: nothing is ever unknown.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
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


def describe(tokenizer: Tokenizer, measured: Sequence[Document], training: Sequence[Document]) -> dict[str, Any]:
    """What a user asks of a tokenizer: characters and bytes per token in each language, measured on ``measured``;
    tokens per Chinese character; and how words, from frequent to rare in ``training``, are cut."""
    languages: dict[str, dict[str, float]] = {}
    for language in sorted({document.language for document in measured}):
        texts = _some(document.text for document in measured if document.language == language)
        characters, tokens = sum(map(len, texts)), _count(tokenizer, texts)
        languages[language] = {
            "characters": characters,
            "tokens": tokens,
            "characters_per_token": round(characters / tokens, 3),
            "bytes_per_token": round(sum(len(text.encode()) for text in texts) / tokens, 3),
        }
    han = [found for document in measured if (found := han_characters(document.text))] or [COMMON_HAN]
    han = _some(han)
    return {
        "vocab_size": tokenizer.get_vocab_size(),
        "special_tokens": {token: tokenizer.token_to_id(token) for token in SPECIAL},
        "languages": languages,
        "tokens_per_han_character": round(_count(tokenizer, han) / sum(map(len, han)), 3),
        "words": [{"word": word, "pieces": _cut(tokenizer, word)} for word in _sample_words(training)],
    }


def _draw(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()


def _some(texts: Iterable[str]) -> list[str]:
    """The first of the texts, up to `MEASURED` characters, and at least one."""
    found: list[str] = []
    left = MEASURED
    for text in texts:
        if found and len(text) > left:
            break
        found.append(text)
        left -= len(text)
    return found


def _count(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    return sum(len(found.ids) for found in tokenizer.encode_batch_fast(list(texts)))


def _sample_words(documents: Sequence[Document]) -> list[str]:
    """Words of four letters and more, or Chinese runs of two and more, from the most frequent to the rare."""
    counts: Counter[str] = Counter()
    for document in documents[:: max(1, len(documents) // 2000)]:
        counts.update(re.findall(r"[^\W\d_]{4,}|[\u4e00-\u9fff]{2,4}", document.text))
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    if len(ordered) <= SAMPLE_WORDS:
        return ordered
    # Ranks that grow by a constant factor: Zipf's law makes these equal steps of rarity.
    places = {round(len(ordered) ** (step / SAMPLE_WORDS)) for step in range(SAMPLE_WORDS)}
    return [ordered[place] for place in sorted(places)]


def _cut(tokenizer: Tokenizer, word: str) -> list[str]:
    """The word in tokens, each as text; bytes that are no whole character as ``\\xe4``."""
    decoder = {symbol: byte for byte, symbol in _byte_symbols().items()}
    pieces = tokenizer.encode(word).tokens
    return [bytes(decoder[symbol] for symbol in piece).decode("utf-8", "backslashreplace") for piece in pieces]


def _byte_symbols() -> dict[int, str]:
    """The letter that stands for each byte in the vocabulary: itself if it can be seen, else one from 256 on."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + place) for place, byte in enumerate(hidden)}
