"""What a user asks of a tokenizer: how well it writes each language, what its tokens are, whether text comes back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer

from tutelage.corpus.encoding import Encoder, byte_symbols
from tutelage.corpus.languages import han_characters

COMMON_HAN = (
    "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学"
    "么之都好看起发当没成只如事把还用第样道想作种开美总从无情己面最女但现前些所同日手又行意动方期它头经长儿回位分爱"
)
"""Frequent Chinese characters, to measure by where the documents have none."""

SAMPLE_WORDS = 20
LONGEST = 20
SAMPLES, SAMPLE_CHARACTERS = 2, 160
"""Texts of each language that are shown in tokens, and how much of each."""


def describe(
    tokenizer: Tokenizer, encoder: Encoder, texts: dict[str, list[str]], training: Sequence[str]
) -> dict[str, Any]:
    """The report.

    Args:
        tokenizer: what is described.
        encoder: the same tokenizer, fast.
        texts: what is measured, by language.
        training: texts that frequent and rare words are taken from.
    """
    languages: dict[str, dict[str, Any]] = {}
    for language, found in sorted(texts.items()):
        characters, tokens = sum(map(len, found)), _count(encoder, found)
        languages[language] = {
            "characters": characters,
            "tokens": tokens,
            "characters_per_token": round(characters / max(tokens, 1), 3),
            "bytes_per_token": round(sum(len(text.encode()) for text in found) / max(tokens, 1), 3),
            "samples": [cut(tokenizer, text[:SAMPLE_CHARACTERS]) for text in found[:SAMPLES]],
        }
    return {
        "vocab_size": tokenizer.get_vocab_size(),
        "languages": languages,
        "round_trip": _round_trip(tokenizer, encoder, texts),
        "longest_tokens": _longest(tokenizer),
        "words": [{"word": word, "pieces": cut(tokenizer, word)} for word in sample_words(training)],
        **_han(encoder, texts),
    }


def cut(tokenizer: Tokenizer, text: str) -> list[str]:
    """The text in tokens, each as text; bytes that are no whole character as ``\\xe4``."""
    return [_shown(piece) for piece in tokenizer.encode(text, add_special_tokens=False).tokens]


def sample_words(texts: Sequence[str]) -> list[str]:
    """Words of four letters and more, or Chinese runs of two and more, from the most frequent to the rare."""
    counts: Counter[str] = Counter()
    for text in texts[:: max(1, len(texts) // 2000)]:
        counts.update(re.findall(r"[^\W\d_]{4,}|[\u4e00-\u9fff]{2,4}", text))
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    if len(ordered) <= SAMPLE_WORDS:
        return ordered
    # Ranks that grow by a constant factor: Zipf's law makes these equal steps of rarity.
    places = {round(len(ordered) ** (step / SAMPLE_WORDS)) for step in range(SAMPLE_WORDS)}
    return [ordered[place] for place in sorted(places)]


def _han(encoder: Encoder, texts: dict[str, list[str]]) -> dict[str, Any]:
    """Tokens a Chinese character, in running text and one by one, and how much of the text single tokens cover."""
    runs = [han for found in texts.values() for text in found if (han := han_characters(text))] or [COMMON_HAN]
    counts = Counter(character for run in runs for character in run)
    characters = sorted(counts)
    _, ends = encoder.encode(characters)
    single = {character for place, character in enumerate(characters) if ends[place + 1] - ends[place] == 1}
    covered = sum(counts[character] for character in single)
    return {
        "tokens_per_han_character": round(_count(encoder, runs) / sum(counts.values()), 3),
        "tokens_of_a_han_character": {
            str(tokens): sum(1 for size in ends[1:] - ends[:-1] if size == tokens) for tokens in range(1, 5)
        },
        "han_characters_that_are_one_token": len(single),
        "han_text_of_such_characters": round(covered / sum(counts.values()), 4),
    }


def _round_trip(tokenizer: Tokenizer, encoder: Encoder, texts: dict[str, list[str]]) -> dict[str, Any]:
    """Whether every text that was measured comes back from its ids, byte for byte."""
    wrong: list[str] = []
    count = 0
    for found in texts.values():
        ids, ends = encoder.encode(found)
        back = tokenizer.decode_batch(
            [ids[start:stop].tolist() for start, stop in pairwise(ends)],
            skip_special_tokens=False,
        )
        count += len(found)
        wrong += [text[:SAMPLE_CHARACTERS] for text, again in zip(found, back, strict=True) if text != again]
    return {"texts": count, "changed": len(wrong), "examples": wrong[:SAMPLES]}


def _longest(tokenizer: Tokenizer) -> list[str]:
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    ordered = sorted((piece for piece in tokenizer.get_vocab() if piece not in special), key=lambda p: (-len(p), p))
    return [_shown(piece) for piece in ordered[:LONGEST]]


def _shown(piece: str) -> str:
    decoder = {symbol: byte for byte, symbol in byte_symbols().items()}
    if any(symbol not in decoder for symbol in piece):
        return piece
    return bytes(decoder[symbol] for symbol in piece).decode("utf-8", "backslashreplace")


def _count(encoder: Encoder, texts: Iterable[str]) -> int:
    return len(encoder.encode(list(texts))[0])
