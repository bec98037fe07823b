"""Models small enough to test with: a byte-level tokenizer of 300 tokens, decoders of two blocks and width 32."""

import copy
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from tutelage import settings
from tutelage.model import attention
from tutelage.model.chat import TEMPLATE, Chat
from tutelage.records import Comparison, Conversation, Document, Message, Record, Verdict, write
from tutelage.run import Run, read_metrics
from tutelage.training.batches import Branch, Example

SPECIAL = ["<|pad|>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>"]
PAD, END_OF_TEXT, SYSTEM, USER, ASSISTANT, TOOL, END = range(7)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    "'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

SHAPE = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "intermediate_size": 64, "max_position_embeddings": 256, "initializer_range": 0.15,
    "bos_token_id": None, "eos_token_id": END, "pad_token_id": PAD,
}  # fmt: skip

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": 5},
    "gemma2": {"sliding_window": 5, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0,
               "final_logit_softcapping": 3.0},
    "gpt2": {"max_position_embeddings": 64},
}  # fmt: skip
"""Where our attention has something of its own to get wrong: grouped heads, windows shorter than sequences, caps."""


def make_tokenizer(template: str = TEMPLATE, special: Sequence[str] = SPECIAL, end: str = "<|end|>") -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(special), show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(["the cat sat on the mat and the dog ran to the man " * 4], trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=special[0], eos_token=end, additional_special_tokens=list(special[1:]),
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    wrapped.chat_template = template
    return wrapped


def write_tokenizer(folder: Path, **options: Any) -> Path:
    make_tokenizer(**options).save_pretrained(str(folder))
    return folder


def make_model(architecture: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = AutoConfig.for_model(architecture, **{**SHAPE, **ARCHITECTURES[architecture], **changes})
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME, dtype=torch.float32).eval()


def write_model(folder: Path, tokenizer: Path, architecture: str, seed: int = 0, **changes: Any) -> Path:
    make_model(architecture, seed, **changes).save_pretrained(str(folder))
    for file in tokenizer.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def eager(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights with the architecture's own attention."""
    twin = (
        AutoModelForCausalLM.from_config(copy.deepcopy(model.config), attn_implementation="eager")
        .to(model.dtype)
        .eval()
    )
    twin.load_state_dict(model.state_dict())
    return twin


def branch(ids: Sequence[int], first: bool = True) -> Branch:
    return Branch(list(ids), [first] + [True] * (len(ids) - 1))


def example(prompt: Sequence[int], *branches: Sequence[int]) -> Example:
    return Example(list(prompt), [branch(ids, bool(prompt)) for ids in branches])


def draw(rng: random.Random, length: int) -> list[int]:
    return [rng.randrange(7, 300) for _ in range(length)]


def user(text: str) -> Message:
    return Message(role="user", content=text)


def assistant(text: str) -> Message:
    return Message(role="assistant", content=text)


WORDS = "cat dog man mat sun sea".split()


def conversations(count: int = 24) -> list[Conversation]:
    return [
        Conversation(
            id=f"c{i}", messages=(user(f"the {WORDS[i % 6]}?"), assistant(f"a {WORDS[i % 6]} ran")), task="echo",
        )
        for i in range(count)
    ]  # fmt: skip


def comparisons(count: int = 24) -> list[Comparison]:
    """A good answer says "the", a bad one "sun": easily told apart."""
    return [
        Comparison(
            id=f"p{i}", prompt=(user(f"{WORDS[i % 6]} {i}"),),
            responses=(f"the {WORDS[i % 5]}", f"sun {WORDS[(i + 1) % 5]}")[:: 1 if i % 2 else -1],
            ranks=(1, 2) if i % 2 else (2, 1), judge="rule",
        )
        for i in range(count)
    ]  # fmt: skip


def verdicts(count: int = 24) -> list[Verdict]:
    return [
        Verdict(
            id=f"v{i}", prompt=(user(f"{WORDS[i % 6]} {i}"),), response=f"{'the' if i % 2 else 'sun'} {WORDS[i % 5]}",
            good=bool(i % 2), judge="rule",
        )
        for i in range(count)
    ]  # fmt: skip


def documents(count: int = 40) -> list[Document]:
    rng = random.Random(0)
    return [
        Document(
            id=f"d{i}", text=" ".join(rng.choices(["the cat", "the dog", "sat on", "ran to", "the mat"], k=12)),
            source="made here", licence="CC0-1.0", language="en", split="held_out" if i % 10 == 9 else "train",
        )
        for i in range(count)
    ]  # fmt: skip


def jsonl(path: Path, rows: Sequence[Record] | Sequence[dict[str, Any]]) -> Path:
    if rows and isinstance(rows[0], dict):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        write(path, rows)  # pyright: ignore
    return path


@contextmanager
def begun(module: Any, path: Path, **values: Any) -> Iterator[tuple[Any, Run]]:
    """A checked recipe of a stage, and its run."""
    stage = module.__name__.rsplit(".", 1)[-1]
    recipe = settings.check(module.Recipe, values, stage)
    with Run.begin(path, stage, settings.plain(recipe), quiet=True) as run:
        yield recipe, run


def run_stage(module: Any, path: Path, **values: Any) -> list[dict[str, Any]]:
    """A stage from beginning to end; gives its numbers."""
    with begun(module, path, **values) as (recipe, run):
        module.execute(recipe, run)
        run.finish()
    return read_metrics(path)


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def gradients(loss: torch.Tensor, model: nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def worst(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of named tensors."""
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def plain_log_probabilities(model: nn.Module, ids: Sequence[int], skip: int) -> torch.Tensor:
    """Of ids[skip:], by transformers' own forward of one sequence."""
    logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    found = torch.log_softmax(logits[:-1].double(), -1)
    return found[torch.arange(len(ids) - 1), list(ids[1:])][skip - 1 :]


def chat(folder: Path) -> Chat:
    return Chat.load(folder)


def chi_square_limit(freedom: int) -> float:
    """The 99.9 % point of chi-square, by Wilson and Hilferty."""
    return freedom * (1 - 2 / (9 * freedom) + 3.0902 * math.sqrt(2 / (9 * freedom))) ** 3


Reward = Callable[[Sequence[Sequence[Message]], Sequence[str]], list[float]]
