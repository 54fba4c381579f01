"""Every method against its published equation in plain loops: any number of axes, any sign, any precision."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from kinds import ONE_PASS
from oracles import ORACLES
from saywhy.errors import MethodError
from saywhy.methods import find_method

# Activations of both signs are tested on purpose here; tests/methods/test_signed_activations.py tests the warning.
pytestmark = pytest.mark.filterwarnings("ignore:.* divides by the sum of each channel's activations")

SPACES = {"signal": (7,), "image": (3, 4), "volume": (2, 3, 2)}
CHANNELS = {"few channels": 3, "many channels": 17}
SEEDS = (0, 1)


FACTORS = {
    "kernel": ("sigmoid", "rbf", "linear"),
    "gamma": (1e-3,),  # by far-off points the largest two eigenvalues would be nearly the same
    "variant": ("published", "share"),
    "sigmas": (2.0, 0.5),
}


def _variants(name: str) -> list[dict[str, Any]]:
    """Every setting of the method's parameters: both values of a switch, and the poolings."""
    choices = {"pooling": ("mean", "abs", "max"), "channels": ("sum", "abs", "max")} | FACTORS
    own = ONE_PASS[name].parameters
    values = [choices.get(p, (False, True) if isinstance(default, bool) else (default,)) for p, default in own.items()]
    return [dict(zip(own, some, strict=True)) for some in itertools.product(*values)]


CASES = [(name, variant) for name in ONE_PASS for variant in _variants(name)]
IDS = [name + "".join(f" {k}={v}" for k, v in variant.items()) for name, variant in CASES]
# The oracle of kernel PCA is the slowest: in the quick tests it has seven positions and not twelve.
CASES_BY_SPACE = [
    pytest.param(*case, space, id=f"{name}-{kind}", marks=pytest.mark.slow if slow else ())
    for case, name in zip(CASES, IDS, strict=True)
    for kind, space in SPACES.items()
    for slow in [kind == "volume" or (kind == "image" and case[0] == "kpcacam")]
]


