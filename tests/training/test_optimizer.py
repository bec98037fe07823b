"""Schedules to the last digit, and updates worked out by hand."""

import pytest
import tiny
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from tutelage.training.optimizer import Learning, Muon, Optimizers, orthogonal, schedule, sorted_out


def rates(steps: int, **settings: object) -> list[float]:
    return [schedule(Learning(**settings), step, steps) for step in range(steps)]  # pyright: ignore


def test_schedules_exactly() -> None:
    common = {"warmup_ratio": 0.2, "final_learning_rate": 0.1}
    assert rates(10, lr_scheduler_type="constant", **common) == pytest.approx([1 / 3, 2 / 3] + [1] * 8, abs=1e-12)
    line = [1 / 3, 2 / 3] + [1 - 0.9 * i / 7 for i in range(8)]
    assert rates(10, lr_scheduler_type="linear", **common) == pytest.approx(line, abs=1e-12)
    # cos(pi i / 7), i = 0 .. 7
    cosines = [1, 0.9009688679, 0.6234898019, 0.2225209340, -0.2225209340, -0.6234898019, -0.9009688679, -1]
    curve = [1 / 3, 2 / 3] + [0.1 + 0.45 * (1 + c) for c in cosines]
    assert rates(10, lr_scheduler_type="cosine", **common) == pytest.approx(curve, abs=1e-9)
    flat = [1.0] * 8 + [0.7, 0.4, 0.1]
    found = rates(11, lr_scheduler_type="wsd", warmup_ratio=0.0, final_learning_rate=0.1)
    assert found == pytest.approx(flat, abs=1e-12)


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
@pytest.mark.parametrize("steps", [2, 3, 10, 101])
@pytest.mark.parametrize("warmup", [0.0, 0.02, 0.3])
def test_the_first_step_moves_and_the_last_is_the_final_rate(kind: str, steps: int, warmup: float) -> None:
    found = rates(steps, lr_scheduler_type=kind, warmup_ratio=warmup, final_learning_rate=0.05)
    assert found[0] > 0
    assert found[-1] == pytest.approx(0.05, abs=1e-12) or (steps == 2 and warmup == 0.3 and found[-1] == 1)
    assert max(found) == 1


@pytest.mark.parametrize(("rows", "columns", "low"), [(64, 256, 0.65), (256, 64, 0.65), (64, 64, 0.0)])
def test_orthogonalised_singular_values(rows: int, columns: int, low: float) -> None:
    torch.manual_seed(1)
    matrix = torch.randn(rows, columns)
    found = orthogonal(matrix)
    values = torch.linalg.svdvals(found)
    assert found.shape == matrix.shape
    assert values.max() <= 1.25
    assert values.min() >= low
    assert 0.6 <= values.median() <= 1.2
    # The singular vectors stay: the two share U and V.
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ found @ v.T
    assert (inner - torch.diag(inner.diagonal())).abs().max() < 1e-3


def test_muon_by_hand() -> None:
    weight = nn.Parameter(torch.eye(2, 4))
    resting = nn.Parameter(torch.eye(2))
    muon = Muon([weight, resting], lr=0.1, weight_decay=0.5)
    gradient = torch.tensor([[3.0, 0, 0, 0], [0, 0, 2, 0]])
    weight.grad = gradient.clone()
    muon.step()
    # The first momentum is 0.05 g; Nesterov's look-ahead is 0.05 * 0.95 g + 0.05 g, of which only the direction counts.
    expected = torch.eye(2, 4) * (1 - 0.1 * 0.5) - 0.1 * 0.2 * 4**0.5 * orthogonal(gradient)
    assert (weight - expected).abs().max() < 1e-5
    assert torch.equal(weight.grad, gradient)
    assert torch.equal(resting, torch.eye(2))
    second = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0]])
    weight.grad = second.clone()
    before = weight.detach().clone()
    muon.step()
    momentum = 0.95 * 0.05 * gradient + 0.05 * second
    ahead = orthogonal(0.05 * second + 0.95 * momentum)
    assert (weight - (before * 0.95 - 0.1 * 0.4 * ahead)).abs().max() < 1e-5


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gpt2"])
def test_who_is_decayed_and_who_goes_to_muon(architecture: str) -> None:
    model = tiny.make_model(architecture)
    names = {id(p): name for name, p in model.named_parameters()}
    plain = Optimizers(model, Learning(weight_decay=0.1))
    decayed, rest = ({names[id(p)] for p in group["params"]} for group in plain.all[0].param_groups)
    assert plain.all[0].param_groups[0]["weight_decay"] == 0.1
    assert plain.all[0].param_groups[1]["weight_decay"] == 0.0
    assert all(model.get_parameter(name).ndim == 2 for name in decayed)
    assert not any("embed" in name or "wte" in name or "wpe" in name for name in decayed)
    assert ("lm_head.weight" in decayed) == (architecture == "llama")  # the others share it with their embedding
    assert decayed | rest == set(names.values())

    muon = Optimizers(model, Learning(optimizer="muon", weight_decay=0.1))
    hidden = {names[id(p)] for p in muon.all[1].param_groups[0]["params"]}
    assert hidden == {name for name in decayed if name != "lm_head.weight"}
    known = [names[id(p)] for p in muon.parameters]
    assert sorted(known) == sorted(names.values())


def test_experts_are_matrices_on_a_pile() -> None:
    shape = {
        **tiny.SHAPE,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "decoder_sparse_step": 1,
    }
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3_moe", **shape))
    settings = Learning(optimizer="muon", weight_decay=0.1)
    kinds = {name: kind for name, _, kind in sorted_out(model, settings)}
    piles = [name for name, weight in model.named_parameters() if weight.ndim == 3]
    assert piles
    assert {kinds[name] for name in piles} == {"hidden"}
    assert {kind for name, _, kind in sorted_out(model, Learning()) if name in piles} == {"matrix"}
    for sides in ((3, 7, 4), (3, 4, 7)):
        pile = torch.randn(sides, generator=torch.Generator().manual_seed(1))
        assert torch.allclose(orthogonal(pile), torch.stack([orthogonal(one) for one in pile]), atol=1e-5)


def test_a_step_at_half_the_rate_moves_half_as_far() -> None:
    moved: list[float] = []
    for factor in (1.0, 0.5):
        layer = nn.Sequential(nn.Linear(1, 1, bias=False))
        nn.init.ones_(layer[0].weight)  # pyright: ignore
        optimizers = Optimizers(layer, Learning(learning_rate=0.01))
        layer[0].weight.grad = torch.ones(1, 1)  # pyright: ignore
        optimizers.step(factor)
        moved.append(1 - float(layer[0].weight.detach()))  # pyright: ignore
        assert layer[0].weight.grad is None  # pyright: ignore
    assert moved == pytest.approx([0.01, 0.005], abs=1e-6)
