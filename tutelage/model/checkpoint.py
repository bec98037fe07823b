"""Models on disk: Hugging Face folders and PEFT adapter folders, read and written as transformers and peft do."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from tutelage.errors import ModelError
from tutelage.model import adapters, attention, bases, bottleneck, distribution, kernels, quantization
from tutelage.model.adapters import quiet_peft
from tutelage.model.chat import Chat, load_tokenizer
from tutelage.model.device import device, precision
from tutelage.run import rank, write_json

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Endings of files that torch.save or pickle wrote."""

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def load(path: Path | str, trainable: bool = False, bits: int = 0) -> tuple[PreTrainedModel, Chat]:
    """A causal language model and its chat, on the device, in float32 on a CPU and bfloat16 weights kept on a GPU.

    ``path``: a Hugging Face folder, a PEFT adapter folder, a finished run, or a hub id. An adapter is merged into its
    base, so that what is trained next stands on whole weights. ``bits``: 4 or 8, to hold the blocks' matrices in so
    many beneath an adapter.

    Raises:
        ModelError: no model, no tokenizer or no chat template there, or weights that do not fit their config.
    """
    path = Path(path) if Path(path).exists() else path
    model, _ = _pretrained(AutoModelForCausalLM, path, bits)
    chat = Chat.load(path)
    vocabulary = int(model.get_input_embeddings().num_embeddings)  # pyright: ignore
    if len(chat.tokenizer) > vocabulary:
        raise ModelError(f"{path}: its tokenizer has {len(chat.tokenizer)} tokens, its embedding only {vocabulary}")
    return _placed(model, trainable), chat


def load_scorer(
    path: Path | str, trainable: bool = False, new_head: bool = False, bits: int = 0
) -> tuple[PreTrainedModel, Chat]:
    """A model with one scalar output for each token: ``*ForSequenceClassification`` with one label.

    new_head: a causal model will do, too; its head is then zero until it is set.

    Raises:
        ModelError: as `load`; it has no head of its own, and must; or it needs another attention than ours.
    """
    model, headless = _pretrained(AutoModelForSequenceClassification, path, bits)
    if headless and not new_head:
        raise ModelError(f"{path}: not a reward model: it has no score head: give what the reward stage made")
    chat = Chat.load(path)
    pad = chat.tokenizer.pad_token_id
    if pad is None:
        raise ModelError(f"{path}: its tokenizer has no padding token: a reward model needs one, other than {chat.end}")
    model.config.pad_token_id = pad
    return _placed(model, trainable), chat


