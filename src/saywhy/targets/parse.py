"""Conversion of arguments to targets, and named targets made of other targets."""

import operator
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saywhy.errors import TargetError
from saywhy.targets.registry import target as named_target
from saywhy.targets.target import Class, Function, PerSampleTarget, Target, TargetList, Top
from saywhy.validation import plain_tensor, short_repr


@named_target(
    "contrast", form="contrast(LABEL, LABEL)", reading="the difference of two scores; `cat - dog` means the same"
)
def contrast(this: int | str | Target, that: int | str | Target) -> Target:
    """Return the contrast (why this rather than that): the difference of two scores. Swapping them negates the map."""
    return as_target(this) - as_target(that)


@named_target(
    "counterfactual",
    form="counterfactual(LABEL)",
    reading="evidence against a class; `-cat` means the same",
    paper="Selvaraju et al., 2017",
)
def counterfactual(target: int | str | Target) -> Target:
    """Return the counterfactual (Grad-CAM paper, section 3.3): regions whose removal would raise the score."""
    return -as_target(target)


@named_target(
    "list", form="list(LABEL, LABEL)", reading="several targets for every sample; the same as --target given twice"
)
def several(*parts: int | str) -> Target:
    """Return several targets for every sample."""
    return as_target(list(parts))


@named_target("per-sample", form="per-sample(INDEX, INDEX)", reading="one class for each sample, in their order")
def per_sample(*classes: int) -> PerSampleTarget:
    """Return one class for each sample, by index."""
    if not classes:
        raise TargetError("per-sample needs a class for every sample, by index: per-sample(3, 5).")
    return PerSampleTarget(torch.tensor(classes))


@named_target(
    "function",
    form="function(FILE.py:NAME)",
    reading="a function of the model's output that returns one number a sample; the file is executed",
)
def from_file(place: str) -> Function:
    """Return a function of a Python file as a target.

    Raises:
        TargetError: there is no such file or function, or the file fails.
    """
    file, _, name = place.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise TargetError(f"there is no file '{file or place}'. Write function(FILE.py:NAME).")
    try:
        function = runpy.run_path(str(path)).get(name)
    except Exception as error:
        raise TargetError(f"{path.name} failed: {type(error).__name__}: {error}.") from error
    if not callable(function):
        raise TargetError(f"{path.name} has no function '{name}'.")
    return Function(function, name)


def as_target(target: Any) -> Target:
    """Convert an argument to a :class:`Target`.

    None is the model's top class; an int or a label is one class; a tensor of integers gives each sample its own class;
    a list gives several targets; any other callable is a function of the output.

    Raises:
        TargetError: the argument is none of these.

    >>> as_target(["cat", 3])
    TargetList(parts=(Class(name='cat', score=None), Class(name=3, score=None)))
    """
    if target is None:
        return Top(1)
    if isinstance(target, Target):
        return target
    if isinstance(target, bool):
        raise TargetError(f"a target must be a class, a list of them, a tensor, a target or a function, got {target}.")
    if isinstance(target, str):
        return Class(target)
    if isinstance(target, Tensor) and target.ndim > 0:
        return PerSampleTarget(plain_tensor("target", target, TargetError))
    if getattr(target, "ndim", 0) > 0 and hasattr(target, "__array__"):
        try:
            return PerSampleTarget(torch.as_tensor(target))
        except (TypeError, ValueError, RuntimeError):
            raise TargetError(f"an array of targets must hold integers, got {str(target)[:60]}.") from None
    if hasattr(target, "__index__"):  # numpy integers and tensors of one element are indices too
        try:
            return Class(operator.index(target))
        except TypeError:  # a tensor of one floating-point number
            raise TargetError(f"a class must be an index or a label, got {short_repr(target)}.") from None
    if isinstance(target, Sequence):
        if not target:
            raise TargetError("expected at least one target, got an empty list. Give one, or None for the top class.")
        return TargetList(tuple(as_target(part) for part in target))
    if callable(target):
        return Function(target)
    raise TargetError(
        "a target must be None, a class (index or label), a list of them, an integer tensor [batch] or "
        f"[batch, target], one of saywhy.targets, or a function of the output; got {type(target).__name__}."
    )
