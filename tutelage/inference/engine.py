"""Our engine: answers from a model in memory, for rollouts, evaluation, chat and serving alike.

Sequences are generated in slots of one preallocated cache of keys and values; a slot that is free is filled at once.
A prompt is read once for all its samples. Nothing is padded, so a sequence does not depend on its neighbours.
Each sequence draws its own random numbers, from the seed and its place: the same in any batch.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tutelage.errors import SettingsError
from tutelage.inference.language_model import Reply, Sampling
from tutelage.model import checkpoint, forward
from tutelage.model.attention import Layout, Tree
from tutelage.model.cache import FEWEST, Cache
from tutelage.model.chat import Chat
from tutelage.model.device import cache_bytes, threads
from tutelage.records import Message

MOST_SLOTS = (512, 192)
"""Sequences at a time, at most, where their number is not given: on a GPU, and on a CPU, where more do not make a
step's arithmetic denser."""
READ_AT_ONCE = (8192, 2048)
"""Tokens of prompts that are read in one row: on a GPU, and on a CPU, where they should stay in its cache."""
BLOCK = 64
"""Tokens of the vocabulary whose probabilities are first added up by themselves, to draw from."""
CANDIDATES = 256
"""The likeliest tokens among which top-p looks first."""


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

    def __init__(self, model: nn.Module, chat: Chat, name: str, slots: int | None = None) -> None:
        self.model = model
        self.chat = chat
        self.name = name
        self.slots = slots
        """Sequences at a time; None for as many as are wanted and memory is meant for."""
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
        # One row a step: half again as fast as four, and nobody compares its last bits.
        for _ in self._steps([encoded], sampling, [rollout], fewest=1):
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

    def fits(self, prompt: Sequence[Message], continuation: str) -> bool:
        """Whether there is room for a prompt and an answer."""
        return len(self.chat.prompt(prompt)) + len(self.chat.text(continuation)) - 1 < self.context

    def require(self, prompts: Iterable[Sequence[Message]]) -> None:
        """Sees to it that there is room for an answer to each prompt, before any is drawn.

        Raises:
            SettingsError: there is none to one of them.
        """
        for prompt in prompts:
            tokens = len(self.chat.prompt(prompt))
            if tokens >= self.context:
                raise SettingsError(
                    f"{self.name}: a prompt of {tokens} tokens does not fit the context of {self.context}: shorten or "
                    f"leave out the one that ends {prompt[-1].content[-60:]!r}"
                )

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
        for _ in self._steps(prompts, sampling, rollouts) if rollouts else ():
            pass
        return rollouts

    def finished(
        self, prompts: Sequence[list[int]], sampling: Sampling, samples: int = 1
    ) -> Iterator[tuple[int, Rollout]]:
        """As `generate`, one by one as they are done, each with its place in what `generate` gives."""
        rollouts = [Rollout(number) for number in range(len(prompts)) for _ in range(samples)]
        for done in self._steps(prompts, sampling, rollouts) if rollouts else ():
            yield from ((number, rollouts[number]) for number in done)

    def answering(self, prompts: Sequence[Sequence[Message]], sampling: Sampling) -> Iterator[tuple[int, Reply]]:
        """As `replies`, one by one as they are done, each with the place of its prompt."""
        encoded = [self.chat.prompt(prompt) for prompt in prompts]
        for number, rollout in self.finished(encoded, sampling):
            yield number, self._reply(rollout, encoded[number], sampling)

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

    def _slots(self, wanted: int, capacity: int) -> int:
        """How many sequences are generated at a time: those wanted, as far as memory for them is meant."""
        if self.slots is not None:
            return min(self.slots, wanted)
        config = checkpoint.base(self.model).config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        each = 2 * self.layers * heads * size * capacity * next(self.model.parameters()).element_size()
        return min(wanted, MOST_SLOTS[self._device.type == "cpu"], max(1, cache_bytes() // each))

    @torch.no_grad()
    def _steps(
        self, prompts: Sequence[list[int]], sampling: Sampling, rollouts: list[Rollout], fewest: int = FEWEST
    ) -> Iterator[list[int]]:
        """Fills the rollouts, one token each at a time; gives the places of those that are done."""
        longest = max(len(prompt) for prompt in prompts)
        self._require_room(longest)
        capacity = min(self.context, longest + sampling.max_new_tokens)
        limits = [min(sampling.max_new_tokens, self.context - len(prompts[rollout.prompt])) for rollout in rollouts]
        slots = _Slots(self._slots(len(rollouts), capacity), sampling.seed, max(limits), self._device)
        cache = Cache(self.layers, slots.count, capacity, fewest)
        stops = self.chat.stops
        # Neighbours of about one length: what is read of the cache reaches as far as the longest of them.
        waiting = deque(sorted(range(len(rollouts)), key=lambda number: -len(prompts[rollouts[number].prompt])))
        while waiting or slots.running:
            free = slots.count - len(slots.running)
            first = 0
            if waiting and (free >= max(1, slots.count // 4) or not slots.running):
                first = len(slots.running)
                slots.admit([waiting.popleft() for _ in range(min(free, len(waiting)))])
                wanted = [rollouts[number].prompt for number in slots.running[first:]]
                states = self._read(prompts, wanted, cache, first)
            else:
                positions = cache.step(len(slots.running), self._device)
                states = forward.hidden_states(self.model, slots.last[: len(positions)], positions, cache)
            fresh = slice(first, len(slots.running))
            logits = forward.logits(self.model, states)[: fresh.stop - first]
            tokens, chosen = sample(logits, slots.uniform(fresh), sampling)
            slots.last[fresh] = tokens
            done: list[int] = []
            for place, token, value in zip(range(first, fresh.stop), tokens.tolist(), chosen.tolist(), strict=True):
                number = slots.running[place]
                rollout = rollouts[number]
                rollout.ids.append(token)
                rollout.log_probabilities.append(value)
                rollout.stopped = token in stops or self._stopped_by_text(rollout, sampling)
                if rollout.stopped or len(rollout.ids) == limits[number]:
                    done.append(place)
            finished = [slots.running[place] for place in done]
            for place in reversed(done):
                slots.free(place, cache)
            yield finished

    def _read(self, prompts: Sequence[list[int]], wanted: list[int], cache: Cache, first: int) -> Tensor:
        """Reads prompts into slots from ``first`` on, equal ones once; gives their last hidden states, one a slot.

        There are at least as many as the cache wants rows.
        """
        places: dict[int, list[int]] = {}
        for place, number in enumerate(wanted):
            places.setdefault(number, []).append(place)
        ends = torch.empty(0)
        for group in _pieces(list(places), prompts, READ_AT_ONCE[self._device.type == "cpu"]):
            row = [token for number in group for token in prompts[number]]
            positions = [position for number in group for position in range(len(prompts[number]))]
            starts = list(itertools.accumulate((len(prompts[number]) for number in group), initial=0))
            cache.read(tuple(
                (start, len(prompts[number]), tuple(first + place for place in places[number]))
                for start, number in zip(starts, group, strict=False)
            ))  # fmt: skip
            states = forward.hidden_states(
                self.model, torch.tensor(row, device=self._device), torch.tensor(positions, device=self._device), cache
            )
            if not len(ends):
                ends = states.new_zeros(max(len(wanted), cache.fewest), states.shape[1])
            for end, number in zip(starts[1:], group, strict=True):
                ends[places[number]] = states[end - 1]
        return ends

    def _stopped_by_text(self, rollout: Rollout, sampling: Sampling) -> bool:
        if not sampling.stop:
            return False
        text = self.chat.decode(rollout.ids)
        return any(stop in text for stop in sampling.stop)


class _Slots:
    """What is being generated, slot by slot; those in use stay together in front."""

    def __init__(self, count: int, seed: int, longest: int, device: torch.device) -> None:
        self.count = count
        self.seed = seed
        self.running: list[int] = []
        """The number of the rollout in each slot."""
        self.last = torch.zeros(max(count, FEWEST), dtype=torch.long, device=device)
        """Each slot's newest token."""
        self._drawn = torch.zeros(count, dtype=torch.long, device=device)
        self._draws = torch.zeros(count, longest, dtype=torch.float64, device=device)

    def admit(self, numbers: list[int]) -> None:
        """Gives the next slots to rollouts."""
        for place, number in enumerate(numbers, start=len(self.running)):
            self._draws[place] = _uniform(self.seed, number, self._draws.shape[1])
        self._drawn[len(self.running) : len(self.running) + len(numbers)] = 0
        self.running += numbers

    def uniform(self, places: slice) -> Tensor:
        """The next random number of each of these slots."""
        found = self._draws[places].gather(1, self._drawn[places, None])[:, 0]
        self._drawn[places] += 1
        return found

    def free(self, place: int, cache: Cache) -> None:
        """Frees a slot; the last one moves into the gap."""
        last = len(self.running) - 1
        if place != last:
            cache.move(last, place)
            for column in (self.last, self._drawn, self._draws):
                column[place] = column[last]
            self.running[place] = self.running[last]
        self.running.pop()


def _pieces(numbers: list[int], prompts: Sequence[list[int]], limit: int) -> list[list[int]]:
    """The numbers in groups whose prompts have at most ``limit`` tokens together, or are one."""
    groups: list[list[int]] = []
    used = limit
    for number in numbers:
        if used + len(prompts[number]) > limit:
            groups.append([])
            used = 0
        groups[-1].append(number)
        used += len(prompts[number])
    return groups


def sample(logits: Tensor, uniform: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """(N,) tokens drawn from (N, vocabulary) logits by (N,) uniform numbers, and their log-probabilities.

    The log-probabilities are of the whole distribution at the temperature (at 1 where the temperature is 0), whatever
    top-k and top-p leave of it. A token is found by its block first and then in it, so that only sums of blocks, and
    one block, are added up in double precision.
    """
    if sampling.temperature == 0:
        distribution = torch.log_softmax(logits, -1)
        tokens = distribution.argmax(-1)
        return tokens, distribution.gather(1, tokens[:, None])[:, 0]
    scaled = logits / sampling.temperature
    weights = scaled.sub_(scaled.amax(-1, keepdim=True)).exp_()
    whole = blocks = functional.pad(weights, (0, -weights.shape[1] % BLOCK)).view(len(weights), -1, BLOCK)
    if sampling.top_k or sampling.top_p < 1:
        blocks = functional.pad(_kept(weights, sampling), (0, -weights.shape[1] % BLOCK)).view_as(blocks)
    total = blocks.sum(-1).double().cumsum(-1)
    target = uniform[:, None] * total[:, -1:]
    block = _beyond(total, target)
    inside = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0].double().cumsum(-1)
    before = functional.pad(total, (1, 0)).gather(1, block)
    tokens = block * BLOCK + _beyond(inside, target - before)
    chosen = weights.gather(1, tokens).double().log() - whole.sum(-1).double().sum(-1, keepdim=True).log()
    return tokens[:, 0], chosen[:, 0].to(logits.dtype)


def _beyond(total: Tensor, target: Tensor) -> Tensor:
    """(N, 1) the first places of (N, K) running totals that are beyond (N, 1) targets.

    Rounding may leave a target just past the end: then the last place that adds anything.
    """
    last = torch.searchsorted(total, total[:, -1:].contiguous())
    return torch.minimum(torch.searchsorted(total, target, right=True), last)


def _kept(weights: Tensor, sampling: Sampling) -> Tensor:
    """(N, vocabulary) the weights that top-k and top-p leave, 0 for the others; of equal ones the first by id."""
    size = min(sampling.top_k or CANDIDATES, weights.shape[1])
    while True:
        ranked = weights.topk(size).values
        total = ranked.double().cumsum(-1)
        whole = total[:, -1:] if sampling.top_k else weights.double().sum(-1, keepdim=True)
        # The token that crosses top_p is still in.
        inside = total - ranked < sampling.top_p * whole
        if sampling.top_k or size == weights.shape[1] or not bool(inside[:, -1].any()):
            break
        size = min(4 * size, weights.shape[1])
    count = inside.sum(-1, keepdim=True)
    least = ranked.gather(1, count - 1)
    more, equal = weights > least, weights == least
    return weights * (more | (equal & (equal.cumsum(-1) <= count - more.sum(-1, keepdim=True))))


def _uniform(seed: int, number: int, count: int) -> Tensor:
    """(count,) numbers in [0, 1) that depend on seed and number alone."""
    generator = np.random.Generator(np.random.Philox(key=[seed % (1 << 63), number]))
    return torch.from_numpy(generator.random(count))
