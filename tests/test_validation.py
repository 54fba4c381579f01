"""Arguments: values of another type than annotated, or out of their limits, are refused with a message."""

import inspect
import math
import re
import typing
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pytest
import torch
from annotated_types import Ge, Gt, Interval, Le, Lt
from torch import Tensor, nn

import saywhy
from saywhy.errors import InputError, MethodError, TargetError
from saywhy.methods import METHODS, Method, find_method
from saywhy.validation import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    UnitInterval,
    allowed,
    checked,
    real_number,
    true_or_false,
    validate,
    validated,
    whole_number,
)

EVERY = [(name, parameter) for name, method in METHODS.items() for parameter in method.parameters]


@pytest.mark.parametrize(("name", "parameter"), EVERY)
class TestMethodParameters:
    def test_default_passes_checked(self, name, parameter):
        default = METHODS[name].parameters[parameter]
        assert checked(METHODS[name], parameter, default) == default

    def test_annotation_has_a_description(self, name, parameter):
        hint = typing.get_type_hints(METHODS[name].function)[parameter]
        assert allowed(hint)

    @pytest.mark.parametrize("value", ["nonsense", object(), {}, 1j, b"", math.nan, math.inf, lambda: 0])
    def test_values_of_wrong_type_raise(self, name, parameter, value):
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
def test_explain_with_invalid_parameter_raises_method_error(name, parameter, value):
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with pytest.raises(MethodError, match=f"{parameter} must be .*, got "):
        saywhy.explain(network, torch.rand(1, 3, 12, 12), 0, name, **{parameter: value})