def layer_of(name: str, space: tuple[int, ...], channels: int, seed: int, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Activations and gradients [2, channel, *space] in float64, of different size in every sample and channel."""
    generator = np.random.default_rng([seed, channels, *space])
    scale = 10.0 ** generator.uniform(-1, 1, (2, channels, *(1 for _ in space)))
    A = generator.standard_normal((2, channels, *space)) * scale
    G = generator.standard_normal((2, channels, *space)) / scale
    if not signed:
        A = np.maximum(A, 0)
        A[:, 0] = 0  # a dead channel
    if name == "cam":  # CAM is defined where the gradient is the same at every position
        G = np.broadcast_to(G.mean(tuple(range(2, G.ndim)), keepdims=True), G.shape).copy()
    return torch.from_numpy(A), torch.from_numpy(G)


def by_the_equation(name: str, A: Tensor, G: Tensor, **parameters: Any) -> Tensor:
    maps = [ORACLES[name](a, g, **parameters) for a, g in zip(A.double().numpy(), G.double().numpy(), strict=True)]
    return torch.from_numpy(np.stack(maps))


def assert_equal_up_to(found: Tensor, wanted: Tensor, rtol: float) -> None:
    """Within ``rtol`` of every map's own largest value."""
    assert found.shape == wanted.shape
    largest = wanted.abs().flatten(1).amax(1).reshape(-1, *(1 for _ in wanted.shape[1:]))
    distance = (found.double() - wanted).abs() / torch.where(largest > 0, largest, 1.0)
    assert float(distance.max()) <= rtol


@pytest.mark.parametrize("channels", CHANNELS.values(), ids=CHANNELS)
@pytest.mark.parametrize(("name", "variant", "space"), CASES_BY_SPACE)
def test_method_equals_oracle(name, variant, space, channels):
    for seed, signed in itertools.product(SEEDS, (False, True)):
        A, G = layer_of(name, space, channels, seed, signed=signed)
        found = ONE_PASS[name].function(A, G, **variant)
        assert found.dtype == torch.float64
        assert_equal_up_to(found, by_the_equation(name, A, G, **variant), 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize(("name", "variant"), CASES, ids=IDS)
def test_method_equals_oracle_in_single_precision(name, variant, space):
    for seed in SEEDS:
        # Non-negative: a sum that cancels to nearly zero has no digits left in single precision, whoever divides by it.
        A, G = (t.float() for t in layer_of(name, space, 5, seed, signed=False))
        found = ONE_PASS[name].function(A, G, **variant)
        assert found.dtype == torch.float32
        assert_equal_up_to(found, by_the_equation(name, A, G, **variant), 1e-5)


@pytest.mark.parametrize("name", ONE_PASS)
def test_axes_of_length_one_change_nothing(name):
    A, G = layer_of(name, (7,), 4, 0, signed=True)
    flat = ONE_PASS[name].function(A, G)
    for shape in ((7, 1), (1, 7), (1, 7, 1)):
        other = ONE_PASS[name].function(A.reshape(2, 4, *shape), G.reshape(2, 4, *shape))
        assert other.shape == (2, *shape)
        torch.testing.assert_close(other.flatten(1), flat, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ONE_PASS)
def test_inputs_are_not_modified(name):
    A, G = layer_of(name, (3, 4), 5, 0, signed=True)
    kept = A.clone(), G.clone()
    for variant in _variants(name):
        ONE_PASS[name].function(A, G, **variant)
    assert torch.equal(A, kept[0])
    assert torch.equal(G, kept[1])


@pytest.mark.parametrize("name", [n for n in ONE_PASS if n != "saliency"])  # which looks at gradients alone
def test_dead_layer_gives_zeros_and_not_nan(name):
    zeros = torch.zeros(2, 3, 2, 2)
    ones = torch.ones(2, 3, 2, 2)
    for A, G in ((zeros, zeros), (zeros, ones)):
        assert ONE_PASS[name].function(A, G).abs().max() == 0
    if ONE_PASS[name].uses_gradients:
        assert ONE_PASS[name].function(ones, zeros).abs().max() == 0


@pytest.mark.parametrize("exponent", [-30, -20, 15])
def test_gradcam_pp_equals_oracle_where_squared_gradients_overflow(exponent):
    A, G = layer_of("gradcam++", (3, 4), 4, 0, signed=False)
    found = ONE_PASS["gradcam++"].function(A.float(), (G * 10.0**exponent).float())
    wanted = by_the_equation("gradcam++", A.float(), (G * 10.0**exponent).float())
    assert float(wanted.max()) > 0
    assert_equal_up_to(found, wanted, 1e-5)


def test_gradcam_pp_has_no_weight_where_its_denominator_is_zero():
    A, G = torch.tensor([[[-1.0, -1.0], [1.0, 2.0]]]), torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])
    # The first channel: 2 + 1 * (-1 - 1) = 0. The second: 2 * 1 / (2 + 3).
    torch.testing.assert_close(ONE_PASS["gradcam++"].function(A, G), torch.tensor([[0.4, 0.8]]))


def test_cam_refuses_gradients_that_differ_from_place_to_place():
    A, G = torch.rand(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    G[1, 2, 3, 3] += 0.01
    with pytest.raises(MethodError, match=r"global average pooling.*Use gradcam"):
        ONE_PASS["cam"].function(A, G)


def test_cam_checks_every_sample_by_its_own_gradient():
    A, G = torch.rand(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    G[1] = 1e-9 * torch.rand(3, 4, 4)
    with pytest.raises(MethodError, match="global average pooling"):
        ONE_PASS["cam"].function(A[1:], G[1:])
    with pytest.raises(MethodError, match="global average pooling"):
        ONE_PASS["cam"].function(A, G)


def test_gradcam_refuses_an_unknown_pooling():
    # With annotations checked at run time (see ``saywhy.shapes``) those come first.
    with pytest.raises((MethodError, TypeCheckError), match="median"):
        ONE_PASS["gradcam"].function(torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3, 3), pooling="median")


def test_unknown_method_raises_with_the_nearest_name():
    with pytest.raises(MethodError, match=r"no method 'gradcamm'. Nearest: .*'gradcam'"):
        find_method("gradcamm")
