from pathlib import Path

import pytest

from tutelage.corpus import licences, terms
from tutelage.corpus.licences import Gate
from tutelage.errors import RecordError
from tutelage.records import Document


def document(licence: str, **metadata: str) -> Document:
    return Document(id="d", text="t", source="s", licence=licence, language="en", metadata=metadata)


def test_a_card_lies_beside_its_source(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    assert terms.card_of(tmp_path / "texts") is None
    (tmp_path / "texts" / "card.yaml").write_text("licence: MIT\ndate: 2026-05-01\norigin: crawl\n")
    assert terms.card_of(tmp_path / "texts") == terms.Card(licence="MIT", date="2026-05-01", origin="crawl")
    (tmp_path / "texts.card.yaml").write_text("licence: own\norigin: own\n")
    assert terms.card_of(tmp_path / "texts") == terms.Card(licence="own", origin="own")
    (tmp_path / "a.jsonl.card.yaml").write_text("licence: CC BY 4.0\nevidence: its page\n")
    assert terms.card_of(tmp_path / "a.jsonl") == terms.Card(licence="CC BY 4.0", evidence="its page")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("licence: Apache-3\n", "a.card.yaml: licence: 'Apache-3' is no licence of SPDX: did you mean 'Apache-2.0'?"),
        ("license: MIT\n", "unknown key 'license': did you mean 'licence'?"),
        ("origin: found\n", "origin"),
        ("origin: teacher\n", "teacher: missing: name the model"),
        ("- MIT\n", "list: write licence, evidence"),
        ("a: [\n", "not YAML"),
    ],
)
def test_a_broken_card_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.card.yaml").write_text(text)
    with pytest.raises(RecordError) as caught:
        terms.card_of(tmp_path / "a")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_gate_allows_refuses_and_asks() -> None:
    gate = Gate(licences.OPEN, frozenset({"ISC"}), frozenset({"CC-BY-NC-4.0"}))
    plain = terms.Card()
    assert terms.refused(document("MIT"), plain, gate) is None
    assert terms.refused(document("unknown"), plain, gate) == ("licence", "its licence is unknown")
    assert (terms.refused(document("ISC"), plain, gate) or ("",))[0] == "licence"
    assert (terms.refused(document("CC-BY-NC-4.0"), plain, gate) or ("",))[0] == "licence_asked"
    assert (terms.refused(document("GPL-3.0-only"), plain, gate) or ("",))[0] == "licence"
    assert (terms.refused(document("all-rights-reserved"), plain, gate) or ("",))[0] == "licence"


def test_a_card_speaks_for_the_licence_that_it_states() -> None:
    gate = Gate(refused=frozenset({"ISC"}))
    allows = terms.Card(licence="GPL-3.0-only", gate="allow")
    assert terms.refused(document("GPL-3.0-only"), allows, gate) is None
    assert terms.refused(document("CC-BY-NC-4.0"), allows, gate) is not None
    assert terms.refused(document("ISC"), terms.Card(licence="ISC", gate="allow"), gate) is not None
    assert (terms.refused(document("MIT"), terms.Card(gate="ask"), gate) or ("",))[0] == "licence_asked"
    assert (terms.refused(document("MIT"), terms.Card(gate="refuse"), gate) or ("",))[0] == "licence"


def test_terms_of_a_teacher_and_of_a_site() -> None:
    gate = Gate()
    forbids = terms.Card(licence="MIT", origin="teacher", teacher="big-model", terms="forbid")
    assert terms.refused(document("MIT"), forbids, gate) == ("teacher_terms", "the terms of big-model forbid it")
    unknown = terms.Card(licence="MIT", origin="teacher", teacher="big-model")
    assert (terms.refused(document("MIT"), unknown, gate) or ("",))[0] == "teacher_terms"
    allows = terms.Card(licence="MIT", origin="teacher", teacher="big-model", terms="allow")
    assert terms.refused(document("MIT"), allows, gate) is None
    assert terms.refused(document("MIT", reservation="noai"), allows, gate) == (
        "reserved", "its site does not want it used: noai",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("page", "header", "mark"),
    [
        ('<meta name="robots" content="index, noai, noimageai">', "", "noai"),
        ('<META NAME=robots CONTENT="NOAI">', "", "noai"),
        ('<meta name="tdm-reservation" content="1">', "", "tdm-reservation"),
        ('<script type="application/ld+json">{"isAccessibleForFree": false}</script>', "", "paid content"),
        ('<meta property="article:content_tier" content="locked">', "", "paid content"),
        ('<div class="box paywall">', "", "paid content"),
        ("<p>", "X-Robots-Tag: noai", "noai"),
        ("<p>", "TDM-Reservation: 1", "tdm-reservation"),
        ('<meta name="robots" content="noindex"><p>noai is a mark, a paywall is a wall', "TDM-Reservation: 0", ""),
        ('{"isAccessibleForFree": true}<meta name="tdm-reservation" content="0">', "", ""),
    ],
)
def test_marks_of_those_who_do_not_want_it(page: str, header: str, mark: str) -> None:
    assert terms.reservation(page, header) == mark


@pytest.mark.parametrize(
    ("page", "licence"),
    [
        ('<a rel="license" href="https://creativecommons.org/licenses/by-nc/4.0/">', "CC-BY-NC-4.0"),
        ("<link rel=license href=http://creativecommons.org/publicdomain/zero/1.0/>", "CC0-1.0"),
        ('<meta name="dc.rights" content="https://creativecommons.org/licenses/by-sa/3.0/deed.de">', "CC-BY-SA-3.0"),
        ('<a href="https://creativecommons.org/licenses/by/4.0/">about CC', ""),
        ("<!-- SPDX-License-Identifier: Apache-2.0 -->", "Apache-2.0"),
        ('<a rel="license" href="/terms">', ""),
    ],
)
def test_the_licence_that_a_page_states(page: str, licence: str) -> None:
    assert terms.licence_of_page(page) == licence


def test_the_licence_that_a_text_states() -> None:
    assert terms.licence_of_text("---\ntitle: x\nlicense: CC BY-SA 4.0\n---\ntext") == "CC-BY-SA-4.0"
    assert terms.licence_of_text("# SPDX-License-Identifier: MIT OR Apache-2.0\n") == "MIT OR Apache-2.0"
    assert terms.licence_of_text("license: MIT in the text") == ""


def test_the_nearest_licence_file_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert terms.licence_beside(inner, tmp_path) == ("unknown", "")
    (tmp_path / "LICENSE").write_text(
        "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining\na copy of this software"
    )
    assert terms.licence_beside(inner, tmp_path) == ("MIT", "LICENSE")
    assert terms.licence_beside(inner, inner) == ("unknown", "")
    (tmp_path / "a" / "COPYING.txt").write_text("Apache License\n  Version 2.0, January 2004")
    assert terms.licence_beside(inner, tmp_path) == ("Apache-2.0", "COPYING.txt")
