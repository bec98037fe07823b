"""Triton's kernels without a card: its interpreter runs them in NumPy, with what it lacks put in place.

`TRITON_INTERPRET` must be set before Triton is imported; `conftest` does, where there is no CUDA device.
"""

import importlib.util
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tutelage.model import device

needs_liger = pytest.mark.skipif(
    importlib.util.find_spec("liger_kernel") is None, reason="liger-kernel is not installed: make setup-kernels"
)

KNOWN = ("llama", "qwen2", "qwen3", "mistral", "gemma2")
"""Architectures of `tiny` that Liger knows."""


def kernels_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Liger's kernels are used in this test: on the card, or on the CPU by Triton's interpreter."""
    monkeypatch.setattr(device, "liger", lambda: True)
    for name in KNOWN:  # rotary embeddings are replaced for a whole architecture: put back after the test
        module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
        monkeypatch.setattr(module, "apply_rotary_pos_emb", module.apply_rotary_pos_emb)
    if torch.cuda.is_available():
        return
    import liger_kernel.ops
    import triton.language as tl
    from triton.runtime import interpreter

    inner = interpreter._implicit_cvt

    def converted(value: Any) -> Any:
        """Plain numbers too become tensors, as a compiled kernel gets them."""
        if isinstance(value, float):
            return tl.tensor(interpreter.TensorHandle(np.array([value], np.float32), tl.float32), tl.float32)
        return inner(value)

    monkeypatch.setattr(interpreter, "_implicit_cvt", converted)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(multi_processor_count=2))
    # CUDA's own library of functions is not interpreted.
    own: dict[str, Callable[..., Any]] = {
        "rsqrt": lambda x: tl.rsqrt(x),
        "tanh": lambda x: 1 - 2 / (tl.exp(2 * x) + 1),
    }
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{liger_kernel.ops.__name__}."):
            for function, value in own.items():
                if hasattr(module, function):
                    monkeypatch.setattr(module, function, value)
