"""Models on disk: Hugging Face folders and PEFT adapter folders, read and written as transformers and peft do."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from tutelage.errors import ModelError
from tutelage.model import attention
from tutelage.model.adapters import quiet_peft
from tutelage.model.chat import Chat, load_tokenizer
from tutelage.model.device import device
from tutelage.run import write_json

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def load(path: Path | str, trainable: bool = False) -> tuple[PreTrainedModel, Chat]:
    """A causal language model and its chat, on the device, in float32 on a CPU and bfloat16 weights kept on a GPU.

    ``path``: a Hugging Face folder, a PEFT adapter folder, a finished run, or a hub id. An adapter is merged into its
    base, so that what is trained next stands on whole weights.

    Raises:
        ModelError: no model, no tokenizer or no chat template there, or weights that do not fit their config.
    """
    path = Path(path) if Path(path).exists() else path
    model, _ = _pretrained(AutoModelForCausalLM, path)
    chat = Chat.load(path)
    vocabulary = int(model.get_input_embeddings().num_embeddings)  # pyright: ignore
    if len(chat.tokenizer) > vocabulary:
        raise ModelError(f"{path}: its tokenizer has {len(chat.tokenizer)} tokens, its embedding only {vocabulary}")
    attention.check(model)
    return _placed(model, trainable), chat


def load_scorer(path: Path | str, trainable: bool = False, new_head: bool = False) -> tuple[PreTrainedModel, Chat]:
    """A model with one scalar output for each token: ``*ForSequenceClassification`` with one label.

    new_head: a causal model will do, too; its head is then zero until it is set.

    Raises:
        ModelError: as `load`; or it has no head of its own, and must.
    """
    model, headless = _pretrained(AutoModelForSequenceClassification, path)
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
    except ValueError as error:
        raise ModelError(f"architecture {config.model_type}: not a decoder: {str(error).splitlines()[0]}") from None
    attention.check(model)
    return _placed(model, trainable=True)


def save(model: nn.Module, chat: Chat, folder: Path) -> None:
    """Writes a model, or its adapter, with tokenizer and template: what transformers, peft and vLLM load.

    An adapter whose base is itself a merged adapter has no whole weights on disk to stand on, so it is merged too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, PeftModel):
        base(model).config.save_pretrained(str(folder))  # peft leaves it out, and a reward's scale stands in it
        if not base(model).name_or_path:
            model = model.merge_and_unload()  # pyright: ignore[reportCallIssue]
    model.save_pretrained(str(folder))  # pyright: ignore[reportCallIssue]
    if is_adapter(folder):
        _put_in_order(folder / "adapter_config.json")
    readme = folder / "README.md"
    if readme.exists():
        readme.unlink()  # peft's template card says nothing
    save_tokenizer(chat, folder)


def _put_in_order(config: Path) -> None:
    """Sorts the lists that peft writes from sets, whose order changes from process to process."""
    values = json.loads(config.read_text(encoding="utf-8"))
    for name in ("target_modules", "modules_to_save", "exclude_modules"):
        if isinstance(values.get(name), list):
            values[name] = sorted(values[name])
    write_json(config, values)


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
        assert isinstance(model, PeftModel)
        with model.disable_adapter():
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


def _pretrained(kind: Any, path: Path | str) -> tuple[PreTrainedModel, bool]:
    """The model of a folder, and whether it is a scorer with a head that is new."""
    require(path)
    if is_adapter(path):
        return _merged(kind, path)
    scores = kind is AutoModelForSequenceClassification
    precision = torch.float32 if device().type == "cpu" else torch.bfloat16
    try:
        config = AutoConfig.from_pretrained(str(path))
        if scores:
            config.num_labels = 1
        model, report = kind.from_pretrained(
            str(path), config=config, attn_implementation=attention.NAME, dtype=precision, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, StrictDataclassError) as error:
        raise ModelError(f"{path}: cannot be loaded: {str(error.__cause__ or error).splitlines()[0]}") from None
    lacking = sorted(report["missing_keys"])
    headless = scores and lacking == ["score.weight"]
    if headless:
        nn.init.zeros_(model.score.weight)
    elif lacking:
        raise ModelError(f"{path}: cannot be loaded: its file of weights lacks {lacking[0]} ({len(lacking)} in all)")
    return model, headless


def _merged(kind: Any, path: Path | str) -> tuple[PreTrainedModel, bool]:
    """An adapter merged into its base. It has no name, for it stands on the disk nowhere as a whole."""
    settings = json.loads((Path(path) / "adapter_config.json").read_text(encoding="utf-8"))
    under, scores = settings["base_model_name_or_path"], settings.get("task_type") == "SEQ_CLS"
    whole, _ = _pretrained(AutoModelForSequenceClassification if scores else AutoModelForCausalLM, under)
    with quiet_peft():
        model: Any = PeftModel.from_pretrained(whole, str(path)).merge_and_unload()  # pyright: ignore
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


def _placed(model: PreTrainedModel, trainable: bool) -> PreTrainedModel:
    """On the device, dropout off: it is the trainer of sft and pretrain that turns it on."""
    model.to(device())  # pyright: ignore[reportArgumentType]
    model.eval()
    model.requires_grad_(trainable)
    return model
