"""Preparing a request: a runner and a batch from any kind of model and inputs."""

import warnings
from dataclasses import replace
from typing import Any

from torch import nn

from saywhy.engine import tree
from saywhy.engine.exclusive import exclusive
from saywhy.engine.memory import refused_if_out_of_memory
from saywhy.errors import InputError, SaywhyWarning
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.runner import Runner
from saywhy.explainer.samples import with_samples
from saywhy.models import Input, Model, load
from saywhy.models.axes import as_input
from saywhy.models.inputs import Batch, as_batch, check_words


def prepare(
    model: "str | nn.Module | Model", inputs: Any, config: ExplainConfig, axes: str | Input | None = None
) -> tuple[Runner, Batch]:
    """Load the model if it is named, preprocess the inputs, and pair the model with the settings.

    Args:
        model, inputs: as for :func:`saywhy.explain`.
        config: the settings; without ``output`` that of the model is used.
        axes: the axes of the inputs, in place of the model's own declaration.

    Raises:
        SaywhyError: the model cannot be loaded, or it does not take these inputs.
    """
    model = model if isinstance(model, Model) else load(model)
    if axes is not None:
        model = replace(model, axes=as_input(axes))
    check_words(model, inputs)
    config = config if config.output is not None else replace(config, output=model.output)
    with exclusive(model.module), refused_if_out_of_memory():  # both may run the network
        batch = as_batch(model, inputs)
        if not config.create_graph:  # in training a batch norm mixes the samples on purpose
            batch = with_samples(model, config, batch)
    if batch.classes and model.labels is None:
        model = replace(model, labels=batch.classes)
    if isinstance(batch.inputs, tree.ModelInputs) and batch.inputs.mixed is not None:
        _check_mixed(model, config, batch.inputs.mixed)
    return Runner(model, config), batch


def _check_mixed(model: Model, config: ExplainConfig, axis: str) -> None:
    """Check that no layer is asked for a map over an axis that the network mixes.

    Raises:
        InputError: a method at a layer.
    """
    fact = f"the first layer of {model.name} mixes the axis '{axis}' as channels"
    if any(method.at == "layer" for method in config.methods):
        raise InputError(
            f"{fact}, so no layer has a map over it. Call it c in axes= ('{model.axes.axes}'), and the axis called c "
            "by its own name; or use a method of the input itself, such as saliency or occlusion."
        )
    if "c" in (model.axes.names or ()):
        warnings.warn(
            f"{fact}, but axes='{model.axes.axes}' calls another axis c; the map sums over that axis. Check the order "
            "of the axes.",
            SaywhyWarning,
            stacklevel=4,
        )
