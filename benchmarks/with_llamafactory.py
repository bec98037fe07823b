"""LLaMA-Factory: its own run, from its own settings and its own registration of data."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

os.environ["DISABLE_VERSION_CHECK"] = "1"
if importlib.util.find_spec("torchaudio") is None:
    # LLaMA-Factory imports it in any case, and uses it for sound alone.
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)

import transformers
from llamafactory.train.tuner import run_exp
from pace import Pace, rows
from with_transformers import IGNORED, Paced, common, lengths

STAGES = {"sft": "sft", "dpo": "dpo", "reward": "rm", "kto": "kto"}
SEQUENCES = {"sft": 1, "dpo": 2, "reward": 2, "kto": 1}
TAGS = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
    "system_tag": "system",
}  # fmt: skip


def register(task: str, data: str) -> str:
    """Writes the data in a shape that LLaMA-Factory knows, with its registration; gives the folder."""
    columns = {"messages": "messages"}
    found: list[dict[str, Any]] = []
    for row in rows(data):
        if task in ("dpo", "reward"):
            found.append({"messages": row["prompt"], "chosen": row["chosen"][0], "rejected": row["rejected"][0]})
        else:
            found.append({"messages": row["prompt"] + row["completion"], "label": row.get("label")})
    if task in ("dpo", "reward"):
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    if task == "kto":
        columns |= {"kto_tag": "label"}
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    (folder / "rows.json").write_text(json.dumps(found), encoding="utf-8")
    entry = {
        "file_name": "rows.json", "formatting": "sharegpt", "columns": columns, "tags": TAGS,
        "ranking": task in ("dpo", "reward"),
    }  # fmt: skip
    (folder / "dataset_info.json").write_text(json.dumps({"rows": entry}), encoding="utf-8")
    return str(folder)


def main() -> None:
    """Trains until told to stop."""
    options = json.loads(sys.argv[1])
    task = options["task"]
    pace = Pace(options, "llamafactory")
    paced = Paced(pace)

    def count(inputs: Any) -> None:
        read = lengths(inputs)
        labelled = int((inputs["labels"] != IGNORED).sum()) if "labels" in inputs and task != "reward" else 0
        pace.sequences(read, labelled, len(read) / SEQUENCES[task], task in ("dpo", "kto"))

    # The trainer is made inside; so the class is watched, not the object.
    training_step = transformers.Trainer.training_step

    def watched(trainer: Any, *arguments: Any, **keywords: Any) -> Any:
        step = paced.wrap(lambda *a, **k: training_step(trainer, *a, **k), count)
        return step(*arguments, **keywords)

    transformers.Trainer.training_step = watched
    arguments = common(options) | {
        "stage": STAGES[task],
        "do_train": True,
        "finetuning_type": "full",
        "model_name_or_path": options["model"],
        "dataset": "rows",
        "dataset_dir": register(task, options["data"]),
        "template": "chatml",
        "cutoff_len": 512,
        "overwrite_cache": True,
        "logging_steps": 10,
    }
    if task in ("dpo", "kto"):
        arguments["ref_model"] = options["model"]
    run_exp(arguments, callbacks=[paced])


if __name__ == "__main__":
    main()
