"""The methods that work on a network where the asked one was refused, for the message of the refusal."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from saywhy.errors import GradientError, LayoutError, SaywhyError
from saywhy.explainer.runner import Runner
from saywhy.methods.method import Method
from saywhy.methods.registry import all_methods
from saywhy.models.inputs import Batch
from saywhy.quiet import ignored_warnings


def with_alternatives(error: GradientError | LayoutError, runner: Runner, batch: Batch) -> SaywhyError:
    """The same error, whose message names the registered methods that work on this network, tried on one sample.

    Args:
        error: a refusal for want of a gradient, or of a layer.
        runner: the request.
        batch: its inputs.
    """
    of_layer = isinstance(error, LayoutError)
    if of_layer and (runner.config.layer is not None or runner.model.layer is not None):
        return error  # another layer can be named
    names = ", ".join(method.name for method in _working(runner, batch, of_image=of_layer))
    what = "need no layer" if of_layer else "need no gradient"
    return type(error)(f"{error} Methods that {what} and work here: {names}." if names else str(error))


def _working(runner: Runner, batch: Batch, *, of_image: bool) -> Iterator[Method]:
    """The methods that work: those of the image itself, or those that need no gradient."""
    one = batch.of_samples(slice(0, 1))
    runner = replace(runner, config=runner.config.of_samples(slice(0, 1))).with_config(
        create_graph=False, parameters={}
    )
    with ignored_warnings():
        perturbable: dict[str, bool] = {}
        for method in all_methods():
            differentiates_image = of_image and method.at == "input" and method.passes == "one"
            if (method.needs_gradients and not differentiates_image) or (of_image and method.at == "layer"):
                continue
            own = runner.with_config(methods=(method,))
            if differentiates_image:
                if _works(own, one):
                    yield method
                continue
            # Perturbation takes hundreds of passes: a few alterations stand for it, and show that the layer matters.
            if method.at not in perturbable:
                perturbable[method.at] = _is_perturbable(own, one)
            if perturbable[method.at] and (method.family == "perturbation" or _works(own, one)):
                yield method


def _is_perturbable(runner: Runner, one: Batch) -> bool:
    try:
        return runner.perturbable(one)
    except Exception:
        return False


def _works(runner: Runner, one: Batch) -> bool:
    """Whether a method gives a map of one sample that is not zero throughout."""
    try:
        return all(bool(torch.isfinite(maps).all() and maps.any()) for maps in runner.run(one).maps.values())
    except Exception:
        return False
