"""The machine: which device, how many threads, which precision. Decided once, here, and told in one line.

bf16 is never assumed: some virtual machines advertise AMX and die of SIGILL in the first matrix product, so a child
process tries it. On a CPU training is in float32, and by wish its matrix products in bfloat16.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from tutelage.errors import SettingsError
from tutelage.run import processes

_halved = [False]
"""Whether this process multiplies matrices in bfloat16 though it is on a CPU; `prepare` says."""

PROBE = "import torch; a = torch.ones(64, 64, dtype=torch.bfloat16); print(float((a @ a)[0, 0]))"


def device() -> torch.device:
    """CUDA if there is one, else the CPU; each of several processes has a card of its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def precision() -> torch.dtype:
    """Of weights: float32 on a CPU; bfloat16 on a card, where the optimizer has copies of them in float32."""
    return torch.bfloat16 if torch.cuda.is_available() else torch.float32


def threads() -> int:
    """The cores this process may use: a fixed number, so that a resumed run adds up in the same order."""
    wanted = os.environ.get("TUTELAGE_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def row_tokens() -> int:
    """Tokens that are computed at a time where nothing else is asked for.

    A CPU has 2,048 in its caches. A card wants more, or it waits for being told what to do: 2,048 for every 10 GB, as a
    power of two and 16,384 at most.
    """
    if not torch.cuda.is_available():
        return 2048
    share = torch.cuda.get_device_properties(device()).total_memory // 10_000_000_000
    return 2048 << min(3, max(0, share.bit_length() - 1))


def cache_bytes() -> int:
    """Keys and values that are kept at a time of answers that are drawn: 512 MB, and a sixteenth of a card.

    All of it, not what is free: the same answers are drawn side by side every time.
    """
    if not torch.cuda.is_available():
        return 1 << 29
    return torch.cuda.get_device_properties(device()).total_memory // 16


def prepare(seed: int, bf16: bool = False) -> torch.device:
    """Sets threads, seeds, precision and determinism for a stage, and meets the other processes; gives the device.

    Raises:
        SettingsError: bf16 is asked for, and this CPU cannot.
    """
    if bf16 and not torch.cuda.is_available() and not probe():
        raise SettingsError("bf16: this processor stops at a matrix product in bfloat16: leave it out")
    _halved[0] = bf16 and not torch.cuda.is_available()
    _meet()
    torch.set_num_threads(threads())
    torch.manual_seed(seed)
    # With `warn_only` torch's attention on a card would warn, and add up in any order.
    torch.use_deterministic_algorithms(True, warn_only=not torch.cuda.is_available())
    # A debugging aid that costs 2 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    _keep_memory()
    # oneDNN keeps code for every number of rows that it has met, a megabyte and more each, and room for 1,024 of them.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    return device()


def half() -> contextlib.AbstractContextManager[Any]:
    """Where a CPU multiplies matrices in bfloat16, if it was asked to; weights, sums and all else stay float32.

    Source: Micikevicius et al. 2018, arXiv 1710.03740, section 3.1; `torch.autocast`.
    """
    return torch.autocast("cpu", torch.bfloat16) if halved() else contextlib.nullcontext()


def halved() -> bool:
    """Whether a CPU was asked to do so."""
    return _halved[0]


def exact() -> bool:
    """Whether all is computed in float32."""
    return not halved() and not torch.cuda.is_available()


def apart(ours: Tensor, theirs: Tensor) -> float:
    """How far two computations of the same numbers are apart: at most, or on average if they are not `exact`.

    Of many rounded numbers some are far off.
    """
    gaps = (ours - theirs).abs()
    return float(gaps.max() if exact() else gaps.mean())


@functools.cache
def liger() -> bool:
    """Whether Liger's kernels are used: on a CUDA device, where they are installed; ``TUTELAGE_KERNELS=torch`` says no.

    Raises:
        SettingsError: ``TUTELAGE_KERNELS`` is none of torch, liger and onednn, or asks for what is not there.
    """
    there = torch.cuda.is_available() and importlib.util.find_spec("liger_kernel") is not None
    return _chosen("liger", there, there, "needs a CUDA device and pip install 'tutelage[cuda]'")


@functools.cache
def onednn() -> bool:
    """Whether a CPU's products with weights go to oneDNN: on AMD's processors, where it is faster than MKL.

    ``TUTELAGE_KERNELS=torch`` says no, ``onednn`` says yes on any processor where it gives the same numbers.

    Raises:
        SettingsError: as `liger`.
    """
    there = not torch.cuda.is_available() and _onednn_is_right()
    return _chosen("onednn", there, there and amd(), "gives other numbers here, or is not there")


def by_onednn(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., outputs) of states (..., width), a matrix (outputs, width) and a bias, all float32 on a CPU."""
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")


def _chosen(name: str, there: bool, wanted: bool, why: str) -> bool:
    """What ``TUTELAGE_KERNELS`` makes of a kind of kernels."""
    asked = os.environ.get("TUTELAGE_KERNELS", "")
    if asked not in ("", "torch", "liger", "onednn"):
        raise SettingsError(f"TUTELAGE_KERNELS={asked}: say torch, liger or onednn, or leave it out")
    if asked == name and not there:
        raise SettingsError(f"TUTELAGE_KERNELS={name}: {why}")
    return there if asked == name else wanted and asked == ""


def _onednn_is_right() -> bool:
    """Whether torch has oneDNN's linear layer, and it is as exact as MKL's."""
    random = torch.Generator().manual_seed(0)
    for rows, width, outputs in ((256, 384, 1024), (300, 896, 130), (193, 65, 2100)):
        states = torch.randn(rows, width, generator=random)
        weight = torch.randn(outputs, width, generator=random)
        exact = states.double() @ weight.double().T
        try:
            found = by_onednn(states, weight)
        except (AttributeError, RuntimeError):
            return False
        if not float((found - exact).norm() / exact.norm()) < 2e-6:
            return False
    return True


@functools.cache
def amd() -> bool:
    """Whether the processor is AMD's, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return "AuthenticAMD" in next((line for line in lines if line.startswith("vendor_id")), "")


def _meet() -> None:
    """Waits for the other processes that ``torchrun`` started, if there are any."""
    if processes() > 1 and not torch.distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(device())
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(torch.distributed.destroy_process_group)


def _keep_memory() -> None:
    """Tells glibc to keep freed memory: fresh pages cost more than the arithmetic on them (measured 1.2 to 1.4x)."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):  # musl has none
            trim_threshold, mmap_threshold = -1, -3
            library.mallopt(mmap_threshold, 1 << 30)
            library.mallopt(trim_threshold, (1 << 31) - 1)


@functools.cache
def probe(isa: str | None = None) -> bool:
    """Whether a bf16 matrix product works on this CPU, tried in a child process that may die of it.

    isa: a value for ``ONEDNN_MAX_CPU_ISA``, such as "AVX512_CORE_BF16", to try without AMX.
    """
    environment = dict(os.environ)
    if isa:
        environment["ONEDNN_MAX_CPU_ISA"] = isa
    child = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return child.returncode == 0 and child.stdout.strip() == "64.0"


def describe() -> str:
    """The device in one line."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name(0)}, bf16{', Liger kernels' if liger() else ''}"
    precision = "bf16" if halved() else "float32, oneDNN" if onednn() else "float32"
    return f"CPU, {threads()} threads, {precision}"
