import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.corpus.digits import numbers
from tutelage.corpus.personal import find, masked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to a.b-c@mail.example.com.", "write to <EMAIL>."),
        ("邮箱：zhang_san@163.com，电话：13800138000。", "邮箱：<EMAIL>，电话：<PHONE>。"),
        ("(17346668308)", "(<PHONE>)"),
        ("+86 138 0013 8000 and 138-0013-8000", "<PHONE> and <PHONE>"),
        ("座机 010-62770000 或 (0755)86000000", "座机 <PHONE> 或 <PHONE>"),
        ("call (212) 555-0147 or +1 212-555-0147", "call <PHONE> or <PHONE>"),
        ("London +44 20 7946 0958", "London <PHONE>"),
        ("身份证 11010519491231002X", "身份证 <ID_NUMBER>"),
        ("card 4111 1111 1111 1111, 5500000000000004", "card <CARD_NUMBER>, <CARD_NUMBER>"),
        ("from 23.109.220.147:8080", "from <IP_ADDRESS>:8080"),
        ("from 2a00:1450:4001:830:0:0:0:200e", "from <IP_ADDRESS>"),
        ("key AKIAJO2NY7JLHWFTGDSR here", "key <SECRET> here"),
        ("ghp_" + "a1B2" * 9, "<SECRET>"),
        ("-----BEGIN RSA PRIVATE KEY-----\n" + "MIIE" * 20 + "\n-----END RSA PRIVATE KEY-----", "<SECRET>"),
    ],
)
def test_personal_data_is_masked(text: str, expected: str) -> None:
    assert masked(text)[0] == expected


@pytest.mark.parametrize(
    "text",
    [
        "git@github.com:owner/name.git",
        "@decorator and a@b",
        "127.0.0.1 192.168.1.1 10.0.0.1 255.255.255.0 0.0.0.0",
        "Version 10.0.19.41 and section 2.3.1.2",
        "17179869184 bytes, 1577836800000 milliseconds",
        "11010519491231002 is one digit short, 110105194912310021 has a wrong one",
        "4111 1111 1111 1112",
        "热线 400-555-0137",
        "3.14159265358979 2024-01-01 12:00:00 0x1234567890",
        "https://example.org/13800138000/",
        "hf_short, sk-short, AKIA",
        "2001:db8:85a3:8d3:1319:8a2e:370:7348",
        "std::a::b::c",
    ],
)
def test_what_is_nobodys_stays(text: str) -> None:
    assert masked(text) == (text, {})


def test_pieces_are_counted_by_kind() -> None:
    assert masked("a@b.org, c@d.org, 13800138000")[1] == {"EMAIL": 2, "PHONE": 1}


def test_masking_is_done_once() -> None:
    once, _ = masked("a@b.org 13800138000")
    assert masked(once) == (once, {})


NUMBERS = [
    "13800138000", "138 0013 8000", "+86 13800138000", "212-555-0147", "(212) 555-0147", "(010) 6277 0000",
    "010-62770000", "4111 1111 1111 1111", "11010519491231002X", "8.8.44.55", "+44 20 7946 0958",
    *"0123456789 .-+()Xxa=,\n", "2024-01-01", "3.14", "1 2 3", "中", "é", "😀",
]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(NUMBERS), max_size=30).map("".join), max_size=4))
def test_numbers_are_found_in_the_runs_where_they_may_stand(texts: list[str]) -> None:
    for text, runs in zip(texts, numbers(texts), strict=True):
        assert find(text, runs=runs) == find(text)
