"""Folders that transformers and peft read, and what stands wrongly in one."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tutelage.errors import ModelError, SettingsError
from tutelage.model import checkpoint
from tutelage.model.adapters import Adapting, adapt
from tutelage.training.batches import flat
from tutelage.training.likelihood import scores, token_log_probabilities

IDS = [3, 20, 41, 9, 6, 4, 77, 150, 6]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft, called here
LORA = Adapting(lora_rank=3, lora_alpha=12)


def ours(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return token_log_probabilities(model, flat([tiny.example(IDS[:4], IDS[4:])]))


def theirs(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return tiny.plain_log_probabilities(model.eval(), IDS, 4).float()


def stirred(model: torch.nn.Module) -> torch.nn.Module:
    """With all trainable weights moved, as after training."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
def test_transformers_loads_what_we_save(architecture: str, tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = tiny.write_model(tmp_path / "first", tokenizer_folder, architecture)
    model, chat = checkpoint.load(folder, trainable=True)
    checkpoint.save(stirred(model), chat, tmp_path / "second")
    again, _ = checkpoint.load(tmp_path / "second")
    foreign = AutoModelForCausalLM.from_pretrained(tmp_path / "second")
    assert torch.equal(ours(again), ours(model))
    assert (theirs(foreign) - ours(model)).abs().max() < 1e-5
    assert "tutelage" not in (tmp_path / "second" / "config.json").read_text()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "second" / name).read_bytes() == (tokenizer_folder / name).read_bytes()


def test_loaded_models_rest_until_asked(gpt2_folder: Path) -> None:
    model, _ = checkpoint.load(gpt2_folder)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert torch.equal(ours(model), ours(model))


def test_peft_loads_an_adapter_that_we_save(model_folder: Path, tmp_path: Path) -> None:
    model, chat = checkpoint.load(model_folder)
    before = ours(model)
    adapted = adapt(model, LORA, "causal", seed=1)
    assert torch.equal(ours(adapted), before)  # B is 0
    stirred(adapted)
    after = ours(adapted)
    assert (after - before).abs().max() > 0.01
    checkpoint.save(adapted, chat, tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    assert not (tmp_path / "adapter" / "README.md").exists()
    names = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["target_modules"]
    assert len(names) > 4
    assert names == sorted(names)  # peft writes a set, in an order that changes from process to process

    foreign = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), str(tmp_path / "adapter"))
    assert (theirs(foreign) - after).abs().max() < 1e-5
    merged, _ = checkpoint.load(tmp_path / "adapter")
    assert (ours(merged) - after).abs().max() < 1e-5
    with checkpoint.reference(adapted, None) as reference:
        assert torch.equal(ours(reference), before)
    assert torch.equal(ours(adapted), after)


def test_an_adapter_trained_on_an_adapter_keeps_both(model_folder: Path, tmp_path: Path) -> None:
    model, chat = checkpoint.load(model_folder)
    checkpoint.save(stirred(adapt(model, LORA, "causal", seed=1)), chat, tmp_path / "first")
    second, chat = checkpoint.load(tmp_path / "first")
    adapted = stirred(adapt(second, LORA, "causal", seed=2))
    checkpoint.save(adapted, chat, tmp_path / "second")
    again, _ = checkpoint.load(tmp_path / "second")
    assert (ours(again) - ours(adapted)).abs().max() < 1e-5
    foreign = AutoModelForCausalLM.from_pretrained(tmp_path / "second")
    assert (theirs(foreign) - ours(again)).abs().max() < 1e-5


def test_only_the_adapter_learns(model_folder: Path) -> None:
    model, _ = checkpoint.load(model_folder)
    adapted = adapt(model, LORA, "causal", seed=1)
    # Rank 3 beside q (32 to 32), k and v (32 to 16), o (32 to 32), gate and up (32 to 64), down (64 to 32), twice.
    sides = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 64), (32, 64), (64, 32)]
    assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == 2 * 3 * sum(a + b for a, b in sides)
    assert adapt(model, Adapting(), "causal", seed=1) is model
    with pytest.raises(SettingsError, match="lora_target: 'q_porj'"):
        adapt(
            checkpoint.load(model_folder)[0], Adapting(lora_rank=2, lora_target="q_porj"), "causal", seed=1
        )  # fmt: skip


