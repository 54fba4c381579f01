"""Parameters of methods: what is no number, word or tensor is refused in a sentence, by the annotation alone."""

import math
import typing

import numpy as np
import pytest
import torch
from torch import nn

import saywhy
from saywhy.errors import MethodError
from saywhy.methods import METHODS, Method, find_method
from saywhy.validation import allowed, checked

EVERY = [(name, parameter) for name, method in METHODS.items() for parameter in method.parameters]


@pytest.mark.parametrize(("name", "parameter"), EVERY)
class TestEveryParameter:
    def test_its_default_is_allowed(self, name, parameter):
        default = METHODS[name].parameters[parameter]
        assert checked(METHODS[name], parameter, default) == default

    def test_the_annotation_can_be_put_in_words(self, name, parameter):
        hint = typing.get_type_hints(METHODS[name].function)[parameter]
        assert allowed(hint)

    @pytest.mark.parametrize("value", ["nonsense", object(), {}, 1j, b"", math.nan, math.inf, lambda: 0])
    def test_nonsense_is_refused(self, name, parameter, value):
        with pytest.raises(MethodError, match=f"{parameter} must be .*, got "):
            checked(METHODS[name], parameter, value)


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        *(("smoothgrad", "noise", v) for v in ("auto", [0.1], True, math.inf)),
        *(("rise", "keep", v) for v in ("auto", True)),
        *(("lime", "width", "auto"), ("lime", "penalty", "auto"), ("lrp", "epsilon", "auto")),
        *(("lime", "segments", v) for v in ("x", [[0, 1]])),
        *(("attention-rollout", "discard", "auto"), ("fem", "sigmas", "auto")),
        *(("rsi-gradcam", "max_steps", v) for v in ("auto", [5], 2.5)),
        *(("rsi-gradcam", "steps", v) for v in ("many", [3], True, 2.5)),
        *(("kpcacam", "gamma", v) for v in ("x", True)),
        *(("occlusion", "window", v) for v in (3.5, [3.5, 2], "x", torch.tensor([1.5, 2]))),
        *(("occlusion", "fill", v) for v in ("grey", True, math.nan)),
        *(("gradcam", "relu", v) for v in (1, "no", None)),
        ("integrated-gradcam", "steps", "auto"),
    ],
)
def test_what_once_ended_in_a_traceback(name, parameter, value):
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with pytest.raises(MethodError, match=f"{parameter} must be .*, got "):
        saywhy.explain(network, torch.rand(1, 3, 12, 12), 0, name, **{parameter: value})


@pytest.mark.parametrize(
    ("name", "parameter", "value", "wanted"),
    [
        ("rise", "masks", np.int64(3), 3),
        ("rise", "masks", torch.tensor(3), 3),
        ("rise", "keep", np.float32(0.5), 0.5),
        ("rise", "keep", 1, 1.0),
        ("occlusion", "window", np.array([3, 4]), [3, 4]),
        ("occlusion", "window", torch.tensor([3, 4]), [3, 4]),
        ("occlusion", "window", (3, 4), [3, 4]),
        ("occlusion", "window", None, None),
        ("rsi-gradcam", "steps", "auto", "auto"),
        ("gradcam", "relu", np.bool_(False), False),
        ("smooth-gradcam", "relu", False, False),
        ("smooth-gradcam", "noise", 0, 0.0),
    ],
)
def test_numbers_of_other_libraries_become_pythons(name, parameter, value, wanted):
    found = checked(find_method(name), parameter, value)
    assert (found, type(found)) == (wanted, type(wanted))


def test_arrays_become_tensors():
    found = checked(METHODS["lime"], "segments", np.arange(6).reshape(2, 3))
    assert torch.equal(found, torch.arange(6).view(2, 3))
    found = checked(METHODS["rsi-gradcam"], "baseline", np.zeros((3, 4, 4), np.float32))
    assert found.shape == (3, 4, 4)


def test_a_method_without_annotations_is_judged_by_its_defaults():
    def own(activations, gradients, *, power=2, tag="x", keep=True):
        return activations.sum(1)

    method = Method("own", own, "Own", "nobody, 2020", "ΣA")
    assert checked(method, "tag", object)
    assert checked(method, "power", 3) == 3
    for parameter, value in (("power", "x"), ("keep", 1)):
        with pytest.raises(MethodError, match=f"own: {parameter} must be"):
            checked(method, parameter, value)


@pytest.mark.parametrize("seed", ["x", None, -1, 1.5, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(saywhy.SaywhyError, match="seed must be a whole number from 0 on"):
        saywhy.explain(nn.Flatten(), torch.rand(1, 3, 4, 4), 0, "rise", seed=seed)


@pytest.mark.parametrize("method", [3, None, [3], {"gradcam": 1}])
def test_a_method_is_a_name(method):
    with pytest.raises(MethodError, match="method is a name or a list of names"):
        saywhy.explain(nn.Flatten(), torch.rand(1, 3, 4, 4), 0, method)
