"""LoRA and its kin: which modules, which blocks, what is trained, and that merging changes no answer."""

import json
import math
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, LoraModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

from tutelage.errors import ModelError, SettingsError
from tutelage.model import bases, checkpoint
from tutelage.model.adapters import Adapting, adapt
from tutelage.training.batches import flat
from tutelage.training.likelihood import token_log_probabilities

IDS = [3, 20, 41, 9, 6, 4, 77, 150, 6]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft, called here
LINEAR = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"


def ours(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return token_log_probabilities(model, flat([tiny.example(IDS[:4], IDS[4:])]))


def stirred(model: nn.Module) -> nn.Module:
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def adapted(folder: Path, **settings: object) -> tuple[nn.Module, object]:
    model, chat = checkpoint.load(folder)
    return adapt(model, Adapting(**{"lora_rank": 3, "lora_alpha": 12, **settings}), "causal", seed=1), chat  # pyright: ignore


@pytest.mark.parametrize(
    ("architecture", "variant"),
    [
        *[(name, {"use_dora": True}) for name in tiny.ARCHITECTURES],
        *[("gpt2", variant) for variant in ({}, {"use_rslora": True}, {"layers_to_transform": (1,)})],
    ],
)
def test_merged_it_gives_the_same(
    architecture: str, variant: dict[str, object], tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = tiny.write_model(tmp_path / "base", tokenizer_folder, architecture)
    before = ours(checkpoint.load(folder)[0])
    model, chat = adapted(folder, **variant)
    assert (ours(model) - before).abs().max() < 1e-6
    base = {name: value.clone() for name, value in model.named_parameters() if not value.requires_grad}
    after = ours(stirred(model))
    assert (after - before).abs().max() > 0.01
    assert all(torch.equal(value, base[name]) for name, value in model.named_parameters() if name in base)
    checkpoint.save(model, chat, tmp_path / "adapter")  # pyright: ignore
    merged, _ = checkpoint.load(tmp_path / "adapter")
    assert (ours(merged) - after).abs().max() < 1e-5
    with checkpoint.reference(model, None) as reference:
        assert (ours(reference) - before).abs().max() < 1e-6
    if variant == {"layers_to_transform": (1,)}:
        trained = [name for name, value in model.named_parameters() if value.requires_grad]
        assert trained
        assert all(".1." in name for name in trained)


def test_scaling_by_the_square_root_of_the_rank(model_folder: Path) -> None:
    """W x + s B A x, reckoned by hand, with s = alpha / r and alpha / sqrt(r)."""
    for variant, scale in (({}, 12 / 3), ({"use_rslora": True}, 12 / math.sqrt(3))):
        model = stirred(adapted(model_folder, **variant)[0])
        part = next(module for name, module in model.named_modules() if name.endswith("q_proj"))
        x = torch.randn(2, 32)
        wanted = part.base_layer(x) + scale * (x @ part.lora_A.default.weight.T) @ part.lora_B.default.weight.T  # pyright: ignore
        assert torch.allclose(part(x), wanted, atol=1e-5)


def test_dora_by_hand(model_folder: Path) -> None:
    """The rows of W + s B A, each scaled to the length that is trained."""
    model = stirred(adapted(model_folder, use_dora=True)[0])
    part = next(module for name, module in model.named_modules() if name.endswith("q_proj"))
    x = torch.randn(2, 32)
    direction = part.base_layer.weight + 4 * part.lora_B.default.weight @ part.lora_A.default.weight  # pyright: ignore
    length = part.lora_magnitude_vector.default.weight  # pyright: ignore
    assert torch.allclose(part(x), x @ (direction * (length / direction.norm(dim=1))[:, None]).T, atol=1e-5)


def test_dropout_is_on_in_training_alone(model_folder: Path) -> None:
    model = stirred(adapted(model_folder, lora_dropout=0.5)[0])
    assert torch.equal(ours(model), ours(model))
    model.train()
    assert not torch.equal(ours(model), ours(model))
    model.eval()
    assert torch.equal(ours(model), ours(model))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_target": "q_porj"}, f"lora_target: 'q_porj': the model has no such module: it has {LINEAR}"),
        ({"lora_target": "q_proj,nothing"}, f"lora_target: 'nothing': the model has no such module: it has {LINEAR}"),
        ({"lora_target": "lm_head"}, f"lora_target: 'lm_head': the head takes no adapter: choose among {LINEAR}"),
        ({"lora_target": "embed_tokens"}, "these embeddings are tied to the head"),
        ({"layers_to_transform": (0, 2)}, "layers_to_transform: 2: the model has the blocks 0 to 1"),
        ({"layers_to_transform": (-1,)}, "layers_to_transform: -1: the model has the blocks 0 to 1"),
        ({"bottleneck_size": 4}, "lora_rank and bottleneck_size: give one of them"),
    ],
)
def test_what_cannot_be_adapted_is_named(settings: dict[str, object], message: str, model_folder: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        adapted(model_folder, **settings)


def test_chosen_modules_alone_are_adapted(model_folder: Path) -> None:
    model, _ = adapted(model_folder, lora_target="q_proj, self_attn.v_proj", layers_to_transform=(0,))
    trained = {name.split(".lora_")[0].rsplit("layers.")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"0.self_attn.q_proj", "0.self_attn.v_proj"}


def test_embeddings_that_are_not_tied_can_be_adapted(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = tiny.write_model(tmp_path / "base", tokenizer_folder, "llama")
    model, chat = adapted(folder, lora_target="embed_tokens,q_proj")
    after = ours(stirred(model))
    checkpoint.save(model, chat, tmp_path / "adapter")  # pyright: ignore
    assert not any("embed_tokens.weight" in name for name in load_file(tmp_path / "adapter/adapter_model.safetensors"))
    assert (ours(checkpoint.load(tmp_path / "adapter")[0]) - after).abs().max() < 1e-5


@pytest.mark.parametrize("changed", ["target:lm_head", "target:embed_tokens", "save:lm_head", "save:embed_tokens"])
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`", "ignore:Setting `save_embedding_layers`")
def test_tied_embeddings_of_adapters_made_elsewhere(changed: str, model_folder: Path, tmp_path: Path) -> None:
    """peft changes one of the two matrices that are one in the base; merged and saved whole it stays so."""
    how, _, name = changed.partition(":")
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    assert base.lm_head.weight is base.model.embed_tokens.weight
    if how == "target":
        config = LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", name], task_type="CAUSAL_LM")
    else:
        config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=[name], task_type="CAUSAL_LM")
    foreign = stirred(get_peft_model(base, config)).eval()
    foreign.save_pretrained(str(tmp_path / "foreign"))  # pyright: ignore
    with torch.no_grad():
        wanted = tiny.plain_log_probabilities(foreign, IDS, 4).float()
    for file in model_folder.iterdir():
        if "token" in file.name or "chat" in file.name:
            shutil.copy(file, tmp_path / "foreign")
    merged, chat = checkpoint.load(tmp_path / "foreign")
    assert (ours(merged) - wanted).abs().max() < 1e-5
    checkpoint.save(merged, chat, tmp_path / "saved")
    assert (ours(checkpoint.load(tmp_path / "saved")[0]) - wanted).abs().max() < 1e-5


def test_a_merge_that_changes_the_answers_is_refused(
    monkeypatch: pytest.MonkeyPatch, model_folder: Path, tmp_path: Path
) -> None:
    model, chat = adapted(model_folder)
    checkpoint.save(stirred(model), chat, tmp_path / "adapter")  # pyright: ignore
    monkeypatch.setattr(LoraModel, "merge_and_unload", LoraModel.unload)
    with pytest.raises(ModelError, match=r"merged into its base it gives logits that differ by .*cannot be merged"):
        checkpoint.load(tmp_path / "adapter")


def test_damaged_adapters_are_named(model_folder: Path, tmp_path: Path) -> None:
    model, chat = adapted(model_folder)
    checkpoint.save(stirred(model), chat, tmp_path / "adapter")  # pyright: ignore

    def copied(name: str) -> Path:
        return Path(shutil.copytree(tmp_path / "adapter", tmp_path / name))

    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    cut = copied("cut") / "adapter_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-100])
    lacking = copied("lacking") / "adapter_model.safetensors"
    save_file(dict(list(weights.items())[1:]), lacking, {"format": "pt"})
    nan = copied("nan") / "adapter_model.safetensors"
    save_file({name: value * float("nan") for name, value in weights.items()}, nan, {"format": "pt"})
    pickled = copied("pickled")
    torch.save(weights, pickled / "adapter_model.bin")
    (pickled / "adapter_model.safetensors").unlink()
    broken = copied("broken")
    (broken / "adapter_config.json").write_text("{")
    for name, message in {
        "cut": "cut: cannot be put on its base",
        "lacking": "lacking: cannot be put on its base: Found missing adapter keys",
        "nan": "merged into its base it gives logits that differ by nan",
        "pickled": "no adapter_model.safetensors: save the adapter in the safetensors format",
        "broken": "adapter_config.json: damaged",
    }.items():
        with pytest.raises(ModelError, match=message):
            checkpoint.load(tmp_path / name)


@pytest.fixture
def home(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a base in it and an adapter on that base, trained from there."""
    (tmp_path / "home" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "home")
    shutil.copytree(model_folder, "runs/sft")
    model, chat = adapted(Path("runs/sft"))
    checkpoint.save(stirred(model), chat, Path("runs/dpo"))  # pyright: ignore
    return tmp_path / "home"


def test_a_base_is_found_from_anywhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ours(checkpoint.load("runs/dpo")[0])
    with torch.no_grad():
        foreign = AutoPeftModelForCausalLM.from_pretrained("runs/dpo")
        assert (tiny.plain_log_probabilities(foreign.eval(), IDS, 4).float() - wanted).abs().max() < 1e-5
        plain = AutoModelForCausalLM.from_pretrained("runs/dpo")
        assert (tiny.plain_log_probabilities(plain.eval(), IDS, 4).float() - wanted).abs().max() < 1e-5
    for file in Path("runs/dpo").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
    monkeypatch.chdir(tmp_path)
    assert torch.equal(ours(checkpoint.load("home/runs/dpo")[0]), wanted)
    home.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "runs").rename(tmp_path / "elsewhere" / "courses")
    assert torch.equal(ours(checkpoint.load("elsewhere/courses/dpo")[0]), wanted)


def test_an_absolute_path_leaves_no_trace(home: Path) -> None:
    model, chat = adapted(home / "runs" / "sft")
    checkpoint.save(stirred(model), chat, home / "runs" / "dpo2")  # pyright: ignore
    for file in (home / "runs" / "dpo2").iterdir():
        assert file.read_bytes() == (home / "runs" / "dpo" / file.name).read_bytes()


@pytest.mark.usefixtures("home")
def test_a_base_that_changed_is_refused() -> None:
    wanted = ours(checkpoint.load("runs/dpo")[0])
    Path("hidden").mkdir()
    shutil.move("runs/sft", "hidden/sft-1a2b3c4d")
    with pytest.raises(ModelError, match=r"runs/dpo: its base model is gone: it was \.\./sft from this folder"):
        checkpoint.load("runs/dpo")
    other = Path(shutil.copytree("hidden/sft-1a2b3c4d", "runs/sft"))
    weights = load_file(other / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"its base runs/sft has other weights than those it was trained on"):
        checkpoint.load("runs/dpo")
    shutil.move("hidden", "runs/.previous")  # where a run goes when it is done again
    assert torch.equal(ours(checkpoint.load("runs/dpo")[0]), wanted)
    Path("runs/dpo/base.json").write_text("[]")
    with pytest.raises(ModelError, match=r"base.json: damaged"):
        checkpoint.load("runs/dpo")


@pytest.mark.usefixtures("home")
def test_an_adapter_made_elsewhere_needs_no_note() -> None:
    Path("runs/dpo/base.json").unlink()
    wanted = ours(checkpoint.load("runs/dpo")[0])
    config = json.loads(Path("runs/dpo/adapter_config.json").read_text())
    Path("runs/dpo/adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "../sft"}))
    assert torch.equal(ours(checkpoint.load("runs/dpo")[0]), wanted)
    assert bases.find("runs/dpo", "someone/model-on-the-hub") == "someone/model-on-the-hub"