def create(config: transformers.PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A causal language model with fresh weights, the same for the same seed.

    Raises:
        ModelError: the architecture is no decoder, or needs another attention than ours.
    """
    torch.manual_seed(seed)
    try:
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME, dtype=torch.float32)
    except (ValueError, KeyError) as error:
        raise ModelError(f"architecture {config.model_type}: not a decoder: {str(error).splitlines()[0]}") from None
    return _placed(model.to(precision()), trainable=True)


def save(model: nn.Module, chat: Chat, folder: Path) -> None:
    """Writes a model, or its adapter, with tokenizer and template: what transformers, peft and vLLM load.

    A LoRA adapter whose base has no whole weights on disk to stand on, because it is itself merged or has bottlenecks,
    is merged too. Bottlenecks go into files of their own, beside a note on their base or their base itself.
    """
    model = distribution.whole(model)
    if rank():
        return
    folder.mkdir(parents=True, exist_ok=True)
    under = base(model)
    narrow = bottleneck.present(under)
    if isinstance(model, PeftModel):
        if under.name_or_path and not narrow:
            _save_lora(model, folder)
            save_tokenizer(chat, folder)
            return
        under = cast(PreTrainedModel, model.merge_and_unload())  # pyright: ignore[reportCallIssue]
        under.name_or_path = ""
    if narrow:
        bottleneck.save(under, folder)
        under.config.save_pretrained(str(folder))
        if under.name_or_path:
            bases.note(folder, str(under.name_or_path))
        else:
            under.save_pretrained(str(folder), state_dict=bottleneck.base_weights(under))
    else:
        under.save_pretrained(str(folder))
    save_tokenizer(chat, folder)


def _save_lora(model: PeftModel, folder: Path) -> None:
    """Writes the adapter as peft does, but the same in every process and without absolute paths."""
    model.save_pretrained(str(folder), save_embedding_layers=False, selected_adapters=["default"])
    under = base(model)
    if hasattr(under, "score"):
        config = copy.deepcopy(under.config)  # a reward's scale stands in it
        vars(config).pop("quantization_config", None)
        config.save_pretrained(str(folder))
    settings = folder / "adapter_config.json"
    values = json.loads(settings.read_text(encoding="utf-8"))
    values["base_model_name_or_path"] = bases.note(folder, str(under.name_or_path))
    for name in ("target_modules", "modules_to_save", "exclude_modules"):
        if isinstance(values.get(name), list):
            values[name] = sorted(values[name])  # peft writes sets, whose order changes from process to process
    write_json(settings, values)
    (folder / "README.md").unlink(missing_ok=True)  # peft's template card says nothing


def save_tokenizer(chat: Chat, folder: Path) -> None:
    """Writes the tokenizer and its template; byte for byte if they came from a folder."""
    source = Path(chat.where)
    names = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
    if (source / "tokenizer.json").exists():
        for name in names:
            if (source / name).exists():
                shutil.copyfile(source / name, folder / name)
    else:
        chat.tokenizer.save_pretrained(folder)


def is_adapter(path: Path | str) -> bool:
    """Whether the folder holds a PEFT adapter."""
    return (Path(path) / "adapter_config.json").exists()


def base(model: nn.Module) -> PreTrainedModel:
    """The transformers model under a PEFT wrapper, or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model  # pyright: ignore


def context(model: nn.Module) -> int:
    """How many tokens the model can see: its positions."""
    return int(getattr(base(model).config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


@contextlib.contextmanager
def reference(model: nn.Module, frozen: nn.Module | None) -> Generator[nn.Module]:
    """The reference model: the frozen copy, or, with adapters, the same weights with adapters off."""
    if frozen is not None:
        yield frozen
    else:
        with adapters.off(model):
            yield model


def require(path: Path | str) -> None:
    """Looks at a model folder without loading it.

    Raises:
        ModelError: it is a folder without a model, tokenizer or chat template.
    """
    if Path(path).is_dir():
        if not (Path(path) / "config.json").exists() and not is_adapter(path):
            raise ModelError(f"{path}: no model: it has neither config.json nor adapter_config.json")
        if not load_tokenizer(path).chat_template:
            raise ModelError(f"{path}: no chat template: add chat_template.jinja")


def _pretrained(kind: Any, path: Path | str, bits: int = 0) -> tuple[PreTrainedModel, bool]:
    """The model of a folder, and whether it is a scorer with a head that is new."""
    require(path)
    if bits and (is_adapter(path) or bottleneck.is_adapter(path)):
        raise ModelError(f"{path}: an adapter has no weights to quantise: train on a whole model")
    if is_adapter(path):
        return _merged(kind, path)
    if bottleneck.is_adapter(path):
        return _widened(kind, path)
    return _whole(kind, path, bits)


def _whole(kind: Any, path: Path | str, bits: int = 0) -> tuple[PreTrainedModel, bool]:
    _refuse_damaged(Path(path))
    scores = kind is AutoModelForSequenceClassification
    try:
        config = AutoConfig.from_pretrained(str(path))
        if scores:
            config.num_labels = 1
        model, report = kind.from_pretrained(
            str(path), config=config, attn_implementation=attention.NAME, dtype=precision(),
            output_loading_info=True, use_safetensors=True, **(quantization.options(bits, precision()) if bits else {}),
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, StrictDataclassError) as error:
        raise ModelError(f"{path}: cannot be loaded: {str(error.__cause__ or error).splitlines()[0]}") from None
    lacking = sorted(report["missing_keys"])
    headless = scores and lacking == ["score.weight"]
    if headless:
        nn.init.zeros_(model.score.weight)
    elif lacking:
        raise ModelError(f"{path}: cannot be loaded: its file of weights lacks {lacking[0]} ({len(lacking)} in all)")
    foreign = sorted(name for name in report["unexpected_keys"] if name.split(".")[0] not in ("lm_head", "score"))
    if foreign:
        raise ModelError(
            f"{path}: cannot be loaded: its config has no place for {foreign[0]} ({len(foreign)} in all): the weights "
            "are another model's"
        )
    if bits:
        quantization.settle(model)
    return model, headless


def _refuse_damaged(folder: Path) -> None:
    """Raises: ModelError: weights that are cut short, or that only a pickle holds, which would run what it likes."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{file}: cannot be loaded: damaged or cut short ({error}): copy it again") from None
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        for file in sorted(folder.iterdir()):
            if file.suffix in PICKLES:
                raise ModelError(
                    f"{file}: cannot be loaded: a pickle, which may run any program when it is read: save the model "
                    "in the safetensors format"
                )


def _widened(kind: Any, path: Path | str) -> tuple[PreTrainedModel, bool]:
    """Bottlenecks on their base, which may stand in the same folder."""
    apart = (Path(path) / bases.FILE).exists()
    model, headless = _pretrained(kind, bases.find(path)) if apart else _whole(kind, path)
    headless = not bottleneck.restore(model, path) and headless
    if kind is AutoModelForSequenceClassification and not headless:
        model.config = AutoConfig.from_pretrained(str(path))  # a reward's scale stands in it
    if not apart:
        model.name_or_path = ""
    return model, headless


def _merged(kind: Any, path: Path | str) -> tuple[PreTrainedModel, bool]:
    """An adapter merged into its base. It has no name, for it stands on the disk nowhere as a whole.

    Raises:
        ModelError: the adapter is damaged or another model's, or merged it gives other logits than beside its base.
    """
    weights = Path(path) / "adapter_model.safetensors"
    if not weights.exists():
        raise ModelError(f"{path}: no adapter_model.safetensors: save the adapter in the safetensors format")
    try:
        settings = json.loads((Path(path) / "adapter_config.json").read_text(encoding="utf-8"))
        named, scores = settings["base_model_name_or_path"] or "", settings.get("task_type") == "SEQ_CLS"
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{path}: adapter_config.json: damaged, or without base_model_name_or_path") from None
    whole, _ = _pretrained(
        AutoModelForSequenceClassification if scores else AutoModelForCausalLM, bases.find(path, named)
    )
    try:
        if not settings.get("ensure_weight_tying"):
            with safe_open(weights, "pt") as file:
                _untie(whole, list(file.keys()))
        with quiet_peft():
            adapted = PeftModel.from_pretrained(whole, str(path))
            before = _look(adapted)
            model: Any = adapted.merge_and_unload()  # pyright: ignore[reportCallIssue]
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError, UserWarning) as error:
        raise ModelError(f"{path}: cannot be put on its base: {str(error).splitlines()[0]}") from None
    gaps = _look(model) - before
    if model.dtype == torch.float32:
        difference, limit = float(gaps.abs().max()), 1e-4 * max(1.0, float(before.abs().max()))
    else:  # the sum of two weights is rounded, so single numbers may be far off
        difference, limit = float(gaps.norm()), 0.1 * max(1.0, float(before.norm()))
    if not difference < limit:
        raise ModelError(
            f"{path}: merged into its base it gives logits that differ by {difference:.2g}: it cannot be merged"
        )
    own = Path(path) / "config.json"
    if scores and own.exists():
        model.config = AutoConfig.from_pretrained(str(own))
    headless = kind is AutoModelForSequenceClassification and not scores
    if headless:
        config = copy.deepcopy(model.config)
        config.num_labels = 1
        scorer = kind.from_config(config, attn_implementation=attention.NAME, dtype=model.dtype)
        scorer.base_model.load_state_dict(model.base_model.state_dict())
        nn.init.zeros_(scorer.score.weight)
        model = scorer
    model.name_or_path = ""
    return model, headless


def _untie(model: PreTrainedModel, keys: list[str]) -> None:
    """Parts the head from the embeddings if an adapter with these weights changes one of them alone."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embedding.weight:
        return
    touched = [f".{name}." for name, module in model.named_modules() if module is head or module is embedding]
    if any(name in key for key in keys for name in touched):
        head.weight = nn.Parameter(cast(Tensor, head.weight).detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False


@torch.no_grad()
def _look(model: nn.Module) -> Tensor:
    """(11, outputs) what the model's head gives for a short row, in float32."""
    under = base(model).eval()
    row = torch.arange(11, device=under.device) * 7 % int(under.config.get_text_config().vocab_size)
    layout = attention.Layout((attention.Tree(0, 0, (len(row),)),))
    decoder = cast(nn.Module, under.get_decoder())
    places = torch.arange(len(row), device=row.device)[None]
    hidden = decoder(input_ids=row[None], position_ids=places, use_cache=False, layout=layout).last_hidden_state
    head = cast(nn.Module, under.get_output_embeddings() or under.score)
    return cast(Tensor, head(hidden))[0].float()


def _placed(model: PreTrainedModel, trainable: bool) -> PreTrainedModel:
    """On the device, tried, with this machine's kernels, dropout off: the trainer of sft and pretrain turns it on.

    Raises:
        ModelError: the architecture needs another attention than ours, or its kernels give other numbers.
    """
    if not getattr(model, "is_quantized", False):  # those are put there as they are loaded
        model.to(device())  # pyright: ignore[reportArgumentType]
    model.eval()
    model.requires_grad_(trainable)
    attention.check(model)
    kernels.fuse(model)
    return model
