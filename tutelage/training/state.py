"""What a trainer needs to go on, on the disk: a folder for a step, whole or not there.

    checkpoint/step-120/state.json          the step, small things, and the shape of every tensor
    checkpoint/step-120/0-of-2.safetensors  what process 0 holds: its part of what is spread, and all that is not

Parts that are spread over processes are joined when they are read, so a run may go on with another number of them.
There is no pickle anywhere: reading a state executes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from tutelage.errors import RunError
from tutelage.model import distribution
from tutelage.run import Run, processes, rank, sync, write_json


class State:
    """A state on the disk, open for reading."""

    def __init__(self, folder: Path) -> None:
        """Opens it, and looks whether it is whole.

        Raises:
            RunError: a file is missing, cut short or damaged.
        """
        self.folder = folder
        try:
            facts: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            self.step = int(facts["step"])
            self.small: dict[str, Any] = facts["small"]
            self.shapes: dict[str, list[int]] = facts["shapes"]
            self.parts = [_open(folder / _name(one, facts["processes"])) for one in range(facts["processes"])]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{folder / 'state.json'}: missing or damaged ({error}): delete {folder}") from None

    def tensor(self, name: str) -> Tensor:
        """A whole tensor."""
        held = [part.get_tensor(name) for part in self.parts if name in part.keys()]  # noqa: SIM118  no mapping
        spread = list(held[0].shape) != self.shapes[name]
        return torch.cat(held) if spread else held[0]

    def own(self, name: str) -> Tensor | None:
        """What this very process wrote; None if there was no such process."""
        return self.parts[rank()].get_tensor(name) if rank() < len(self.parts) else None


def write(folder: Path, step: int, tensors: Mapping[str, Tensor], small: Mapping[str, Any], keep: int) -> None:
    """Keeps the state of a step, written beside and then renamed, and of those before it the last ``keep`` in all.

    Every process calls it with tensors of the same names. A state of this step that is there already stays.
    """
    target = folder / f"step-{step}"
    if target.exists():
        return
    beside = target.with_name(target.name + ".tmp")
    if rank() == 0:
        for left in folder.glob("step-*.tmp"):  # of a process that was killed while it wrote
            shutil.rmtree(left, ignore_errors=True)
        beside.mkdir(parents=True)
    distribution.wait()
    file = beside / _name(rank(), processes())
    save_file({name: _local(tensor) for name, tensor in tensors.items()}, file)
    sync(file)
    distribution.wait()
    if rank() == 0:
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        write_json(
            beside / "state.json", {"step": step, "processes": processes(), "small": dict(small), "shapes": shapes}
        )
        sync(beside / "state.json")
        os.replace(beside, target)
        sync(folder)
        for older in _folders(folder)[:-keep]:
            shutil.rmtree(older)
    distribution.wait()


def newest(run: Run, where: Path) -> State | None:
    """The last whole state in a folder of a run; None if it has none yet. Damaged ones after it go, with a note.

    Raises:
        RunError: there are some, and all are damaged.
    """
    damaged: list[Path] = []
    last: RunError | None = None
    for folder in reversed(_folders(where)):
        try:
            found = State(folder)
        except RunError as error:
            damaged.append(folder)
            last = error
            run.note(str(error))
            continue
        distribution.wait()
        if rank() == 0:
            for one in damaged:
                shutil.rmtree(one)
        return found
    if last:
        raise last
    return None


def clear(folder: Path) -> None:
    """Removes what a run that kept no state left of one; what else is kept beside the states stays."""
    for left in (*folder.glob("step-*"), folder / "best"):
        shutil.rmtree(left, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    """The states in a folder, by step."""
    found = [place for place in folder.glob("step-*") if place.suffix != ".tmp"]
    return sorted(found, key=lambda place: int(place.name.removeprefix("step-")))


def _name(one: int, of: int) -> str:
    return f"{one}-of-{of}.safetensors"


def _open(file: Path) -> Any:
    """A file of tensors; opening it compares its length with its header."""
    try:
        return safe_open(file, "pt")
    except (OSError, SafetensorError) as error:
        raise RunError(f"{file}: damaged or cut short: {error}: delete {file.parent}") from None


def _local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, in one piece of memory of its own."""
    held = tensor.detach()
    return (held.to_local() if isinstance(held, DTensor) else held).contiguous()
