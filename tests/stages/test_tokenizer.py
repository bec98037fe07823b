import json
import random
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from tutelage import settings
from tutelage.corpus import vocabulary
from tutelage.corpus.encoding import byte_symbols
from tutelage.errors import RecordError, SettingsError
from tutelage.records import Document, identify, write
from tutelage.run import Run
from tutelage.stages import tokenizer

WORDS = [
    "parameter",
    "returns",
    "function",
    "value",
    "array",
    "default",
    "object",
    "string",
    "module",
    "class",
    "number",
    "type",
]
HAN = "函数返回参数数组默认值对象字符串模块类型"


def corpus(held_out_word: str = "zebrafish") -> list[Document]:
    draw = random.Random(7)
    texts = [" ".join(draw.choices(WORDS, k=30)) + f" x{draw.randrange(10**6)}\n" for _ in range(200)]
    texts += ["".join(draw.choices(HAN, k=60)) + "。" for _ in range(60)]
    train = [
        Document(id=identify(text), text=text, source="s", licence="MIT", language="zh" if text[0] in HAN else "en")
        for text in texts
    ]
    hidden = f"{held_out_word} " * 200
    return [*train, Document(id="h", text=hidden, source="s", licence="MIT", language="en", split="held_out")]


def trained(folder: Path, documents: list[Document], name: str = "tokenizer", **values: object) -> Path:
    write(folder / "documents.jsonl", documents)
    recipe = settings.check(tokenizer.Recipe, {"documents": str(folder / "documents.jsonl"), **values}, "test")
    with Run.begin(folder / name, "tokenizer", settings.plain(recipe), quiet=True) as run:
        tokenizer.execute(recipe, run)
        run.finish()
    return folder / name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("tokenizer"), corpus(), vocab_size=600)


@pytest.fixture(scope="module")
def loaded(run: Path) -> object:
    return AutoTokenizer.from_pretrained(str(run))


def test_special_tokens_come_first(loaded) -> None:
    assert [loaded.convert_tokens_to_ids(token) for token in tokenizer.SPECIAL] == list(range(7))
    assert (loaded.pad_token, loaded.eos_token) == ("<|pad|>", "<|end|>")
    assert loaded.pad_token_id != loaded.eos_token_id
    assert set(loaded.all_special_tokens) == set(tokenizer.SPECIAL)


def test_the_next_256_are_the_bytes(run: Path) -> None:
    vocabulary = json.loads((run / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert {token for token, place in vocabulary.items() if 7 <= place < 263} == set(byte_symbols().values())
    assert len(vocabulary) == len(set(vocabulary.values())) <= 600


def test_transformers_gives_the_same_ids(run: Path, loaded) -> None:
    ours = Tokenizer.from_file(str(run / "tokenizer.json"))
    for text in ("returns the array", "函数返回值", "<|user|>a<|end|>", "  \n\ttabs 12345", "🙂"):
        assert loaded(text)["input_ids"] == ours.encode(text).ids


@given(text=st.text(max_size=60))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_comes_back(loaded, text: str) -> None:
    ids = loaded(text, split_special_tokens=True)["input_ids"]
    assert loaded.decode(ids) == text


def test_special_tokens_in_a_text_can_be_read_as_text(loaded) -> None:
    assert loaded("a<|end|>b")["input_ids"].count(6) == 1
    assert 6 not in loaded("a<|end|>b", split_special_tokens=True)["input_ids"]


def test_words_are_learned_from_training_documents_only(loaded) -> None:
    assert len(loaded(" parameter")["input_ids"]) == 1
    assert len(loaded("函数返回")["input_ids"]) < 12
    assert len(loaded(" zebrafish")["input_ids"]) > 3


def test_numbers_are_cut_in_threes(loaded) -> None:
    pieces = loaded.backend_tokenizer.pre_tokenizer.pre_tokenize_str("1234567 89")
    assert [piece for piece, _ in pieces] == ["123", "456", "7", "Ġ", "89"]


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " 你好 \n"},
    {"role": "assistant", "content": "\nHello.  "},
    {"role": "tool", "content": "42"},
    {"role": "assistant", "content": "Forty-two."},
]