@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
@pytest.mark.parametrize("rank", [0, 2])
def test_transformers_loads_our_reward_models(
    architecture: str, rank: int, tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = tiny.write_model(tmp_path / "causal", tokenizer_folder, architecture)
    scorer, chat = checkpoint.load_scorer(folder, trainable=True, new_head=True)
    adapted = stirred(adapt(scorer, Adapting(lora_rank=rank), "score", seed=1))
    batch = flat([tiny.example(IDS[:4], IDS[4:], IDS[3:5]), tiny.example(IDS[:2], [9, 6], [8, 6])])
    with torch.no_grad():
        given = scores(adapted, batch)
    checkpoint.save(adapted, chat, tmp_path / "scorer")
    again, _ = checkpoint.load_scorer(tmp_path / "scorer")
    with torch.no_grad():
        assert (scores(again, batch) - given).abs().max() < 1e-5
    if rank:
        base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
        base.config.pad_token_id = tiny.PAD
        foreign = PeftModel.from_pretrained(base, str(tmp_path / "scorer"))
    else:
        foreign = AutoModelForSequenceClassification.from_pretrained(tmp_path / "scorer")
    rows = [IDS[:4] + IDS[4:], IDS[:4] + IDS[3:5], [*IDS[:2], 9, 6], [*IDS[:2], 8, 6]]
    longest = max(map(len, rows))
    padded = torch.tensor([row + [tiny.PAD] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    with torch.no_grad():
        found = foreign.eval()(input_ids=padded, attention_mask=mask).logits[:, 0]
    assert (found - given).abs().max() < 1e-5


def test_a_reward_model_can_stand_on_an_adapted_chat_model(model_folder: Path, tmp_path: Path) -> None:
    model, chat = checkpoint.load(model_folder)
    checkpoint.save(stirred(adapt(model, LORA, "causal", seed=1)), chat, tmp_path / "sft")
    whole, _ = checkpoint.load(tmp_path / "sft")
    checkpoint.save(whole, chat, tmp_path / "whole")
    batch = flat([tiny.example(IDS[:4], IDS[4:])])
    given: list[torch.Tensor] = []
    for folder in ("sft", "whole"):
        scorer, _ = checkpoint.load_scorer(tmp_path / folder, new_head=True)
        assert not scorer.score.weight.any()  # pyright: ignore
        torch.nn.init.ones_(scorer.score.weight)  # pyright: ignore
        with torch.no_grad():
            given.append(scores(scorer, batch))
    assert (given[0] - given[1]).abs().max() < 1e-5


def test_fresh_weights_depend_on_the_seed_alone() -> None:
    config = tiny.make_model("llama").config
    one, two, other = (tiny.tensors(checkpoint.create(config, seed)) for seed in (1, 1, 2))
    assert tiny.worst(one, two) == 0
    assert tiny.worst(one, other) > 0


def broken(folder: Path, source: Path) -> Path:
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_a_folder_that_lacks_something_says_what(model_folder: Path, tmp_path: Path) -> None:
    def without(name: str) -> Path:
        folder = broken(tmp_path / name, model_folder)
        (folder / name).unlink()
        return folder

    with pytest.raises(ModelError, match=r"no model: it has neither config.json nor adapter_config.json"):
        checkpoint.load(without("config.json"))
    with pytest.raises(ModelError, match="no tokenizer: it needs"):
        checkpoint.load(without("tokenizer.json"))
    with pytest.raises(ModelError, match="no chat template"):
        checkpoint.load(without("chat_template.jinja"))
    with pytest.raises(ModelError, match="cannot be loaded"):
        checkpoint.load(without("model.safetensors"))
    with pytest.raises(ModelError, match="nowhere"):
        checkpoint.load(tmp_path / "nowhere")


def test_damaged_or_missing_weights_are_not_made_up(model_folder: Path, tmp_path: Path) -> None:
    cut = broken(tmp_path / "cut", model_folder)
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[:-1000])
    with pytest.raises(ModelError, match=r"cut/model.safetensors: cannot be loaded: damaged or cut short"):
        checkpoint.load(cut)

    lacking = broken(tmp_path / "lacking", model_folder)
    weights = load_file(lacking / "model.safetensors")
    gone = next(name for name in weights if "mlp.up_proj" in name)
    del weights[gone]
    save_file(weights, lacking / "model.safetensors", {"format": "pt"})
    for load in (checkpoint.load, checkpoint.load_scorer):
        with pytest.raises(ModelError, match=r"lacks .*mlp\.up_proj"):
            load(lacking)

    other = broken(tmp_path / "other", model_folder)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        checkpoint.load(other)
    (other / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not a valid JSON file"):
        checkpoint.load(other)


def test_a_tokenizer_larger_than_the_embedding_is_refused(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = tiny.write_model(tmp_path / "small", tokenizer_folder, "llama", vocab_size=200)
    with pytest.raises(ModelError, match="its tokenizer has 286 tokens, its embedding only 200"):
        checkpoint.load(folder)


def test_an_adapter_whose_base_is_gone_says_so(model_folder: Path, tmp_path: Path) -> None:
    base = broken(tmp_path / "base", model_folder)
    model, chat = checkpoint.load(base)
    checkpoint.save(adapt(model, LORA, "causal", seed=1), chat, tmp_path / "adapter")
    base.rename(tmp_path / "moved")
    with pytest.raises(ModelError, match="base"):
        checkpoint.load(tmp_path / "adapter")


def test_weights_in_a_pickle_are_refused_and_never_read(model_folder: Path, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "model.pt", "weights.pkl"):
        folder = broken(tmp_path / name, model_folder)
        (folder / "model.safetensors").unlink()
        torch.save(load_file(model_folder / "model.safetensors"), folder / name)
        for load in (checkpoint.load, checkpoint.load_scorer):
            with pytest.raises(ModelError, match=rf"{name}: cannot be loaded: a pickle, which may run any program"):
                load(folder)
    both = broken(tmp_path / "both", model_folder)
    (both / "pytorch_model.bin").write_bytes(b"never read")
    checkpoint.load(both)


def test_the_weights_of_another_model_are_refused(tokenizer_folder: Path, model_folder: Path, tmp_path: Path) -> None:
    deeper = tiny.write_model(tmp_path / "deeper", tokenizer_folder, "qwen3", num_hidden_layers=3)
    folder = broken(tmp_path / "other", model_folder)
    (folder / "model.safetensors").write_bytes((deeper / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"other: cannot be loaded: its config has no place for model\.layers\.2\."):
        checkpoint.load(folder)
    llama = tiny.write_model(tmp_path / "llama", tokenizer_folder, "llama")
    (folder / "model.safetensors").write_bytes((llama / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"lacks .*k_norm"):
        checkpoint.load(folder)
