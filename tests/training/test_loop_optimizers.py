"""Several optimizers in one run: each at its own rate, and resumed to exactly the same weights."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from saywhy.training.loop import Plan, adamw, optimize, rate_at

pytestmark = pytest.mark.nightly

pytest.importorskip("lightning_fabric", reason="recipes need the extra train")

PLAN = Plan((), batch=4, rate=0.01, warmup=2, seed=3, clip=1.0)
STEPS = 12


class Two(nn.Module):
    """Two parts, to be trained by two optimizers; its dropout draws."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second, self.dropout = nn.Linear(5, 6), nn.Linear(6, 1), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.dropout(self.first(x).tanh()))


def loss(model: nn.Module, step: int, share: slice) -> Tensor:
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))[share]
    return (model(x)[:, 0] - x.sum(1)).square().mean()


class Optimizers:
    """AdamW and SGD; keeps them."""

    def __init__(self) -> None:
        self.made: list[torch.optim.Optimizer] = []

    def __call__(self, network: nn.Module, plan: Plan) -> Sequence[torch.optim.Optimizer]:
        self.made = [
            torch.optim.AdamW(network.first.parameters(), lr=plan.rate),
            torch.optim.SGD(
                [{"params": network.second.weight, "lr": 0.1}, {"params": network.second.bias, "lr": 0.3}], momentum=0.9
            ),
        ]
        return self.made


def run(network: nn.Module, made: Optimizers, report: object = None, checkpoint: Path | None = None) -> nn.Module:
    optimize(network, loss, STEPS, PLAN, {"seed": 3}, checkpoint, 5, report, optimizers=made)
    return network


def test_schedule_scales_the_rate_of_each_optimizer():
    made, rates = Optimizers(), []

    def report(step: int, _: float) -> None:
        rates.append([group["lr"] for optimizer in made.made for group in optimizer.param_groups])

    run(Two(), made, report)
    shape = [rate_at(step, STEPS, PLAN) / PLAN.rate for step in range(STEPS)]
    assert max(shape) == 1
    for found, part in zip(rates, shape, strict=True):
        assert found == pytest.approx([0.01 * part, 0.1 * part, 0.3 * part])


def test_a_resumed_run_reaches_exactly_the_same_weights(tmp_path):
    def stop(step: int, _: float) -> None:
        if step == 7:  # two steps after the checkpoint
            raise KeyboardInterrupt

    whole, file = run(Two(), Optimizers()), tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(Two(), Optimizers(), stop, file)
    taken: list[int] = []
    resumed = run(Two(), Optimizers(), lambda step, _: taken.append(step), file)
    assert taken == list(range(6, STEPS + 1))
    for (name, here), there in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(here, there), name


def test_two_optimizers_train_all_weights_and_reduce_the_loss():
    network, told = Two(), []
    before = {name: value.clone() for name, value in network.state_dict().items()}
    run(network, Optimizers(), lambda _, value: told.append(value))
    assert all(not torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert sum(told[-3:]) < sum(told[:3])
    assert not network.training


def test_default_optimizer_is_adamw_at_the_plan_rate():
    plain, named = Two(), Two()
    optimize(plain, loss, STEPS, PLAN, {})
    optimize(named, loss, STEPS, PLAN, {}, optimizers=lambda net, plan: [
        torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay)
    ])  # fmt: skip
    for here, there in zip(plain.parameters(), named.parameters(), strict=True):
        assert torch.equal(here, there)


def test_adamw_excludes_frozen_parameters():
    network = Two()
    network.first.requires_grad_(False)
    (optimizer,) = adamw(network, PLAN)
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in network.second.parameters()]
    assert (group["lr"], group["weight_decay"]) == (PLAN.rate, PLAN.decay)
