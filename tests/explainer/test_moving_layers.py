"""Layers whose positions lie elsewhere for other data: nothing found for one sample is used for another."""

import pytest
import torch
from torch import Tensor, nn

import saywhy
from sampled_networks import (
    Brightest,
    Canonical,
    CanonicalLoop,
    FlagFlip,
    Glimpse,
    Lengths,
    Reddest,
    Roi,
    Theta,
    Window,
    red_square,
)
from saywhy.errors import SaywhyWarning

ABOVE, BELOW = red_square(32, 32), red_square(96, 96)
BOTH = torch.cat([ABOVE, BELOW])


def peak(explanation: saywhy.Explanation, sample: int = 0) -> tuple[float, float]:
    """The centre of the strongest cell, in pixels."""
    cells = explanation.maps[sample, 0]
    row, column = divmod(int(cells.argmax()), cells.shape[1])
    return (row + 0.5) / cells.shape[0] * 128, (column + 0.5) / cells.shape[1] * 128


def explain(network: nn.Module, inputs, **settings) -> saywhy.Explanation:
    return saywhy.explain(network, inputs, 0, "gradcam", **settings)


def check(found: tuple[float, float], row: int, column: int) -> None:
    """The peak is at most one cell of 8 pixels from the square."""
    assert max(abs(found[0] - row), abs(found[1] - column)) <= 8, found


@pytest.mark.parametrize("layer", [None, "features"])
@pytest.mark.parametrize(
    ("network", "above", "below"),
    [
        (Roi, [[0, 0]], [[64, 64]]),
        (Glimpse, [[-0.5, -0.5]], [[0.5, 0.5]]),
        (FlagFlip, [0], [1]),
        (FlagFlip, [1], [0]),
    ],
)
def test_positions_that_another_argument_gives(network, above, below, layer):
    model = network().eval()
    check(peak(explain(model, (ABOVE, torch.tensor(above)), layer=layer)), 32, 32)
    check(peak(explain(model, (BELOW, torch.tensor(below)), layer=layer)), 96, 96)
    both = explain(model, (BOTH, torch.tensor(above + below)), layer=layer)
    check(peak(both, 0), 32, 32)
    check(peak(both, 1), 96, 96)


@pytest.mark.parametrize("layer", [None, "features"])
@pytest.mark.parametrize("network", [Canonical, CanonicalLoop])
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_positions_that_the_image_decides(network, layer, order):
    model, places = network().eval(), [(32, 32), (96, 96)]
    for sample in order:
        check(peak(explain(model, BOTH[sample : sample + 1], layer=layer)), *places[sample])
    both = explain(model, BOTH[order], layer=layer)
    for i, sample in enumerate(order):
        check(peak(both, i), *places[sample])


def test_a_crop_that_changes_with_every_change_of_the_image_is_refused_or_right():
    for image, place in ((ABOVE, (32, 32)), (BELOW, (96, 96))):
        try:
            found = explain(Brightest().eval(), image)
        except saywhy.errors.LayoutError:
            continue
        check(peak(found), *place)


def test_attributes_and_weights_that_nothing_counts_are_compared():
    model = Window().eval()
    check(peak(explain(model, ABOVE)), 32, 32)
    model.first = 64
    check(peak(explain(model, BELOW)), 96, 96)
    other = Theta().eval()
    check(peak(explain(other, ABOVE)), 32, 32)
    other.theta.data[:, 2] = 0.5
    check(peak(explain(other, BELOW)), 96, 96)


def passes(network: nn.Module, call) -> int:
    """How often the network runs in a call."""
    count = 0

    def hook(*_args: object) -> None:
        nonlocal count
        count += 1

    handle = network.head.register_forward_hook(hook)
    call()
    handle.remove()
    return count


@pytest.mark.parametrize("ask", [(ABOVE, torch.tensor([[1, 2, 0]])), (BELOW, torch.tensor([[4, 0, 0]]))])
def test_what_reads_other_arguments_but_moves_nothing_is_remembered(ask):
    model = Lengths().eval()
    explain(model, (ABOVE, torch.tensor([[1, 2, 3]])))
    assert passes(model, lambda: explain(model, ask)) <= 2


class Counted(Reddest):
    """Counts its passes, and asks whether its image is sound, which moves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        self.seen += 1
        assert not torch.isnan(x).any()
        return super().forward(x)


def test_a_network_that_counts_its_passes_is_remembered():
    model = Counted().eval()
    explain(model, ABOVE)
    assert passes(model, lambda: explain(model, BELOW)) == 1
    check(peak(explain(model, BOTH), 1), 96, 96)


def test_checks_and_other_methods_prove_the_layer_for_their_sample():
    both = explain(CanonicalLoop().eval(), BOTH)
    for sample, place in ((0, (32, 32)), (1, (96, 96))):
        again = both.explainer.sample(sample).explain(methods=["gradcam++"])
        check(peak(again), *place)


def test_methods_that_alter_the_image_say_that_positions_move():
    with pytest.warns(SaywhyWarning, match="depends on the image's content"):
        saywhy.explain(Canonical().eval(), ABOVE, 0, "scorecam")


class Pair(Reddest):
    """Two images: stacked before the first convolution, or with a score of each added up."""

    def __init__(self, *, early: bool) -> None:
        super().__init__()
        self.early = early

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.score((a + b) / 2) if self.early else self.score(a) + self.score(b)


@pytest.mark.parametrize("layer", [None, "features"])
def test_evidence_of_another_image_is_told(layer):
    with pytest.warns(SaywhyWarning, match="the evidence in all of them"):
        explain(Pair(early=True).eval(), (ABOVE, BELOW), layer=layer)


def test_evidence_in_another_image_is_told():
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = Reddest(), Reddest()

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.one(a) + self.other(b)

    with pytest.warns(SaywhyWarning, match="also depends on another image"):
        found = explain(Late().eval(), (ABOVE, BELOW))
    check(peak(found), 32, 32)


def test_words_are_no_other_image(recwarn):
    explain(Lengths().eval(), (ABOVE, torch.tensor([[1, 2, 0]])))
    assert not [w for w in recwarn if "image" in str(w.message)]
