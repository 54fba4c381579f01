"""What asks the model again for an explanation, as its users see it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from saywhy.engine.runner import ModelRunner
from saywhy.output import ScoreKind

if TYPE_CHECKING:
    from saywhy.explanation.result import Explanation


class Explainer(Protocol):
    """Runs the request of an explanation again; :class:`saywhy.explainer.rerun.Rerunner` is the one that there is.

    An explanation knows this protocol and nothing of models, requests or hooks.
    """

    @property
    def module(self) -> nn.Module:
        """The network."""

    @property
    def inputs(self) -> Any:
        """What the network was called with."""

    @property
    def size(self) -> int:
        """The number of samples."""

    def check_version(self) -> None:
        """Refuse (``InputError``) where the model's weights have changed."""

    def of(self, method: str) -> "Explainer":
        """The same for one of the methods alone."""

    def sample(self, index: int) -> "Explainer":
        """The same for one sample by itself."""

    def then(self, change: "Callable[[Explanation], Explanation]") -> "Explainer":
        """The same, with every explanation changed in the same way."""

    def model_runner(self, score: ScoreKind = "probability") -> ModelRunner:
        """The scores of altered images."""

    def explain(
        self, images: Tensor | None = None, module: nn.Module | None = None, methods: Sequence[str] | None = None
    ) -> "Explanation":
        """The same explanation of other images, by another network, or by other methods."""

    def runner_up(self) -> "Explanation":
        """The explanation of the runner-up class of every target."""

    def counterfactual(self) -> "Explanation":
        """What speaks against each target."""
