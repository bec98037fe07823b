import pytest

from tutelage.corpus import licences


@pytest.mark.parametrize(
    "licence",
    [
        "MIT",
        "mit",
        "own",
        "MIT OR GPL-3.0-only",
        "GPL-3.0-only OR MIT",
        "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",
        "Apache-2.0 WITH LLVM-exception AND MIT",
        "(GPL-3.0-only AND ISC) OR (MIT AND ISC)",
    ],
)
def test_open_licences_pass(licence: str) -> None:
    assert licences.refusal(licence, licences.OPEN) is None


@pytest.mark.parametrize(
    ("licence", "reason"),
    [
        ("unknown", "unknown"),
        ("", "unknown"),
        ("GPL-3.0-only", "GPL-3.0-only is not allowed"),
        ("MIT AND GPL-3.0-only", "is not allowed"),
        ("GPL-3.0-only AND MIT OR LGPL-3.0-only", "is not allowed"),
        ("MIT AND", "is not allowed"),
        ("(MIT", "is not allowed"),
        ("MIT MIT", "is not allowed"),
        ("MIT)", "is not allowed"),
    ],
)
def test_others_are_refused_with_the_reason(licence: str, reason: str) -> None:
    refusal = licences.refusal(licence, licences.OPEN)
    assert refusal is not None
    assert reason in refusal


def test_a_recipe_can_allow_more() -> None:
    assert licences.refusal("LGPL-3.0-only", {*licences.OPEN, "LGPL-3.0-only"}) is None


BSD_3 = "Redistribution ... Redistributions in binary form must ... may be used to endorse or promote products"
BSD_2 = "Redistributions of source code must ... Redistributions in binary form must reproduce"


@pytest.mark.parametrize(
    ("fields", "text", "expected"),
    [
        ({"License-Expression": ["MIT AND Zlib"], "License": ["GPL"]}, "", ("MIT AND Zlib", "License-Expression")),
        ({"License": ["Apache 2.0 License"]}, "", ("Apache-2.0", "License")),
        ({"License": ["bsd-3-clause"]}, "", ("BSD-3-Clause", "License")),
        ({"License": ["MPL-2.0 AND MIT"]}, "", ("MPL-2.0 AND MIT", "License")),
        ({"Classifier": ["License :: OSI Approved :: MIT License"]}, "", ("MIT", "Classifier")),
        ({"Classifier": ["License :: OSI Approved :: BSD License"]}, BSD_3, ("BSD-3-Clause", "licence file")),
        ({"License": ["BSD"]}, BSD_2, ("BSD-2-Clause", "licence file")),
        ({"License": ["BSD"]}, "All rights reserved.", ("unknown", "licence file")),
        ({"License": ["see the file COPYING"]}, "", ("unknown", "nowhere")),
        ({}, "", ("unknown", "nowhere")),
        (
            {
                "Classifier": [
                    "License :: OSI Approved :: MIT License",
                    "License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
                ]
            },
            "",
            ("unknown", "several classifiers"),
        ),
    ],
)
def test_what_a_package_states_becomes_spdx(fields: dict[str, list[str]], text: str, expected: tuple[str, str]) -> None:
    assert licences.of_metadata(fields, text) == expected


def test_a_classifier_that_is_not_known_beside_a_known_one_is_not_enough() -> None:
    fields = {"Classifier": ["License :: OSI Approved :: MIT License", "License :: Other/Proprietary License"]}
    assert licences.of_metadata(fields)[0] == "unknown"
