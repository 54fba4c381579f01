"""The loop keeps the weights that score best on validation, and stops at a loss that is not finite."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from saywhy.errors import TrainingError
from saywhy.training.loop import Plan, optimize

pytest.importorskip("lightning_fabric", reason="recipes need the extra train")

PLAN = Plan((), batch=4, rate=0.1, warmup=1)
STEPS, EVERY = 12, 3


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))


def loss(model: nn.Module, step: int, share: slice) -> Tensor:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))[share]
    return (model(x)[:, 0] - x.sum(1)).square().mean()


class Scores:
    """Gives the scores of a list, one a call, and keeps the weights that they are given to."""

    def __init__(self, *scores: float) -> None:
        self.scores, self.weights = list(scores), []

    def __call__(self, network: nn.Module) -> float:
        assert not network.training
        torch.rand(3)  # a score that draws must not change the training
        self.weights.append({name: value.clone() for name, value in network.state_dict().items()})
        return self.scores[len(self.weights) - 1]


def same(network: nn.Module, weights: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def run(network: nn.Module, scores: Scores | None, checkpoint: Path | None = None, **more: object) -> nn.Module:
    optimize(network, more.pop("loss", loss), STEPS, PLAN, {}, checkpoint, EVERY, select=scores, **more)
    return network


@pytest.mark.parametrize(
    ("scores", "best"), [((1, 2, 3, 4), 3), ((1, 5, 3, 4), 1), ((7, 7, 7, 7), 0), ((-3, -4, -2, -5), 2)]
)
def test_the_weights_of_the_highest_score_are_kept_of_equal_ones_the_first(scores, best):
    chosen = Scores(*scores)
    trained = run(network(), chosen)
    assert len(chosen.weights) == STEPS // EVERY
    assert [same(trained, weights) for weights in chosen.weights] == [k == best for k in range(4)]
    assert not trained.training


def test_scores_change_no_step_and_no_random_numbers_outside():
    """The last weights are those of a run without scores."""
    state = torch.get_rng_state()
    assert same(run(network(), None), run(network(), Scores(1, 2, 3, 4)).state_dict())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("scores", [(9, 1, 2, 3), (1, 2, 9, 3)])
@pytest.mark.parametrize("stop", [2, 6, 8, 12])
def test_an_interrupted_run_chooses_the_same_weights(tmp_path, scores, stop):
    whole, file = run(network(), Scores(*scores)), tmp_path / "run.checkpoint"

    def interrupt(step: int, _: float) -> None:
        if step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(network(), Scores(*scores), file, report=interrupt)
    rest = scores[(stop - 1) // EVERY :]
    assert same(run(network(), Scores(*rest), file), whole.state_dict())


class TestLossThatIsNotFinite:
    def broken(self, at: int, value: float = torch.nan):
        return lambda model, step, share: loss(model, step, share) * (value if step == at else 1)

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_names_the_step_and_keeps_the_best_weights(self, value):
        chosen, trained = Scores(2, 1), network()
        with pytest.raises(TrainingError, match=rf"loss of step 8 of {STEPS} is {value}. Use a lower learning rate"):
            run(trained, chosen, loss=self.broken(7, value))
        assert same(trained, chosen.weights[0])

    def test_without_scores_the_weights_before_the_step_stay(self):
        trained, before = network(), network()
        with pytest.raises(TrainingError, match="step 1 of"):
            run(trained, None, loss=self.broken(0))
        assert same(trained, before.state_dict())

    @pytest.mark.parametrize(("at", "written"), [(1, False), (4, True)])
    def test_a_checkpoint_is_named_if_there_is_one(self, tmp_path, at, written):
        file = tmp_path / "run.checkpoint"
        with pytest.raises(TrainingError) as raised:
            run(network(), Scores(1, 1, 1, 1), file, loss=self.broken(at))
        assert file.exists() is written
        assert (f"The last checkpoint is '{file}'" in str(raised.value)) is written

    def test_the_checkpoint_of_a_resumed_run_is_named(self, tmp_path):
        file = tmp_path / "run.checkpoint"
        for _ in range(2):
            with pytest.raises(TrainingError, match="The last checkpoint is"):
                run(network(), Scores(1, 1, 1, 1), file, loss=self.broken(3))


def test_the_network_has_no_hook_left() -> None:
    def failed(model: nn.Module, step: int, share: slice) -> Tensor:
        return loss(model, step, share) * torch.nan

    trained = (run(network(), None), network())
    with pytest.raises(TrainingError):
        run(trained[1], None, loss=failed)
    assert all(not one._forward_pre_hooks for one in trained)
