"""The exact optimum of both objectives is known: ref(y) exp(r(y) / beta) / Z. The losses must lead there."""

import pytest
import torch

from tutelage.stages.dpo import dpo_loss
from tutelage.stages.ppo import generalized_advantages, policy_loss, whiten

D = torch.float64


def tilted(reference: torch.Tensor, reward: torch.Tensor, beta: float) -> torch.Tensor:
    return torch.softmax(reference.log() + reward / beta, -1)


def distance(one: torch.Tensor, two: torch.Tensor) -> float:
    """Total variation."""
    return float((one - two).abs().sum() / 2)


REFERENCE = torch.tensor([0.2, 0.5, 0.3], dtype=D)
REWARD = torch.tensor([1, 0.3, -0.5], dtype=D)


@pytest.mark.parametrize(
    ("beta", "known"),
    [(0.3, [0.798379711, 0.193551129, 0.008069160]), (1.0, [0.388174874, 0.481904844, 0.129920283])],
)
def test_dpo_with_bradley_terry_labels_reaches_it(beta: float, known: list[float]) -> None:
    optimum = tilted(REFERENCE, REWARD, beta)
    assert optimum.tolist() == pytest.approx(known, abs=1e-9)
    logits = torch.zeros(3, dtype=D, requires_grad=True)
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    better, worse = (torch.tensor(side) for side in zip(*pairs, strict=True))
    labels = torch.sigmoid(REWARD[better] - REWARD[worse])
    behind = REFERENCE.log()
    optimizer = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        policy = torch.log_softmax(logits, -1)
        losses = dpo_loss(policy[better] - policy[worse], behind[better] - behind[worse], beta)
        total = (labels * losses).sum()
        total.backward()
        return total

    optimizer.step(loss)
    assert distance(torch.softmax(logits.detach(), -1), optimum) < 1e-3


def train_bandit(reference: torch.Tensor, reward: torch.Tensor, beta: float) -> torch.Tensor:
    """PPO on one token of a vocabulary of four, with the stage's own functions and its way of using them.

    The KL is in the reward, the value is learned, advantages are whitened, every batch is learned from twice in two
    minibatches with clipped ratios. Whitening divides by a spread that goes to 0 at the optimum, where every action is
    worth the same: it keeps the direction of the steps but not their size, so the learning rate must go to 0, too.
    """
    torch.manual_seed(1)
    logits, value = reference.log().clone().requires_grad_(), torch.zeros(1, dtype=D, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": [logits], "lr": 0.03}, {"params": [value], "lr": 0.1}])
    iterations = 300
    for iteration in range(iterations):
        for group, rate in zip(optimizer.param_groups, (0.03, 0.1), strict=True):
            group["lr"] = rate * (1 - iteration / iterations)
        with torch.no_grad():
            policy = torch.log_softmax(logits, -1)
            actions = torch.multinomial(policy.exp(), 512, replacement=True)
            old = policy[actions]
            rewards = (reward[actions] - beta * (old - reference.log()[actions]))[:, None]
            gains, returns = generalized_advantages(
                rewards, value.expand(512, 1), torch.ones(512, 1, dtype=D), gamma=1.0, lam=0.95
            )
            gains = whiten(gains[:, 0])
        for _ in range(2):
            for part in torch.randperm(512).split(256):
                now = torch.log_softmax(logits, -1)[actions[part]]
                loss = policy_loss((now - old[part]).exp(), gains[part], 0.2).mean()
                loss = loss + 0.5 * ((value - returns[part]) ** 2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return torch.softmax(logits.detach(), -1)


@pytest.mark.parametrize("beta", [0.3, 0.5, 1.0])
def test_ppo_reaches_it(beta: float) -> None:
    reference = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=D)
    reward = torch.tensor([1.0, 0.2, -0.5, 0.6], dtype=D)
    optimum = tilted(reference, reward, beta)
    assert distance(reference, optimum) > 0.15
    assert distance(train_bandit(reference, reward, beta), optimum) < 0.02
