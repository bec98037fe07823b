import numpy as np
import pytest

from tutelage.corpus import licences
from tutelage.errors import SettingsError


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


@pytest.mark.parametrize(
    ("stated", "normal"),
    [
        ("apache 2.0", "Apache-2.0"),
        ("CC BY-NC-SA 4.0", "CC-BY-NC-SA-4.0"),
        ("cc-by-4.0", "CC-BY-4.0"),
        ("https://creativecommons.org/licenses/by-nd/3.0/de/", "CC-BY-ND-3.0"),
        ("http://creativecommons.org/publicdomain/mark/1.0/", "Public-Domain"),
        ("Public-Domain", "Public-Domain"),
        ("MIT OR GPL-3.0-only", "MIT OR GPL-3.0-only"),
        ("proprietary-paywall", "proprietary-paywall"),
        ("", "unknown"),
        ("Unknown", "unknown"),
        ("NOASSERTION", "unknown"),
    ],
)
def test_what_people_write_becomes_spdx(stated: str, normal: str) -> None:
    assert licences.normal(stated) == normal


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("Apache License\n                           Version 2.0, January 2004", "Apache-2.0"),
        ("GNU GENERAL PUBLIC LICENSE\n   Version 3, 29 June 2007", "GPL-3.0-only"),
        ("Creative Commons\n\nAttribution-NonCommercial-ShareAlike 4.0 International", "CC-BY-NC-SA-4.0"),
        ("CC0 1.0 Universal", "CC0-1.0"),
        ("Redistribution and use. Redistributions of source code must retain", "BSD-2-Clause"),
        ("All rights reserved.", "unknown"),
    ],
)
def test_a_licence_file_is_known_by_its_words(text: str, licence: str) -> None:
    assert licences.of_file(text) == licence


def test_two_licences_at_once_must_both_be_allowed() -> None:
    assert licences.both("MIT", "MIT") == "MIT"
    assert licences.both("MIT", "") == "MIT"
    assert licences.refusal(licences.both("MIT", "CC-BY-NC-4.0"), licences.OPEN) is not None
    assert licences.refusal(licences.both("MIT OR GPL-3.0-only", "ISC"), licences.OPEN) is None
    assert licences.both("MIT", "unknown") == "unknown"


def test_a_licence_that_is_none_is_named_with_the_nearest() -> None:
    licences.check_names(["MIT", "own", "Public-Domain", "CC-BY-SA-4.0"], "allow_licences")
    with pytest.raises(SettingsError, match=r"allow_licences: 'CC-BY-NC-5.0' is no licence of SPDX: did you mean"):
        licences.check_names(["CC-BY-NC-5.0"], "allow_licences")


def test_a_copy_of_a_gated_text_is_gated_too() -> None:
    keys = np.array([[1, 2], [1, 3], [1, 2], [4, 4], [4, 4]], dtype=np.uint64)
    gated = np.array([True, False, False, False, False])
    assert licences.copies(keys, gated).tolist() == [False, False, True, False, False]
    assert licences.copies(keys[:, 0], gated).tolist() == [False, True, True, False, False]
