"""The interface of an explanation to its rerunner, which runs the model again."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from saywhy.engine.runner import ModelRunner
from saywhy.output import ScoreKind

E = TypeVar("E")
"""An explanation; this file does not know its class, which refers to this protocol."""


class Explainer(Protocol[E]):
    """Runs the request of an explanation again; :class:`saywhy.explainer.rerun.Rerunner` implements it.

    An explanation knows this protocol and nothing of models, requests or hooks.
    """

    @property
    def module(self) -> nn.Module:
        """The network."""

    @property
    def inputs(self) -> Any:
        """The network's inputs."""

    @property
    def size(self) -> int:
        """The number of samples."""

    def check_version(self) -> None:
        """Check that the model's weights have not changed (``InputError``)."""

    def of(self, method: str) -> "Explainer[E]":
        """The rerunner for one method only."""

    def sample(self, index: int) -> "Explainer[E]":
        """The rerunner for one sample only."""

    def then(self, change: Callable[[E], E]) -> "Explainer[E]":
        """The rerunner with ``change`` applied to every explanation."""

    def model_runner(self, score: ScoreKind = "probability") -> ModelRunner:
        """A model runner for scores of altered images."""

    def explain(
        self, images: Tensor | None = None, module: nn.Module | None = None, methods: Sequence[str] | None = None
    ) -> E:
        """Compute the explanation again on other images, with another network, or with other methods."""

    def random_classes(self, count: int, seed: int = 0) -> E:
        """Explain random other classes of every target."""

    def runner_up(self) -> E:
        """Explain the runner-up class of every target."""

    def counterfactual(self) -> E:
        """Explain the evidence against each target."""
