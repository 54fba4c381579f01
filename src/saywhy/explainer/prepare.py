"""The one way in: a model of any kind and inputs of any kind, as a runner and a batch."""

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
        config: what is asked for; where it does not say where the class scores are, the model does.

    Raises:
        SaywhyError: the model cannot be loaded, or the inputs are none that it takes.
    """
    model = model if isinstance(model, Model) else load(model)
    check_words(model, inputs)
    config = config if config.output is not None else replace(config, output=model.output)
    return Runner(model, config), as_batch(model, inputs)
