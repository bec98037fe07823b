"""sft: the loss falls, transformers and peft read the result, and only answers are learned."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tutelage.errors import RecordError, SelfCheckError
from tutelage.inference.engine import Engine
from tutelage.model import checkpoint
from tutelage.records import Conversation
from tutelage.run import read_metrics
from tutelage.stages import sft
from tutelage.stages.sft import imitation_loss
from tutelage.training import samples
from tutelage.training.batches import conversation, flat
from tutelage.training.held_out import Judged, divided
from tutelage.training.likelihood import token_log_probabilities

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft, called here
SHORT = {"batch_tokens": 120, "num_train_epochs": 4, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.jsonl(tmp_path_factory.mktemp("talks") / "talks.jsonl", tiny.conversations())


def mean_loss(model: torch.nn.Module, folder: Path) -> float:
    chat = tiny.chat(folder)
    found = [one for record in tiny.conversations() if (one := conversation(record, chat, 100))]
    with torch.no_grad():
        return -float(token_log_probabilities(model, flat(found)).mean())


def test_the_loss_is_the_mean_over_all_rows_tokens() -> None:
    one, two = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([-6.0])
    assert float(imitation_loss(one, 4) + imitation_loss(two, 4)) == 3


@pytest.mark.parametrize("rank", [0, 4])
def test_the_loss_falls_and_others_load_it(rank: int, model_folder: Path, talks: Path, tmp_path: Path) -> None:
    rows = tiny.run_stage(
        sft,
        tmp_path / "sft",
        model=model_folder,
        conversations=talks,
        lora_rank=rank,
        lora_alpha=16.0,
        **{**SHORT, "learning_rate": 0.03 if rank else 0.01},
    )
    assert [row["step"] for row in rows] == list(range(len(rows)))
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["accuracy"] > rows[0]["accuracy"] + 0.3
    model, _ = checkpoint.load(tmp_path / "sft")
    after = mean_loss(model, model_folder)
    assert after < 1.1 * rows[-1]["loss"]
    if rank:
        base = AutoModelForCausalLM.from_pretrained(model_folder)
        foreign = PeftModel.from_pretrained(base, str(tmp_path / "sft"))
        assert not (tmp_path / "sft" / "model.safetensors").exists()
    else:
        foreign = AutoModelForCausalLM.from_pretrained(tmp_path / "sft")
    ids = [3, 20, 21, 6, 4, 90, 91, 6]
    with torch.no_grad():
        ours = model(input_ids=torch.tensor([ids]), use_cache=False, layout=flat([tiny.example([], ids)]).layout)
        assert (foreign.eval()(input_ids=torch.tensor([ids])).logits - ours.logits).abs().max() < 1e-5
    shown = json.loads((tmp_path / "sft" / "samples.json").read_text())
    assert len(shown) == 4
    assert [one["name"] for one in shown[0]["answers"]] == ["model", "sft"]


def test_the_first_loss_is_the_models_own(model_folder: Path, talks: Path, tmp_path: Path) -> None:
    rows = tiny.run_stage(
        sft, tmp_path / "sft", model=model_folder, conversations=talks, batch_tokens=100_000, max_batch_tokens=50
    )
    own = tiny.eager(tiny.make_model("qwen3"))
    nats: list[torch.Tensor] = []
    for record in tiny.conversations():
        encoded = tiny.chat(model_folder).encode(record.messages)
        with torch.no_grad():
            found = tiny.plain_log_probabilities(own, encoded.ids, 1)
        nats.append(found[torch.tensor(encoded.trained[1:])])
    assert len(rows) == 1
    assert rows[0]["loss"] == pytest.approx(-float(torch.cat(nats).mean()), abs=1e-5)
    assert rows[0]["tokens"] == sum(
        len(tiny.chat(model_folder).encode(record.messages).ids) for record in tiny.conversations()
    )


def test_only_the_last_answer_is_learned_if_asked(tokenizer_folder: Path) -> None:
    record = tiny.Conversation(
        id="c", messages=(tiny.user("a"), tiny.assistant("bb"), tiny.user("c"), tiny.assistant("dd"))
    )
    chat = tiny.chat(tokenizer_folder)
    every, last = (conversation(record, chat, 100, last_only=only) for only in (False, True))
    assert every is not None
    assert last is not None
    assert every.branches[0].ids == last.branches[0].ids
    assert [every.supervised, last.supervised] == [6, 3]
    assert last.branches[0].trained[-3:] == [True] * 3


def test_rows_and_saves_change_nothing(model_folder: Path, talks: Path, tmp_path: Path) -> None:
    common = {"model": model_folder, "conversations": talks, **SHORT}
    tiny.run_stage(sft, tmp_path / "a", **common)
    tiny.run_stage(sft, tmp_path / "b", **common, max_batch_tokens=30)
    tiny.run_stage(sft, tmp_path / "c", **common, save_seconds=0)
    one, two, three = (tiny.tensors(checkpoint.load(tmp_path / name)[0]) for name in "abc")
    assert tiny.worst(one, two) < 2e-3  # Adam divides by small numbers: rounding grows
    assert tiny.worst(one, three) == 0


def test_dropout_is_on_while_learning_and_off_after(gpt2_folder: Path, talks: Path, tmp_path: Path) -> None:
    tiny.run_stage(sft, tmp_path / "a", model=gpt2_folder, conversations=talks, **SHORT, max_length=40)
    a, _ = checkpoint.load(tmp_path / "a")
    assert not a.training
    # The answers shown are those of the model that was saved, dropout off.
    shown = json.loads((tmp_path / "a" / "samples.json").read_text())
    asked = [[tiny.user(row["prompt"][0]["content"])] for row in shown]
    replies = Engine.load(tmp_path / "a").replies(asked, samples.GREEDY)
    assert [row["answers"][1]["text"] for row in shown] == [reply.text for reply in replies]
    config = json.loads((gpt2_folder / "config.json").read_text())
    assert config["resid_pdrop"] == 0.1
    calm = tmp_path / "calm"
    calm.mkdir()
    for file in gpt2_folder.iterdir():
        (calm / file.name).write_bytes(file.read_bytes())
    (calm / "config.json").write_text(json.dumps({**config, "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}))
    tiny.run_stage(sft, tmp_path / "b", model=calm, conversations=talks, **SHORT, max_length=40)
    assert tiny.worst(tiny.tensors(a), tiny.tensors(checkpoint.load(tmp_path / "b")[0])) > 1e-3


def test_the_self_check_stops_a_wrong_model(
    monkeypatch: pytest.MonkeyPatch, gpt2_folder: Path, talks: Path, tmp_path: Path
) -> None:
    real = sft.adapt
    monkeypatch.setattr(sft, "adapt", lambda *given: real(*given).train())
    with pytest.raises(SelfCheckError, match="self-check"):
        tiny.run_stage(sft, tmp_path / "a", model=gpt2_folder, conversations=talks, max_length=40)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "a.partial").exists()


def test_the_best_weights_on_what_is_held_out_are_saved(model_folder: Path, talks: Path, tmp_path: Path) -> None:
    """A learning rate that is far too high at its peak makes them those of an early step."""
    values = {**SHORT, "learning_rate": 2.0, "warmup_ratio": 1.0}
    rows = tiny.run_stage(
        sft, tmp_path / "a", model=model_folder, conversations=talks, eval_share=0.25, eval_steps=2, **values
    )
    judged = {row["step"]: row["loss"] for row in rows if row.get("split") == "held_out"}
    steps = [row["step"] for row in rows if "split" not in row]
    assert sorted(judged) == sorted({*range(1, len(steps), 2), len(steps) - 1})
    best = min(judged, key=lambda step: judged[step])
    assert best < steps[-1]
    assert (
        f"takes the weights of step {best}, whose held-out loss was lowest" in (tmp_path / "a" / "log.txt").read_text()
    )
    chat = tiny.chat(model_folder)
    examples = [one for record in tiny.conversations() if (one := conversation(record, chat, 100))]
    prompts = [record.prompt for record in tiny.conversations()]
    learned, held_out = divided(Judged(eval_share=0.25), prompts, 1, talks)
    assert (len(held_out), len(learned)) == (8, 16)
    assert not {prompts[i] for i in held_out} & {prompts[i] for i in learned}
    model, _ = checkpoint.load(tmp_path / "a")
    with torch.no_grad():
        found = -float(token_log_probabilities(model, flat([examples[i] for i in held_out])).mean())
    assert found == pytest.approx(judged[best], abs=1e-5)
    assert len(read_metrics(tmp_path / "a")) == len(rows)


def test_a_held_out_share_that_leaves_nothing_is_refused(model_folder: Path, talks: Path, tmp_path: Path) -> None:
    for share, count in ((0.99, 6), (0.001, 0)):
        with pytest.raises(RecordError, match=rf"talks.jsonl: eval_share {share} holds out {count} of 6 prompts"):
            tiny.run_stage(sft, tmp_path / "a", model=model_folder, conversations=talks, eval_share=share)


def test_a_talk_that_is_longer_than_the_context_costs_nothing_but_its_sample(gpt2_folder: Path, tmp_path: Path) -> None:
    """Its older turns are left out to learn from it; asked as it is, it does not fit."""
    turns = (tiny.user("the cat?"), tiny.assistant("a cat ran"))
    long = Conversation(id="long", messages=turns * 12, task="echo")
    talks = tiny.jsonl(tmp_path / "talks.jsonl", [long, *tiny.conversations(3)])
    tiny.run_stage(sft, tmp_path / "a", model=gpt2_folder, conversations=talks, max_length=60)
    shown = json.loads((tmp_path / "a" / "samples.json").read_text())
    assert [len(row["prompt"]) for row in shown] == [1, 1, 1]
