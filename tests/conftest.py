"""What the tests share: no network, one thread, and a tiny tokenizer and models, made on the spot."""

import os
import signal
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TUTELAGE_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Most tests compare numbers of float32, in which a card does not compute: they see none, unless it is asked for by
# `-m gpu`. Workers and children are told by their environment.
os.environ.setdefault("TUTELAGE_TESTS", "gpu" if any(word.startswith("gpu") for word in sys.argv) else "cpu")
if os.environ["TUTELAGE_TESTS"] == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# A shell's background jobs do not hear Ctrl-C, nor would what they start, in which some tests press it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from pathlib import Path

import hypothesis
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # see `interpreted`

# How long an example takes says something of the machine and of what is compiled at its first use, not of the code.
hypothesis.settings.register_profile(
    "here", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)  # fmt: skip
hypothesis.settings.load_profile("here")


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 300 tokens with our special ones and our template."""
    import tiny

    return tiny.write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer")


@pytest.fixture(scope="session")
def model_folder(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 of two blocks and width 32 with random weights, and that tokenizer."""
    import tiny

    return tiny.write_model(tmp_path_factory.mktemp("model") / "model", tokenizer_folder, "qwen3")


@pytest.fixture(scope="session")
def gpt2_folder(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with GPT-2, which has dropout, learned positions and a context of 64 tokens."""
    import tiny

    return tiny.write_model(tmp_path_factory.mktemp("gpt2") / "gpt2", tokenizer_folder, "gpt2")