def test_the_chat_template_adds_nothing(loaded) -> None:
    shown = loaded.apply_chat_template(CHAT, tokenize=False)
    assert shown == (
        "<|system|>Be brief.<|end|><|user|> 你好 \n<|end|><|assistant|>\nHello.  <|end|>"
        "<|tool|>42<|end|><|assistant|>Forty-two.<|end|>"
    )
    prompt = loaded.apply_chat_template(CHAT[:2], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|system|>Be brief.<|end|><|user|> 你好 \n<|end|><|assistant|>"


def test_the_mask_covers_answers_with_their_end(loaded) -> None:
    found = loaded.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    learned = [place for place, known in zip(found["input_ids"], found["assistant_masks"], strict=True) if known]
    assert loaded.decode(learned) == "\nHello.  <|end|>Forty-two.<|end|>"


def test_two_trainings_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = trained(tmp_path, corpus(), "first", vocab_size=500)
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    second = trained(tmp_path, list(reversed(corpus())), "second", vocab_size=500)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    hashes = [
        json.loads((run / "done").read_text())["hash"]
        for run in (first, trained(tmp_path, corpus(), "third", vocab_size=500))
    ]
    assert hashes[0] == hashes[1]


def test_the_report(run: Path) -> None:
    report = json.loads((run / "tokenizer_report.json").read_text(encoding="utf-8"))
    assert report["special_tokens"]["<|end|>"] == 6
    # Held-out text is measured, a word of which no two letters were seen together: a token a byte.
    assert list(report["languages"]) == ["en"]
    assert report["round_trip"] == {"texts": 1, "changed": 0, "examples": []}
    assert report["encoder"].startswith("the fast encoder")
    assert report["learned_from"]["documents"] == 260
    assert set(report["learned_from"]["languages"]) == {"en", "zh"}
    assert len(report["longest_tokens"][0]) > 1
    assert "".join(report["languages"]["en"]["samples"][0]) == ("zebrafish " * 200)[: vocabulary.SAMPLE_CHARACTERS]
    assert sum(report["tokens_of_a_han_character"].values()) == len(set(vocabulary.COMMON_HAN))
    assert 0 <= report["han_text_of_such_characters"] <= 1
    assert report["languages"]["en"]["characters"] == len("zebrafish " * 200)
    assert report["languages"]["en"]["characters_per_token"] == 1.0
    assert 1 < report["tokens_per_han_character"] <= 3
    cut = {row["word"]: row["pieces"] for row in report["words"]}
    assert len(cut) >= 10
    assert all("".join(pieces) == word for word, pieces in cut.items() if word.isascii())
    measured = json.loads((run / "metrics.jsonl").read_text())
    assert measured["bytes_per_token_en"] == report["languages"]["en"]["bytes_per_token"]


def test_chinese_is_measured(tmp_path: Path) -> None:
    documents = [document for document in corpus() if document.split == "train"]
    report = json.loads((trained(tmp_path, documents, vocab_size=600) / "tokenizer_report.json").read_text())
    assert report["languages"]["zh"]["characters_per_token"] > 0.9
    assert report["tokens_per_han_character"] < 1.1
    assert any(word["word"][0] in HAN for word in report["words"])


def test_what_cannot_be(tmp_path: Path) -> None:
    held_out = [document for document in corpus() if document.split == "held_out"]
    with pytest.raises(RecordError, match="no document with split train: all 1 are held out"):
        trained(tmp_path, held_out)
    with pytest.raises(SettingsError, match="vocab_size"):
        trained(tmp_path, corpus(), vocab_size=262)
    assert not (tmp_path / "tokenizer").exists()


def test_a_small_corpus_gives_fewer_tokens_and_says_so(tmp_path: Path) -> None:
    run = trained(tmp_path, corpus()[:3], vocab_size=5000)
    assert "fewer than the 5,000 asked for" in (run / "log.txt").read_text()


def test_pieces_of_a_character_are_shown_as_bytes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = tokenizer.learn(["abc"], 263)
    assert vocabulary.cut(small, "中a") == ["\\xe4", "\\xb8", "\\xad", "a"]
    assert small.get_vocab_size() == 263


@pytest.mark.parametrize("options", [{"digits": "single"}, {"han": "single"}, {"spaces": "single"}, {"han": "runs"}])
def test_how_text_is_cut(tmp_path: Path, options: dict[str, str]) -> None:
    folder = trained(tmp_path, corpus(), vocab_size=600, **options)
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces = [piece for piece, _ in made.pre_tokenizer.pre_tokenize_str("x12 函数y  ")]
    assert ("12" not in pieces) == (options.get("digits") == "single")
    assert any("y" in piece and len(piece) > 1 for piece in pieces) == ("han" not in options)
    assert ("ĠĠ" in pieces) == ("spaces" not in options)
    assert AutoTokenizer.from_pretrained(str(folder))("x12 函数y")["input_ids"] == made.encode("x12 函数y").ids


def test_unigram(tmp_path: Path) -> None:
    first = trained(tmp_path, corpus(), "first", vocab_size=500, model="unigram")
    report = json.loads((first / "tokenizer_report.json").read_text())
    assert report["round_trip"]["changed"] == 0
    assert report["encoder"].startswith("the library's encoder: the model is Unigram")
    loaded = AutoTokenizer.from_pretrained(str(first))
    for text in ("returns the array", "函数返回值", "\x00 never seen: ñ 🙂\n"):
        assert loaded.decode(loaded(text)["input_ids"]) == text
