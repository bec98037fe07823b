"""Encoders: a flat row gives what padded rows give, both ways, and the marks come after all other tokens."""

import copy
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, BertForPreTraining

from tutelage.errors import ModelError
from tutelage.model import attention, encoder
from tutelage.model.chat import load_tokenizer

SHAPE = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 64, "max_position_embeddings": 64, "initializer_range": 0.15}  # fmt: skip
LENGTHS = (5, 11, 2, 8)


def make(dtype: torch.dtype = torch.float64, **changes: Any) -> BertForPreTraining:
    return encoder.create(AutoConfig.for_model("bert", **{**SHAPE, **changes}), 0).to(dtype)  # pyright: ignore


def flat() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, attention.Layout]:
    ids = torch.randint(0, 300, (sum(LENGTHS),), generator=torch.Generator().manual_seed(1))
    positions = torch.cat([torch.arange(n) for n in LENGTHS])
    return ids, (positions > 3).long(), positions, encoder.row_of(LENGTHS)


def padded(ids: torch.Tensor, segments: torch.Tensor) -> dict[str, torch.Tensor]:
    def rows(values: torch.Tensor) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(list(values.split(LENGTHS)), batch_first=True)

    return {
        "input_ids": rows(ids),
        "token_type_ids": rows(segments),
        "attention_mask": rows(torch.ones_like(ids)),
    }


def test_a_flat_row_gives_what_padded_rows_give_gradients_too() -> None:
    """In float64, against transformers' own forward pass with its own attention."""
    model = make()
    own = BertForPreTraining._from_config(copy.deepcopy(model.config), attn_implementation="eager").double().eval()  # pyright: ignore
    own.load_state_dict(model.state_dict())
    ids, segments, positions, layout = flat()
    states = encoder.hidden_states(model, ids, segments, positions, layout)
    tokens, follows = encoder.token_logits(model, states), encoder.next_logits(model, states[positions == 0])
    theirs = own(**padded(ids, segments))
    there = padded(ids, segments)["attention_mask"].bool()
    torch.testing.assert_close(tokens, theirs.prediction_logits[there], rtol=0, atol=1e-12)
    torch.testing.assert_close(follows, theirs.seq_relationship_logits, rtol=0, atol=1e-12)
    weights = torch.randn(tokens.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ours = tiny.gradients((tokens * weights).sum() + follows[:, 0].sum(), model)
    loss = (theirs.prediction_logits[there] * weights).sum() + theirs.seq_relationship_logits[:, 0].sum()
    assert tiny.worst(ours, tiny.gradients(loss, own)) < 1e-10


def test_each_sequence_sees_all_of_itself_and_nothing_else() -> None:
    model = make()
    ids, segments, positions, layout = flat()
    with torch.no_grad():
        before = encoder.hidden_states(model, ids, segments, positions, layout)
        ids[15] = (ids[15] + 1) % 300  # the last token of the second sequence
        change = (encoder.hidden_states(model, ids, segments, positions, layout) - before).abs().amax(-1)
    assert bool((change[5:16] > 1e-6).all())
    assert not bool(change[:5].any())
    assert not bool(change[16:].any())


def test_what_is_written_is_loaded_with_the_same_logits(tokenizer_folder: Path, tmp_path: Path) -> None:
    model = make(torch.float32)
    tokenizer = load_tokenizer(tokenizer_folder)
    encoder.save(model, tokenizer, tmp_path)
    ids, segments, _, _ = flat()
    with torch.no_grad():
        model.set_attn_implementation("eager")
        first = model(**padded(ids, segments)).prediction_logits
        for kind, name in ((BertForPreTraining, "prediction_logits"), (AutoModelForMaskedLM, "logits")):
            loaded = kind.from_pretrained(str(tmp_path), attn_implementation="eager").eval()
            assert torch.equal(getattr(loaded(**padded(ids, segments)), name), first)


def test_marks_come_after_all_other_tokens(tokenizer_folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    before = tokenizer.get_vocab()
    marks = encoder.add_marks(tokenizer)
    assert (marks.cls, marks.sep, marks.mask, marks.vocabulary) == (286, 287, 288, 289)
    assert {word: i for word, i in tokenizer.get_vocab().items() if i < 286} == before
    assert encoder.add_marks(tokenizer) == marks
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    given = loaded("the cat", "a dog")
    one, two = (loaded(text, add_special_tokens=False).input_ids for text in ("the cat", "a dog"))
    assert given.input_ids == [marks.cls, *one, marks.sep, *two, marks.sep]
    assert given.token_type_ids == [0] * (len(one) + 2) + [1] * (len(two) + 1)
    assert (loaded.mask_token_id, loaded.cls_token_id, loaded.sep_token_id) == (288, 286, 287)


def test_what_is_no_encoder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="architecture qwen3: not an encoder with both heads: use bert"):
        encoder.create(AutoConfig.for_model("qwen3"), 0)
    model = make(torch.float32)
    with pytest.raises(ModelError, match="does not hand the layout on"):
        model(input_ids=torch.arange(4)[None])
    monkeypatch.setattr(encoder, "row_of", lambda lengths: attention.Layout((attention.Tree(0, 0, (sum(lengths),)),)))
    with pytest.raises(ModelError, match=r"its logits differ by .* from its own attention's"):
        encoder.check(model)