@pytest.mark.parametrize(
    ("name", "parameter", "value", "wanted"),
    [
        ("rise", "masks", np.int64(3), 3),
        ("rise", "masks", torch.tensor(3), 3),
        ("rise", "keep", np.float32(0.5), 0.5),
        ("smoothgrad", "noise", 1, 1.0),
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
def test_numpy_and_torch_numbers_become_python_numbers(name, parameter, value, wanted):
    found = checked(find_method(name), parameter, value)
    assert (found, type(found)) == (wanted, type(wanted))


def test_arrays_become_tensors():
    found = checked(METHODS["lime"], "segments", np.arange(6).reshape(2, 3))
    assert torch.equal(found, torch.arange(6).view(2, 3))
    found = checked(METHODS["rsi-gradcam"], "baseline", np.zeros((3, 4, 4), np.float32))
    assert found.shape == (3, 4, 4)


def test_parameters_without_annotations_are_checked_by_defaults():
    def own(activations, gradients, *, power=2, tag="x", keep=True):
        return activations.sum(1)

    method = Method("own", own, "Own", "nobody, 2020", "ΣA")
    assert checked(method, "tag", object)
    assert checked(method, "power", 3) == 3
    for parameter, value in (("power", "x"), ("keep", 1)):
        with pytest.raises(MethodError, match=f"own: {parameter} must be"):
            checked(method, parameter, value)


@pytest.mark.parametrize("seed", ["x", None, -1, 1.5, True])
def test_invalid_seed_raises(seed):
    with pytest.raises(saywhy.SaywhyError, match="seed must be a whole number of at least 0"):
        saywhy.explain(nn.Flatten(), torch.rand(1, 3, 4, 4), 0, "rise", seed=seed)


@pytest.mark.parametrize(
    ("name", "parameter", "value", "wanted"),
    [
        *(("rise", "masks", v, "a whole number of at least 1") for v in (0, -3, True, 2.5)),
        *(("rise", "keep", v, "a number between 0 and 1") for v in (0, 1, 1.5, math.nan)),
        *(("lime", "num_samples", v, "a whole number of at least 2") for v in (1, True)),
        *(("lime", "width", v, "a number above 0") for v in (0, -1, math.nan)),
        *(("lime", "penalty", v, "a number of at least 0") for v in (-1e-9, math.nan)),
        *(("kernelshap", "num_samples", v, "a whole number of at least 2") for v in (1, True)),
        *(("sscam", "num_samples", v, "a whole number of at least 1") for v in (0, 1.5)),
        *(("sscam", "noise", v, "a number of at least 0") for v in (-1, math.nan)),
        *((name, "weights", "mean", "softmax or increase") for name in ("scorecam", "sscam", "iscam")),
        ("iscam", "steps", 0, "a whole number of at least 1"),
        ("iscam", "scale", "log", "linear or cumulative"),
        *((name, "num_samples", 0, "a whole number of at least 1") for name in ("smoothgrad", "vargrad")),
        *((name, "noise", -0.1, "a number of at least 0") for name in ("smooth-gradcam++", "smooth-layercam")),
        *(("smooth-layercam", "num_samples", v, "a whole number of at least 1") for v in (0, True)),
        *(("rsi-gradcam", "steps", v, "a whole number of at least 1 or auto") for v in (0, "many")),
        *(("rsi-gradcam", "max_steps", v, "a whole number of at least 1") for v in (0, -5)),
        *((name, "rule", "right", "trapezoid or left") for name in ("rsi-gradcam", "integrated-gradients")),
        ("rsi-gradcam", "variant", "best", "masked, plain or posgrad"),
        ("integrated-gradcam", "steps", 0, "a whole number of at least 1"),
        *(("attention-rollout", "discard", v, "a number of at least 0 and below 1") for v in (1, -0.1)),
        ("attention-rollout", "heads", "sum", "mean, max or min"),
        ("fullgrad", "rescale", "all", "layer, channel or none"),
        ("ablationcam", "divisor", "one", "magnitude or score"),
        ("lrp", "epsilon", -1e-9, "a number of at least 0"),
        *((name, "channels", "mean", "sum, abs or max") for name in ("lrp", "smoothgrad")),
    ],
)
def test_method_called_directly_with_invalid_parameter_raises(name, parameter, value, wanted):
    with pytest.raises(
        MethodError, match=rf"^{parameter} must be {re.escape(wanted)}, got {re.escape(repr(value))}\.$"
    ):
        find_method(name).function(None, **{parameter: value})


@pytest.mark.parametrize(
    ("name", "parameter", "value", "wanted"),
    [
        ("gradcam", "pooling", "sum", "mean, abs or max"),
        ("kpcacam", "kernel", "cosine", "sigmoid, rbf or linear"),
        ("kpcacam", "gamma", 0, "a number above 0 or none"),
        ("fem", "variant", "mean", "published or share"),
    ],
)
def test_one_pass_method_called_directly_with_invalid_parameter_raises(name, parameter, value, wanted):
    with pytest.raises(
        MethodError, match=rf"^{parameter} must be {re.escape(wanted)}, got {re.escape(repr(value))}\.$"
    ):
        find_method(name).function(torch.ones(1, 2, 3), torch.ones(1, 2, 3), **{parameter: value})


@pytest.mark.parametrize(
    ("value", "annotation"), [("left", Literal["left"]), (3, PositiveInt | None), (None, int | None)]
)
def test_validate_returns_an_allowed_value(value, annotation):
    assert validate("one", value, annotation) == value


@pytest.mark.parametrize(
    ("value", "annotation", "wanted"),
    [
        ("right", Literal["trapezoid", "left"], "trapezoid or left"),
        (["left"], Literal["left"], "left"),
        (None, Literal["left"], "left"),
        (0, PositiveInt | Sequence[int | str], "a whole number of at least 1, whole numbers or words"),
    ],
)
def test_validate_raises_with_allowed_values(value, annotation, wanted):
    with pytest.raises(TargetError, match=rf"^one must be {wanted}, got {re.escape(repr(value))}\.$"):
        validate("one", value, annotation, TargetError)


@pytest.mark.parametrize("method", [3, None, [3], {"gradcam": 1}])
def test_method_of_wrong_type_raises(method):
    with pytest.raises(MethodError, match="method must be a name or a list of names"):
        saywhy.explain(nn.Flatten(), torch.rand(1, 3, 4, 4), 0, method)


class TestLimits:
    @pytest.mark.parametrize(
        ("annotation", "words"),
        [
            (Annotated[int, Ge(1)], "a whole number of at least 1"),
            (Annotated[int, Interval(ge=1, le=3)], "a whole number from 1 to 3"),
            (Annotated[int, Le(3)], "a whole number of at most 3"),
            (Annotated[float, Gt(0)], "a number above 0"),
            (Annotated[float, Lt(0)], "a number below 0"),
            (Annotated[float, Gt(0), Le(1)], "a number above 0 and at most 1"),
            (Annotated[float, Interval(gt=0, lt=1)], "a number between 0 and 1"),
            (Annotated[float, Interval(ge=0, le=1_000_000)], "a number from 0 to 1,000,000"),
            (Annotated[float, "no limit"], "a number"),
        ],
    )
    def test_allowed_describes_limits(self, annotation, words):
        assert allowed(annotation) == (words,)

    @pytest.mark.parametrize(
        ("limits", "inside", "outside"),
        [
            ({"low": 1}, (1, 9), (0, -1)),
            ({"low": 1, "high": 3}, (1, 3), (0, 4)),
            ({"low": None}, (-9, 0, 9), ()),
            ({"low": None, "high": 3}, (-9, 3), (4,)),
        ],
    )
    def test_whole_number_checks_type_and_limits(self, limits, inside, outside):
        for value in inside:
            for same in (value, np.int64(value), torch.tensor(value), np.array(value)):
                found = whole_number("n", same, **limits)
                assert (found, type(found)) == (value, int)
        for value in (*outside, True, np.bool_(True), 1.0, "1", None, [1], torch.ones(1, dtype=torch.long)):
            with pytest.raises(InputError, match=r"^n must be a whole number.*, got "):
                whole_number("n", value, **limits)

    @pytest.mark.parametrize(
        ("limits", "inside", "outside"),
        [
            ({}, (-1e9, 0, 0.5), ()),
            ({"low": 0, "high": 1}, (0, 1, 0.5), (-1e-9, 1.1)),
            ({"above": 0, "below": 1}, (0.5,), (0, 1)),
            ({"above": 0, "high": 1}, (1e-9, 1), (0.0, 1.5)),
        ],
    )
    def test_real_number_checks_type_and_limits(self, limits, inside, outside):
        for value in inside:
            for same in (value, np.float64(value), torch.tensor(value, dtype=torch.float64)):
                found = real_number("share", same, **limits)
                assert (found, type(found)) == (value, float)
        for value in (*outside, True, "1", None, math.nan, math.inf, -math.inf, 1j):
            with pytest.raises(InputError, match=r"^share must be a number.*, got "):
                real_number("share", value, **limits)

    def test_raised_error_is_of_the_given_class(self):
        with pytest.raises(TargetError, match=r"similar must be a whole number of at least 1, got 'x'\."):
            whole_number("similar", "x", 1, error=TargetError)
        with pytest.raises(MethodError, match=r"alpha must be a number of at least 0, got -1\."):
            real_number("alpha", -1, 0, error=MethodError)

    @pytest.mark.parametrize("value", [0, 1, "no", None])
    def test_true_or_false_raises_for_other_values(self, value):
        true_or_false(early=True, refill=np.bool_(False))
        with pytest.raises(MethodError, match="refill must be true or false, got"):
            true_or_false(MethodError, early=True, refill=value)


@validated(MethodError)
def decorated(
    maps: Tensor | None,
    count: PositiveInt = 1,
    *more: int,
    share: UnitInterval | None = None,
    seed: NonNegativeInt = 0,
    how: Literal["near", "far"] = "near",
    scale: PositiveFloat | Literal["auto"] = "auto",
    name: str = "",
    sure: bool = False,
    free=None,
    names: typing.Sequence[str] = (),
    **others: int,
):
    """Return the arguments as received."""
    return maps, count, more, share, seed, how, scale, name, sure, free, names, others


class TestValidated:
    def test_defaults_and_unchecked_arguments_are_passed_through(self):
        assert decorated("x") == ("x", 1, (), None, 0, "near", "auto", "", False, None, (), {})
        assert decorated("x", 2, "y", free=3, names=4, z=5.5)[1:3] == (2, ("y",))

    def test_numpy_and_torch_numbers_become_python_numbers(self):
        found = decorated(None, np.int64(3), share=1, seed=torch.tensor(4), scale=np.float32(0.5), sure=np.bool_(True))
        assert found[1:9] == (3, (), 1.0, 4, "near", 0.5, "", True)
        assert [type(found[place]) for place in (1, 3, 4, 6, 8)] == [int, float, int, float, bool]

    @pytest.mark.parametrize(
        ("argument", "value", "wanted"),
        [
            ("count", 0, "a whole number of at least 1, got 0"),
            ("count", True, "a whole number of at least 1, got True"),
            ("share", 1.5, "a number from 0 to 1 or none, got 1.5"),
            ("seed", -1, "a whole number of at least 0, got -1"),
            ("how", "close", "near or far, got 'close'"),
            ("scale", 0, "a number above 0 or auto, got 0"),
            ("scale", math.nan, "a number above 0 or auto, got nan"),
            ("name", 3, "a word, got 3"),
            ("sure", 1, "true or false, got 1"),
            ("seed", None, "a whole number of at least 0, got None"),
        ],
    )
    def test_invalid_argument_raises_with_allowed_values(self, argument, value, wanted):
        with pytest.raises(MethodError, match=f"^{argument} must be {wanted}\\.$"):
            decorated(None, **{argument: value})

    def test_first_invalid_argument_is_reported(self):
        with pytest.raises(MethodError, match=r"^count must be"):
            decorated(None, 0, seed=-1)

    def test_decorated_function_keeps_docstring_and_signature(self):
        assert decorated.__doc__ == "Return the arguments as received."
        assert list(inspect.signature(decorated).parameters)[:3] == ["maps", "count", "more"]

    def test_missing_argument_raises_type_error(self):
        with pytest.raises(TypeError, match="maps"):
            decorated()

    @pytest.mark.parametrize(
        ("verb", "given", "message"),
        [
            (
                saywhy.load,
                {"weight": "two.pth"},
                r"^load has no argument 'weight'\. Nearest: 'weights'\. Its arguments: model, w",
            ),
            (saywhy.load, {"label": ["cat"]}, "Nearest: 'labels'"),
            (saywhy.check, {"metod": "gradcam"}, "check has no argument 'metod'. Nearest: 'method'"),
            (saywhy.fix, {"hint": "masks"}, "Nearest: 'hints'"),
            (saywhy.benchmark, {"metric": "deletion"}, "Nearest: 'metrics'"),
        ],
    )
    def test_misspelt_arguments_are_answered_with_the_nearest(self, verb, given, message):
        with pytest.raises(InputError, match=message):
            verb(nn.Flatten(), **given)

    def test_constructors_can_be_validated(self):
        class Box:
            @validated()
            def __init__(self, side: PositiveInt) -> None:
                self.side = side

        assert Box(np.int32(3)).side == 3
        with pytest.raises(InputError, match="side must be"):
            Box(0)
        with pytest.raises(InputError, match=r"Box has no argument 'sides'\. Nearest: 'side'"):
            Box(sides=3)

    @pytest.mark.parametrize(("argument", "value"), [("shift", "no"), ("seed", -1), ("output", 1.5), ("batch_size", 0)])
    def test_factorize_with_invalid_arguments_raises(self, argument, value):
        with pytest.raises(InputError, match=f"^{argument} must be"):
            saywhy.factorize(nn.Flatten(), torch.rand(1, 3, 4, 4), **{argument: value})


def test_annotated_limits_of_user_methods_are_checked():
    def own(activations, gradients, *, power: Annotated[float, Gt(0)] = 2.0):
        return activations.sum(1)

    method = Method("own", own, "Own", "nobody, 2020", "ΣA")
    assert checked(method, "power", 3) == 3.0
    with pytest.raises(MethodError, match=r"own: power must be a number above 0 such as 2\.0, got -1\."):
        checked(method, "power", -1)
