"""An environment for each peer, made when it is first needed and again when its list of packages has changed."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE / ".environments"
TORCH = HERE.parent / "torch.txt"

PACKAGES = {
    "trl": ("trl==1.16.0", "transformers==5.23.0", "peft==0.21.2", "datasets>=4", "accelerate>=1.10"),
    "llamafactory": ("llamafactory==0.9.5",),
    "litgpt": ("litgpt==0.5.13",),
    "datatrove": ("datatrove[processing]==0.10.1", "spacy>=3.8", "jieba", "orjson>=3", "psutil"),
}
ON_CARDS = {"trl": ("liger-kernel==0.8.5",)}
"""What is added where torch sees a CUDA device."""
WITHOUT_TORCH = ("datatrove",)
UNWANTED = {"llamafactory": ("torchvision", "torchaudio")}
"""Not needed for text; as they come, they do not load beside a torch made for the CPU alone."""

BF16 = "import torch; a = torch.ones(64, 64, dtype=torch.bfloat16); assert float((a @ a)[0, 0]) == 64"
LESSER = "AVX512_CORE_FP16"


def python(name: str) -> Path:
    """The interpreter of an environment, which is made if need be; "tutelage" is the one this runs in."""
    if name == "tutelage":
        return Path(sys.executable)
    folder = FOLDER / name
    stamp = folder / "packages.txt"
    packages = PACKAGES[name] + (ON_CARDS.get(name, ()) if has_card() else ())
    wanted = TORCH.read_text(encoding="utf-8") + "\n".join(packages) + "\n"
    interpreter = folder / "bin" / "python"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return interpreter
    print(f"making the environment {name}; this may take minutes", flush=True)
    venv.create(folder, clear=True, with_pip=True)
    # torch first and by itself, and kept: as a mere dependency it would come with gigabytes of CUDA.
    if name not in WITHOUT_TORCH:
        _pip(interpreter, "install", "-r", str(TORCH))
    _pip(interpreter, "install", "--constraint", str(TORCH), *packages)
    if name in UNWANTED:
        _pip(interpreter, "uninstall", "--yes", *UNWANTED[name])
    stamp.write_text(wanted, encoding="utf-8")
    return interpreter


def _pip(interpreter: Path, *arguments: str) -> None:
    subprocess.run([str(interpreter), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments], check=True)


@functools.cache
def bf16(name: str) -> dict[str, str] | None:
    """The variables under which a bf16 product works in an environment: none, or fewer instructions; None if never.

    Some virtual machines advertise matrix units that they lack, and the process dies.
    """
    for variables in ({}, {"ONEDNN_MAX_CPU_ISA": LESSER}):
        child = subprocess.run(
            [str(python(name)), "-c", BF16], env={**os.environ, **variables}, capture_output=True, check=False
        )
        if child.returncode == 0:
            return variables
    return None


@functools.cache
def has_card() -> bool:
    """Whether torch sees a CUDA device; asked in a process of its own, for this one needs no torch."""
    asked = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
