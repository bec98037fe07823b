"""Our engine: answers from a model in memory, for rollouts, evaluation, chat and serving alike.

Sequences are generated in slots of one preallocated cache of keys and values; a slot that is free is filled at once.
A prompt is read once for all its samples. Nothing is padded, so a sequence does not depend on its neighbours.
Each sequence draws its own random numbers, from the seed and its place: the same in any batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.errors import SettingsError
from tutelage.inference.language_model import Reply, Sampling
from tutelage.model import checkpoint, forward
from tutelage.model.attention import Cache, Layout, Tree
from tutelage.model.chat import Chat
from tutelage.model.device import threads
from tutelage.records import Message


@dataclass(slots=True)
class Rollout:
    """A generated sequence."""

    prompt: int
    """Which prompt it answers."""
    ids: list[int] = field(default_factory=list[int])
    """Its tokens, with the one that stopped it."""
    log_probabilities: list[float] = field(default_factory=list[float])
    """Of each token under the model at the sampling temperature, before top-k and top-p, in nats."""
    stopped: bool = False
    """It ended by itself."""


class Engine:
    """A `LanguageModel` on a model in memory. Not thread-safe."""

    def __init__(self, model: nn.Module, chat: Chat, name: str, slots: int = 64) -> None:
        self.model = model
        self.chat = chat
        self.name = name
        self.slots = slots
        config = checkpoint.base(model).config.get_text_config()
        self.layers = int(config.num_hidden_layers)
        self.context = checkpoint.context(model)
        """Tokens of a prompt and its answer together, at most."""

    @classmethod
    def load(cls, path: Path | str) -> Engine:
        """The engine of a model folder.

        Raises:
            ModelError: no model, tokenizer or chat template there.
        """
        torch.set_num_threads(threads())
        model, chat = checkpoint.load(path)
        return cls(model, chat, Path(path).resolve().name)

    def replies(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> list[Reply]:
        """One answer to each prompt, in order."""
        encoded = [self.chat.prompt(prompt) for prompt in prompts]
        rollouts = self.generate(encoded, sampling)
        return [self._reply(rollout, ids, sampling) for rollout, ids in zip(rollouts, encoded, strict=True)]

    def reply(self, prompt: Sequence[Message], sampling: Sampling) -> Generator[str, None, Reply]:
        """One answer, streamed as pieces of text; returns it whole."""
        rollout = Rollout(0)
        given = 0
        encoded = self.chat.prompt(prompt)
        for _ in self._steps([encoded], sampling, [rollout]):
            text = self.text(rollout, sampling)
            # A character may need more tokens than have come; a stop text may have begun.
            held = max((len(stop) - 1 for stop in sampling.stop), default=0) if not rollout.stopped else 0
            ready = text.rstrip("\ufffd") if not rollout.stopped else text
            ready = ready[: len(ready) - held] if held else ready
            if len(ready) > given:
                yield ready[given:]
                given = len(ready)
        whole = self._reply(rollout, encoded, sampling)
        if len(whole.text) > given:
            yield whole.text[given:]
        return whole

    def loglikelihood(self, prompt: Sequence[Message], continuation: str) -> float:
        """The log-probability of the continuation as the answer to the prompt, in nats; its end not included.

        Raises:
            SettingsError: the two do not fit the model's context.
        """
        before, after = self.chat.prompt(prompt), self.chat.text(continuation)
        self._require_room(len(before) + len(after) - 1)
        row = torch.tensor(before + after, device=self._device)
        layout = Layout((Tree(0, 0, (len(row),)),))
        with torch.no_grad():
            states = forward.hidden_states(self.model, row, torch.arange(len(row), device=row.device), layout)
            distribution = torch.log_softmax(forward.logits(self.model, states[len(before) - 1 : -1]), -1)
        return float(distribution.gather(1, row[len(before) :, None]).double().sum())

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling, samples: int = 1) -> list[Rollout]:
        """``samples`` sequences for each prompt of ids, prompt by prompt.

        Raises:
            SettingsError: a prompt leaves no room for an answer in the model's context.
        """
        rollouts = [Rollout(number) for number in range(len(prompts)) for _ in range(samples)]
        if not rollouts:
            return []
        for _ in self._steps(prompts, sampling, rollouts):
            pass
        return rollouts

    def text(self, rollout: Rollout, sampling: Sampling) -> str:
        """The text of a rollout, cut before a stop text."""
        ids = (
            rollout.ids[:-1] if rollout.stopped and rollout.ids and rollout.ids[-1] in self.chat.stops else rollout.ids
        )
        text = self.chat.decode(ids)
        for stop in sampling.stop:
            text = text.split(stop)[0]
        return text

    def _reply(self, rollout: Rollout, prompt: list[int], sampling: Sampling) -> Reply:
        return Reply(
            text=self.text(rollout, sampling),
            finish_reason="stop" if rollout.stopped else "length",
            prompt_tokens=len(prompt),
            completion_tokens=len(rollout.ids),
        )

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _require_room(self, tokens: int) -> None:
        if tokens >= self.context:
            raise SettingsError(
                f"{self.name}: a prompt of {tokens} tokens does not fit the context of {self.context}: shorten it"
            )

    @torch.no_grad()
    def _steps(self, prompts: Sequence[list[int]], sampling: Sampling, rollouts: list[Rollout]) -> Iterator[None]:
        """Fills the rollouts, one token each at a time."""
        longest = max(len(prompt) for prompt in prompts)
        self._require_room(longest)
        capacity = min(self.context, longest + sampling.max_new_tokens)
        slots = min(self.slots, len(rollouts))
        cache = Cache(self.layers, slots, capacity)
        cache.lengths = cache.lengths.to(self._device)
        waiting: deque[int] = deque(range(len(rollouts)))
        running: list[int] = []
        draws = torch.zeros(slots, sampling.max_new_tokens, dtype=torch.float64, device=self._device)
        while waiting or running:
            free = slots - len(running)
            if waiting and (free >= max(1, slots // 4) or not running):
                admitted = [waiting.popleft() for _ in range(min(free, len(waiting)))]
                states = self._read(prompts, [rollouts[i].prompt for i in admitted], cache, len(running))
                for place, number in enumerate(admitted, start=len(running)):
                    draws[place] = _uniform(sampling.seed, number, sampling.max_new_tokens)
                fresh = list(range(len(running), len(running) + len(admitted)))
                running += admitted
                self._append(states, fresh, running, rollouts, sampling, draws)
            else:
                cache.active, cache.prefill = len(running), None
                positions = cache.lengths[: cache.active]
                last = torch.tensor([rollouts[i].ids[-1] for i in running], device=self._device)
                states = forward.hidden_states(self.model, last, positions, cache)
                cache.lengths[: cache.active] += 1
                self._append(states, list(range(len(running))), running, rollouts, sampling, draws)
            self._retire(running, rollouts, prompts, sampling, cache, draws)
            yield

    def _read(self, prompts: Sequence[list[int]], wanted: list[int], cache: Cache, first: int) -> Tensor:
        """Reads prompts into slots from ``first`` on, equal ones once; gives their last hidden states, one a slot."""
        unique = sorted(set(wanted))
        trees: list[Tree] = []
        row: list[int] = []
        positions: list[int] = []
        for number in unique:
            trees.append(Tree(len(row), 0, (len(prompts[number]),)))
            row += prompts[number]
            positions += range(len(prompts[number]))
        cache.prefill = Layout(tuple(trees))
        cache.targets = tuple(
            tuple(first + place for place, prompt in enumerate(wanted) if prompt == number) for number in unique
        )
        states = forward.hidden_states(
            self.model, torch.tensor(row, device=self._device), torch.tensor(positions, device=self._device), cache
        )
        ends = [tree.start + tree.branches[0] - 1 for tree in trees]
        for place, prompt in enumerate(wanted):
            cache.lengths[first + place] = len(prompts[prompt])
        return states[[ends[unique.index(prompt)] for prompt in wanted]]

    def _append(
        self, states: Tensor, places: list[int], running: list[int], rollouts: list[Rollout], sampling: Sampling,
        draws: Tensor,
    ) -> None:  # fmt: skip
        """Draws one token for each place."""
        counts = torch.tensor([len(rollouts[running[place]].ids) for place in places], device=self._device)
        uniform = draws[torch.tensor(places, device=self._device), counts]
        tokens, chosen = sample(forward.logits(self.model, states), uniform, sampling)
        for place, token, value in zip(places, tokens.tolist(), chosen.tolist(), strict=True):
            rollouts[running[place]].ids.append(token)
            rollouts[running[place]].log_probabilities.append(value)

    def _retire(
        self, running: list[int], rollouts: list[Rollout], prompts: Sequence[list[int]], sampling: Sampling,
        cache: Cache, draws: Tensor,
    ) -> None:  # fmt: skip
        """Frees the slots of those that are done; the last slot moves into the gap."""
        for place in reversed(range(len(running))):
            rollout = rollouts[running[place]]
            rollout.stopped = rollout.ids[-1] in self.chat.stops or self._stopped_by_text(rollout, sampling)
            room = self.context - len(prompts[rollout.prompt])
            if not rollout.stopped and len(rollout.ids) < min(sampling.max_new_tokens, room):
                continue
            last = len(running) - 1
            if place != last:
                cache.move(last, place)
                draws[place] = draws[last]
                running[place] = running[last]
            running.pop()

    def _stopped_by_text(self, rollout: Rollout, sampling: Sampling) -> bool:
        if not sampling.stop:
            return False
        text = self.chat.decode(rollout.ids)
        return any(stop in text for stop in sampling.stop)


def sample(logits: Tensor, uniform: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """(N,) tokens drawn from (N, vocabulary) logits by (N,) uniform numbers, and their log-probabilities.

    The log-probabilities are of the whole distribution at the temperature (at 1 where the temperature is 0), whatever
    top-k and top-p leave of it.
    """
    if sampling.temperature == 0:
        distribution = torch.log_softmax(logits, -1)
        tokens = distribution.argmax(-1)
        return tokens, distribution.gather(1, tokens[:, None])[:, 0]
    distribution = torch.log_softmax(logits / sampling.temperature, -1)
    ranked, order = distribution.double().exp(), None
    if sampling.top_k or sampling.top_p < 1:
        ranked, order = ranked.sort(dim=-1, descending=True, stable=True)
    if sampling.top_k:
        ranked[:, sampling.top_k :] = 0
    total = ranked.cumsum(-1)
    if sampling.top_p < 1:
        # The token that crosses top_p is still in.
        ranked = ranked * (total - ranked < sampling.top_p * total[:, -1:])
        total = ranked.cumsum(-1)
    place = torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True)
    # Rounding may leave a uniform number just past the end: back to the last token that has any probability.
    last = ranked.shape[-1] - 1 - (ranked > 0).int().flip(-1).argmax(-1, keepdim=True)
    place = torch.minimum(place, last)
    tokens = (place if order is None else order.gather(1, place))[:, 0]
    return tokens, distribution.gather(1, tokens[:, None])[:, 0]


def _uniform(seed: int, number: int, count: int) -> Tensor:
    """(count,) numbers in [0, 1) that depend on seed and number alone."""
    generator = np.random.Generator(np.random.Philox(key=[seed % (1 << 63), number]))
    return torch.from_numpy(generator.random(count))
