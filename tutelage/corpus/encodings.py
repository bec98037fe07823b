"""Bytes to text, whatever their encoding: marks, UTF-8, what a page says of itself, and else what reads best.

Chinese, Japanese and Korean encodings cover nearly every pair of bytes, so that a wrong one seldom fails: it gives rare
characters. Each candidate is therefore judged by the share of characters that are common in that language.
"""

from __future__ import annotations

import codecs
import re
from functools import cache
from typing import NamedTuple

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
CANDIDATES = ("gb18030", "big5hkscs", "shift_jis", "euc_jp", "euc_kr")
ONE_BYTE = ("cp1252", "cp1251", "koi8_r", "cp1250", "cp1253", "cp1254", "cp1255", "cp1256")
"""What is tried after these, by charset-normalizer."""
SAMPLE = 1 << 16
"""Bytes that are judged."""
BROKEN = 0.002
"""Share of bytes that may be wrong in text that is UTF-8 otherwise: a file that was cut, a slip of a tool."""
READABLE = 0.3
"""Share of characters that must be common ones for a candidate to be believed."""

_STATED = re.compile(rb"""(?:charset\s*=\s*|encoding\s*=\s*)["']?\s*([A-Za-z0-9_.:-]{3,20})""", re.IGNORECASE)
_ALIASES = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "iso-8859-1": "cp1252", "latin-1": "cp1252",
            "shift-jis": "cp932", "shift_jis": "cp932", "euc-kr": "cp949", "ks_c_5601-1987": "cp949"}  # fmt: skip
"""What browsers read these names as: pages that say gb2312 mean what grew out of it."""

_FREQUENT = (
    "的一是不了在人有我他这这個个们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于於着著下自之年过過发發后後作里裡"
    "用道行所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動面起看定天分还還进進好小部其些主样樣理心她本前开開但因只从從想实實日"
    "军軍者意无無力它与與长長把机機十民第公此已工使情明性知全三又关關点點正业業外将將两兩高间間由问問很最重并並物手应應战戰向头頭文体體政"
    "美相见見被利什二等产產或新己制身果加西斯月话話合回特代内內信表化老给給世位次度门門任常先海通教儿兒原东東声聲提立及比员員解水名真论論处處"
    "走义義各入几幾口认認条條平系气氣题題活尔爾更别別打女变變四神总總何电電数數安少报報才结結反受目太量再感建务務做接必场場件计計管期市直德资資"
    "命山金指克许許统統区區保至队隊形社便空决決治展马馬科司五基眼书書非则則听聽白却界达達光放强強即像难難且权權思王象完设設式色路记記南品住告类類求据據程"
)


class Decoded(NamedTuple):
    """Text, and how its bytes were read."""

    text: str
    encoding: str


def decode(content: bytes, stated: str = "") -> Decoded:
    """The text of some bytes. ``stated`` is what they are said to be, by a header or by themselves.

    Nothing fails: a byte that means nothing becomes the replacement character. Line ends stay as they are.
    """
    for mark, name in MARKS:
        if content.startswith(mark):
            return Decoded(_sound(content.decode(name, "replace")), name)
    try:
        return Decoded(content.decode("utf-8"), "utf-8")
    except UnicodeDecodeError:
        pass
    name = _known(stated) or _other(content)
    return Decoded(_sound(content.decode(name, "replace")), name)


def stated(content: bytes) -> str:
    """The encoding that a page or an XML file names in its first bytes, or nothing."""
    found = _STATED.search(content[:2048])
    return found[1].decode("ascii") if found else ""


def decode_page(content: bytes, header: str = "") -> Decoded:
    """A web page: its own word comes after the header's, and both after what its bytes show."""
    return decode(content, header or stated(content))


def name_of(content: bytes) -> str:
    """The encoding of the beginning of a file."""
    return decode(content[:SAMPLE]).encoding


def _known(name: str) -> str:
    """A codec of that name, or nothing."""
    name = name.strip().lower()
    name = _ALIASES.get(name, name)
    try:
        # Codecs such as base64 are found by name too, and turn bytes into bytes.
        return name if name and name not in ("utf-8", "utf8") and codecs.lookup(name)._is_text_encoding else ""  # pyright: ignore
    except LookupError:
        return ""


def _other(content: bytes) -> str:
    sample = content[:SAMPLE]
    if _nearly_utf8(content):
        return "utf-8"
    if b"\0" in sample:
        for name in ("utf-16-le", "utf-16-be"):
            if sample.decode(name, "replace").isprintable() or _common(sample.decode(name, "ignore")) > READABLE:
                return name
    scored = [(_reads(sample, name), name) for name in CANDIDATES]
    best, name = max(scored, key=lambda pair: pair[0])
    if best >= READABLE:
        return name
    from charset_normalizer import from_bytes

    found = from_bytes(sample, cp_isolation=list(ONE_BYTE)).best()
    return found.encoding if found and found.encoding != "ascii" and not _western(sample) else "cp1252"


def _western(sample: bytes) -> bool:
    """Whether bytes beyond ASCII are a small part, and make accented letters within words: as in Western Europe."""
    text = sample.decode("cp1252", "replace")
    beyond = [character for character in text if character > "\x7f"]
    usual = sum(
        character in "äöüßÄÖÜéèêëàâçîïôùûœæÉÈÀÇñáíóúÑÁÍÓÚ¿¡åøÅØãõìò’‘“”–—…«»€£§°·©®™\xa0" for character in beyond
    )
    return len(beyond) * 4 < len(text) and usual >= 0.9 * len(beyond)


def _nearly_utf8(content: bytes) -> bool:
    """Whether nearly all bytes beyond ASCII are well-formed UTF-8."""
    text = content.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    beyond = sum(character > "\x7f" for character in text[:SAMPLE]) * len(text) / max(1, min(len(text), SAMPLE))
    return wrong <= BROKEN * len(content) and wrong * 10 <= beyond


def _reads(sample: bytes, name: str) -> float:
    """How well bytes read in a candidate: the share of common characters among those beyond ASCII."""
    text = sample.decode(name, "replace")
    if text.count("\ufffd") > 1 + BROKEN * len(text):
        return 0.0
    return _common(text)


def _common(text: str) -> float:
    frequent = _frequent()
    beyond = [character for character in text if character > "\x7f"]
    if not beyond:
        return 0.0
    good = sum(character in frequent or "\u3041" <= character <= "\u30fe" for character in beyond)
    hangul = sum("\uac00" <= character <= "\ud7a3" for character in beyond)
    # Hangul is one block of 11,172, of which texts use few: rare syllables show that it is something else.
    return good / len(beyond) if hangul * 2 < len(beyond) else hangul / len(beyond)


@cache
def _frequent() -> frozenset[str]:
    return frozenset(_FREQUENT + "，。、；：？！“”‘’（）《》「」『』…—·　～【】〈〉％")


def _sound(text: str) -> str:
    """Without halves of surrogate pairs, which no file can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
