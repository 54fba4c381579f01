"""Resolving the layers of a request: found or named, each with its layout proved."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from saywhy.engine.activations import module_part
from saywhy.engine.layers import LayerGroup, find_group, known_groups
from saywhy.engine.named_layer import named_layer, spelling
from saywhy.engine.trace import Candidate, LayerProbe, LayerSearch
from saywhy.errors import InputError
from saywhy.explainer.config import ExplainConfig
from saywhy.explainer.outputs import model_output, target_scores
from saywhy.models import Model
from saywhy.models.inputs import Batch
from saywhy.targets import Target, Top

INPUT = "input"
"""The layer name of the image itself."""


def module_name(layer: str) -> str:
    """The module name of a layer, without the number of the call and the function after it.

    >>> module_name("relu(layer4#0)")
    'layer4'
    """
    return module_part(layer).partition("#")[0]


def layer_search(model: Model, config: ExplainConfig, batch: Batch, index: int = 0) -> LayerSearch:
    """The search for a layer: the network, its inputs, the sample, and the scores by which layers are compared."""
    probe = layer_probe(model, config, index)
    return LayerSearch(model.module, batch.inputs, probe, index, learning=config.create_graph)


def layer_probe(model: Model, config: ExplainConfig, index: int = 0) -> LayerProbe:
    """The scores by which layers are compared: those of the target that was asked, for one sample.

    A class's score is its logit; where the gradient is zero throughout, the top class is compared instead. A layer that
    sees all classes serves every target made of class scores; the user's functions and words of a caption use another
    part of the output.
    """
    keys = frozenset(config.target.output_keys())
    target = config.target.of_samples(slice(index, index + 1))

    def scores_of(target: Target) -> Callable[[Any], Tensor]:
        def scores(raw: Any) -> Tensor:
            output = model_output(model, config, 1, raw)
            return target_scores(target, replace(output, score=output.scale)).scores

        return scores

    return LayerProbe(
        scores_of(target),
        key=(config.output, target.memory_key(), keys),
        family=(config.output, keys),
        fallback=None if keys else scores_of(Top(1)),
    )


class LayerChoice:
    """The layers that a request is explained at: named by the user, or found, and found again for samples whose scores
    do not depend on them.

    Attributes:
        candidates: the layers, each with its layout proved. Those of one group are branches of the network.
    """

    def __init__(self, model: Model, config: ExplainConfig, batch: Batch) -> None:
        self._model, self._config, self._batch = model, config, batch
        layer = model.layer if config.layer is None else config.layer
        single = layer is None or isinstance(layer, str | nn.Module | Candidate)
        self._wanted: Sequence[Any] = [layer] if single else list(layer)  # type: ignore[arg-type]
        if not self._wanted:
            raise InputError("layer is an empty list. Give at least one layer, or None to find one.")
        search = self._search(0)
        self._named = {
            i: w if isinstance(w, Candidate) else named_layer(search, w, config.layout)
            for i, w in enumerate(self._wanted)
            if w is not None
        }
        self._group = find_group(search) if None in self._wanted else None
        self._tried: list[LayerGroup] = [] if self._group is None else [self._group]

    @property
    def candidates(self) -> list[Candidate]:
        """The layers in the order of the request."""
        found: list[Candidate] = []
        for i in range(len(self._wanted)):
            if i in self._named:
                found.append(self._named[i])
            elif self._group is not None:
                several = len(self._group.branches) > 1
                found += [replace(branch, group=i + 1 if several else 0) for branch in self._group.branches]
        return list({c.name: c for c in reversed(found)}.values())[::-1]

    @property
    def without_gradient(self) -> tuple[Candidate, ...]:
        """Layers of other branches, on which the score did not depend when the layers were found."""
        return () if self._group is None else self._group.without_gradient

    @property
    def found(self) -> list[str]:
        """The names of the layers that were found, not named."""
        return [] if self._group is None else [branch.name for branch in self._group.branches]

    def keep(self, name: str) -> None:
        """Keep one of the branches only."""
        if self._group is not None:
            self._group = LayerGroup(tuple(branch for branch in self._group.branches if branch.name == name))

    def reconsider(self, sample: int, *, instead: bool) -> bool:
        """Find layers for a sample whose score does not depend on the present ones; False if there are no others.

        Args:
            sample: the index of the sample.
            instead: use them instead of the present layers, not in addition.
        """
        if self._group is None:
            return False
        search = self._search(sample)
        for other in [*known_groups(search), None]:
            if other in self._tried:
                continue
            other = other or find_group(search, again=True)
            self._tried.append(other)
            fresh = [branch for branch in other.branches if branch.name not in self.found]
            if fresh:
                silent = tuple(c for c in other.without_gradient if c.name not in self.found)
                self._group = other if instead else LayerGroup((*self._group.branches, *fresh), silent)
                return True
        return False

    def _search(self, index: int) -> LayerSearch:
        return layer_search(self._model, self._config, self._batch, index)


def check_layer_names(model: Model, config: ExplainConfig) -> None:
    """Check that a layer named for methods of the image itself exists, although it is not used.

    Raises:
        LayerError: there is no such layer.
    """
    if isinstance(config.layer, Candidate):
        return
    for layer in [config.layer] if isinstance(config.layer, str | nn.Module) else config.layer or ():
        if layer is not None and layer != INPUT:
            spelling(model.module, layer)
