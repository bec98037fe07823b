"""From a conversation to token ids and the mask of what is trained: one function for training, chat and serving.

The template is rendered once with a stand-in for each turn's content, then cut at the stand-ins. So the marks come
from the template and the contents from the people, and they never mix: ids and mask are joined piece by piece, nothing
is searched for in the text, and a user who types ``<|assistant|>`` types eight ordinary tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tutelage.errors import ModelError, RecordError
from tutelage.records import Message

TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- message['content'] + '<|end|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
"""The template of the models that we make. A turn is ``<|role|>content<|end|>``; what the assistant says, with its
end, is marked as the part to learn."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, and for each whether it is trained."""

    ids: list[int]
    trained: list[bool]


class Chat:
    """A tokenizer and its template.

    Raises:
        ModelError: no chat template, or one that cannot be trained on: content is lost, or no token ends a turn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, where: str) -> None:
        self.tokenizer = tokenizer
        self.where = where
        self.backend = tokenizer.backend_tokenizer
        # Some are saved as they were last called, and would pad or cut every text.
        self.backend.no_padding()
        self.backend.no_truncation()
        if not tokenizer.chat_template:
            raise ModelError(f"{where}: no chat template: add chat_template.jinja")
        closing = self._marks((Message(role="user", content="a"), Message(role="assistant", content="b")), False)[-1]
        self.end = self._first_special(closing)
        """The id that ends an assistant's turn: where generation stops."""
        if self.end is None:
            raise ModelError(f"{where}: its chat template ends the assistant's turn with no special token")
        if tokenizer.pad_token_id == self.end:
            raise ModelError(f"{where}: the padding token is the one that ends a turn: it would never learn to stop")

    @classmethod
    def load(cls, path: Path | str) -> Chat:
        """From a model or tokenizer folder, or a hub id.

        Raises:
            ModelError: no tokenizer there.
        """
        return cls(load_tokenizer(path), str(path))

    @property
    def stops(self) -> frozenset[int]:
        """The ids that end an answer."""
        return frozenset(i for i in (self.end, self.tokenizer.eos_token_id) if isinstance(i, int))

    def text(self, content: str) -> list[int]:
        """Ids of plain text: special tokens written in it are only text."""
        self.backend.encode_special_tokens = True
        return self.backend.encode(content, add_special_tokens=False).ids

    def encode(self, messages: Sequence[Message]) -> Encoded:
        """A whole conversation; trained are the assistant's contents and the token that ends each of them."""
        marks = self._marks(messages, False)
        ids, trained = self._template(marks[0]), [False] * len(self._template(marks[0]))
        for message, after in zip(messages, marks[1:], strict=True):
            content, closing = self.text(message.content), self._template(after)
            learned = message.role == "assistant"
            ids += content + closing
            trained += [learned] * len(content)
            stop = closing.index(self.end) + 1 if learned and self.end in closing else 0
            trained += [True] * stop + [False] * (len(closing) - stop)
        return Encoded(ids, trained)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids before the answer: exactly those that stand before it in training."""
        marks = self._marks(messages, True)
        ids = self._template(marks[0])
        for message, after in zip(messages, marks[1:], strict=True):
            ids += self.text(message.content) + self._template(after)
        return ids

    def answer(self, response: str) -> list[int]:
        """The ids of an answer, with the token that ends it."""
        assert self.end is not None
        return [*self.text(response), self.end]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, without special tokens."""
        return self.backend.decode(list(ids), skip_special_tokens=True)

    def decode_each(self, ids: Sequence[int]) -> list[str]:
        """Text of each id by itself, special tokens shown."""
        return [self.backend.decode([i], skip_special_tokens=False) for i in ids]

    def _marks(self, messages: Sequence[Message], prompt: bool) -> list[str]:
        """The template's own text before, between and after the contents."""
        holders = [f"\ue000{place}\ue001" for place in range(len(messages))]
        turns = [{"role": m.role, "content": h} for m, h in zip(messages, holders, strict=True)]
        try:
            rendered = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=prompt, enable_thinking=False
            )
        except Exception as error:  # noqa: BLE001  a template may raise anything, and says why
            raise RecordError(f"{self.where}: its chat template refuses these turns: {error}") from None
        rest, marks = str(rendered), []
        for holder, message in zip(holders, messages, strict=True):
            before, found, rest = rest.partition(holder)
            if not found:
                raise ModelError(f"{self.where}: its chat template drops the content of a {message.role} turn")
            marks.append(before)
        return [*marks, rest]

    def _template(self, text: str) -> list[int]:
        if not text:
            return []
        self.backend.encode_special_tokens = False
        return self.backend.encode(text, add_special_tokens=False).ids

    def _first_special(self, text: str) -> int | None:
        special = set(self.tokenizer.all_special_ids)
        added = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return next((i for i in self._template(text) if i in special | added), None)


def load_tokenizer(path: Path | str) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder or a hub id.

    Raises:
        ModelError: there is none, or not a fast one.
    """
    if Path(path).is_dir() and not (Path(path) / "tokenizer.json").exists():
        raise ModelError(f"{path}: no tokenizer: it needs tokenizer.json and tokenizer_config.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: no tokenizer: {str(error).splitlines()[0]}") from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(f"{path}: needs a fast tokenizer, with tokenizer.json")
    return tokenizer
