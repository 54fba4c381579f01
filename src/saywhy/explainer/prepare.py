"""Preparing a request: a runner and a batch from any kind of model and inputs."""

from dataclasses import replace
from typing import Any

from torch import nn

from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.runner import Runner
from saywhy.models import Model, load
from saywhy.models.inputs import Batch, as_batch, check_words


def prepare(model: "str | nn.Module | Model", inputs: Any, config: ExplainConfig) -> tuple[Runner, Batch]:
    """Load the model if it is named, preprocess the inputs, and pair the model with the settings.

    Args:
        model, inputs: as for :func:`saywhy.explain`.
        config: the settings; without ``output`` that of the model is used.

    Raises:
        SaywhyError: the model cannot be loaded, or it does not take these inputs.
    """
    model = model if isinstance(model, Model) else load(model)
    check_words(model, inputs)
    config = config if config.output is not None else replace(config, output=model.output)
    return Runner(model, config), as_batch(model, inputs)
