"""Resolving the layers of a request: found or named, each with its layout proved."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from saywhy.engine.layers import find_layer, named_layer, spelling
from saywhy.engine.trace import Candidate, LayerProbe, LayerSearch
from saywhy.errors import InputError
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.outputs import model_output, target_scores
from saywhy.models import Model
from saywhy.models.inputs import Batch
from saywhy.targets import Top

INPUT = "input"
"""The layer name of the image itself."""


def module_name(layer: str) -> str:
    """The module name of a layer, without the number of the call.

    >>> module_name("layer4#0")
    'layer4'
    """
    return layer.partition("#")[0]


def layer_search(model: Model, config: ExplainConfig, batch: Batch) -> LayerSearch:
    """The search for a layer: the network, its inputs, and the score by which layers are compared."""
    return LayerSearch(model.module, batch.inputs, layer_probe(model, config))


def layer_probe(model: Model, config: ExplainConfig) -> LayerProbe:
    """The score by which layers are compared: the top class, so that every class is explained at the same layer.

    The user's functions and words of a caption use another part of the output, so their own scores are compared.
    """
    keys = frozenset(config.target.output_keys())
    target = config.target.of_samples(slice(0, 1)) if keys else Top(1)

    def scores(raw: Any) -> Tensor:
        output = model_output(model, config, 1, raw)
        return target_scores(target, replace(output, score=output.scale)).scores

    return LayerProbe(scores, key=(config.output, keys))


def resolve_layers(model: Model, config: ExplainConfig, batch: Batch) -> list[Candidate]:
    """The requested layers, each with its layout proved.

    Raises:
        LayerError, LayoutError: a layer does not exist, or no layout of it can be proved.
    """
    layer = model.layer if config.layer is None else config.layer
    wanted: Sequence[str | nn.Module | None] = (
        [layer] if layer is None or isinstance(layer, str | nn.Module) else list(layer)
    )
    if not wanted:
        raise InputError("layer is an empty list. Give at least one layer, or None to find one.")
    search = layer_search(model, config, batch)
    return [find_layer(search) if one is None else named_layer(search, one, config.layout) for one in wanted]


def check_layer_names(model: Model, config: ExplainConfig) -> None:
    """Check that a layer named for methods of the image itself exists, although it is not used.

    Raises:
        LayerError: there is no such layer.
    """
    for layer in [config.layer] if isinstance(config.layer, str | nn.Module) else config.layer or ():
        if layer != INPUT:
            spelling(model.module, layer)
