"""Running a network again from a layer on gives what the whole network gives."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saywhy.engine.capture import Watched
from saywhy.engine.layout import Layout
from saywhy.engine.replay import Replay
from saywhy.errors import LayerError


class Residual(nn.Module):
    """A path bypasses ``body``; ``how`` says in which way."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.runs = how, 0
        self.stem, self.body = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(8 if how == "concatenated" else 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        stem = F.relu(self.stem(x))
        body = self.body(stem)
        joined = {
            "none": lambda: body,
            "added": lambda: body + stem,
            "added in place": lambda: stem.add_(body),
            "concatenated": lambda: torch.cat([body, stem], 1),
        }[self.how]()
        return self.head(F.relu(joined).mean((2, 3)))

    def from_body(self, x: Tensor, body: Tensor) -> Tensor:
        """The same with ``body`` given, on as many copies of the sample."""
        stem = F.relu(self.stem(x)).expand(len(body), -1, -1, -1)
        joined = {"none": body, "concatenated": torch.cat([body, stem], 1)}.get(self.how, body + stem)
        return self.head(F.relu(joined).mean((2, 3)))


@pytest.mark.parametrize(
    ("how", "whole"), [("none", False), ("added", False), ("added in place", True), ("concatenated", True)]
)
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_altered_activations_give_the_scores_of_the_whole_network(how, whole, batch_size):
    torch.manual_seed(0)
    model, x = Residual(how).eval(), torch.randn(1, 3, 6, 6)
    replay = Replay(model, x, Watched("body", model.body, Layout("channels-first", (6, 6))), lambda out: out)
    altered = replay.activations.repeat(7, 1, 1, 1)
    altered[torch.arange(4), torch.arange(4)] = 0
    altered[5] *= torch.randn(4, 6, 6)
    with torch.no_grad():
        expected = model.from_body(x, altered)
    torch.testing.assert_close(replay.scores(altered, batch_size), expected)
    assert replay.whole_network is (whole and batch_size > 1)
    assert not model.body._forward_hooks


def test_layers_before_the_replayed_one_run_on_one_sample():
    torch.manual_seed(0)
    model, x = Residual("none").eval(), torch.randn(1, 3, 6, 6)
    sizes = []
    model.stem.register_forward_hook(lambda _m, args, _o: sizes.append(len(args[0])))
    replay = Replay(model, x, Watched("body", model.body, Layout("channels-first", (6, 6))), lambda out: out)
    replay.scores(replay.activations.repeat(50, 1, 1, 1))
    assert sizes == [1, 1]


def test_tokens_keep_their_class_token():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Identity()

        def forward(self, x):
            tokens = self.block(torch.cat([x.mean((2, 3))[:, None], x.flatten(2).mT], 1))
            return tokens.sum(1) + 10 * tokens[:, 0]

    model, x = Tokens(), torch.rand(1, 3, 2, 2)
    replay = Replay(model, x, Watched("block", model.block, Layout("tokens", (2, 2), prefix=1)), lambda out: out)
    scores = replay.scores(torch.zeros(2, 3, 2, 2))
    torch.testing.assert_close(scores, (11 * x.mean((2, 3))).repeat(2, 1))


def test_layer_that_does_not_run_raises():
    model = Residual("none")
    model.spare = nn.Conv2d(3, 3, 1)
    with pytest.raises(LayerError, match="'spare' did not run"):
        Replay(
            model, torch.rand(1, 3, 6, 6), Watched("spare", model.spare, Layout("channels-first", (6, 6))), lambda o: o
        )
