"""Running the request of an explanation again: on altered images, with another network, or with other methods."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError, SaywhyWarning, nearest
from saywhy.explainer.layers import module_name
from saywhy.explainer.outputs import target_scores
from saywhy.explainer.runner import Runner
from saywhy.explanation import Explanation
from saywhy.methods.registry import find_method
from saywhy.models.inputs import Batch
from saywhy.output import ScoreKind
from saywhy.targets import PerSampleTarget, Target


class Explain(Protocol):
    """A function that runs a request on a batch; ``warn`` warns of maps that are zero everywhere."""

    def __call__(self, runner: Runner, batch: Batch, *, warn: bool = False) -> Explanation: ...


class NoOtherClass(InputError):
    """The target is not a class, or the network has no other class."""


@dataclass(frozen=True)
class Rerunner:
    """Runs the request of an explanation again.

    The targets are those of the original images, the layers those already resolved. It holds the model and the inputs,
    which an explanation itself does not.

    Attributes:
        runner: the request, with its layers resolved.
        batch: the inputs.
        explain_with: runs a request on a batch.
        version: the version of the model's weights when the explanation was made.
        targets: the resolved target, once computed; rerunners made from this one share the list.
    """

    runner: Runner
    batch: Batch
    explain_with: Explain
    version: int
    targets: list[Target] = field(default_factory=list)

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.runner.model.module

    @property
    def inputs(self) -> Any:
        """The network's inputs."""
        return self.batch.inputs

    @property
    def size(self) -> int:
        """The number of samples."""
        return self.batch.size

    def check_version(self) -> None:
        """Check that the model's weights have not changed.

        Raises:
            InputError: its weights have changed.
        """
        if self.runner.model.version() != self.version:
            raise InputError(
                "the model's weights have changed since the explanation was made, so its request cannot be run again. "
                "Call explain once more."
            )

    @property
    def resolved(self) -> Runner:
        """The request with the targets resolved on the original images; computed in one pass at first use."""
        if not self.targets:
            self.targets.append(self.runner.with_resolved_target(self.batch).config.target)
        return self.runner.with_config(target=self.targets[0])

    def of(self, method: str) -> "Rerunner":
        """The rerunner for one method only."""
        return replace(self, runner=self.runner.with_config(methods=(find_method(method),)))

    def then(self, change: Callable[[Explanation], Explanation]) -> "Rerunner":
        """The rerunner with ``change`` applied to every explanation."""

        def changed(runner: Runner, batch: Batch, *, warn: bool = False) -> Explanation:
            return change(self.explain_with(runner, batch, warn=warn))

        return replace(self, explain_with=changed)

    def model_runner(self, score: ScoreKind = "probability") -> ModelRunner:
        """A model runner for scores of altered images; ``score`` is the kind of class scores."""
        return self.resolved.model_runner(self.batch, score)

    def explain(
        self,
        images: Tensor | None = None,
        module: nn.Module | None = None,
        methods: Sequence[str] | None = None,
    ) -> Explanation:
        """Compute the explanation again on other images, with another network, or with other methods.

        Targets and layers are those of the first explanation. If that was of the image itself, it has no layers, and
        other methods use the layer that is found.

        Args:
            images: [batch, channel, *space], preprocessed, in place of those explained; None keeps them.
            module: a network of the same architecture in place of the model's; None keeps it.
            methods: names of methods, with their own defaults; None keeps methods and parameters.

        Raises:
            InputError: the other network has no such layer.
        """
        runner, batch = self.resolved, self.batch
        if runner.resolved_layers or not _are_names(runner.config.layer):
            # The layers are resolved; config.layer may be a module, which another network does not have.
            runner = runner.with_config(layer=None)
        if module is not None:
            _check_layers(module, runner)
            runner = replace(runner, model=replace(runner.model, module=module))
        if methods is not None:
            runner = runner.with_config(methods=tuple(map(find_method, methods)), parameters={})
        if images is not None:
            original = tree.image_tensor(batch.inputs)
            batch = replace(batch, inputs=tree.replace_tensor(batch.inputs, original, images.to(original)))
        return self.explain_with(runner, batch)

    def sample(self, index: int) -> "Rerunner":
        """The rerunner for one sample only."""
        some = slice(index, index + 1)
        config = self.resolved.config.of_samples(some)
        runner = replace(self.resolved, config=config)
        return replace(self, runner=runner, batch=self.batch.of_samples(some), targets=[config.target])

    def runner_up(self) -> Explanation:
        """Explain the runner-up class of every target: the class of highest score other than the target.

        For a target that is not a class it is the class of highest score.

        Raises:
            NoOtherClass: no target is a class, or the network has only one class.
        """
        logits, own = self._classes()
        others = logits.unsqueeze(1).masked_fill(own, -math.inf).argmax(2)
        return self._explain_classes(others)

    def random_classes(self, count: int, seed: int = 0) -> Explanation:
        """Explain ``count`` random classes for every target, none of them the target itself; some may be equal.

        Returns:
            An explanation with ``target * count`` targets: those of the first target, then those of the next.

        Raises:
            NoOtherClass: as for :meth:`runner_up`.
        """
        _, own = self._classes()
        generator = torch.Generator().manual_seed(seed)
        drawn = (~own).flatten(0, 1).double().multinomial(count, replacement=True, generator=generator)
        return self._explain_classes(drawn.unflatten(0, own.shape[:2]).flatten(1))

    def _classes(self) -> tuple[Tensor, Tensor]:
        """Return the logits [batch, class], and which class each target is, bool [batch, target, class]."""
        runner = self.resolved
        output = runner.predict(self.batch)
        scores = target_scores(runner.config.target, output)
        if bool((scores.classes < 0).all()) or output.logits.shape[1] < 2:
            given = f"got {', '.join(scores.names[0])} of {output.logits.shape[1]} classes"
            raise NoOtherClass(f"another class needs a target that is a class, among several; {given}.")
        own = torch.arange(output.logits.shape[1]) == scores.classes.unsqueeze(2)
        return output.logits.detach().cpu(), own

    def _explain_classes(self, classes: Tensor) -> Explanation:
        return self.explain_with(self.resolved.with_config(target=PerSampleTarget(classes)), self.batch)

    def counterfactual(self) -> Explanation:
        """Explain the evidence against each target (Grad-CAM, section 3.3), with the model as it is now."""
        if self.runner.model.version() != self.version:
            warnings.warn(
                "the model's weights have changed since the explanation was made: the counterfactual is that of the "
                "current model. Call explain again for both.",
                SaywhyWarning,
                stacklevel=3,
            )
        # The layers are resolved again, as for a new request.
        runner = replace(self.runner, resolved_layers=()).with_config(target=-self.runner.config.target)
        return self.explain_with(runner, self.batch, warn=True)


def _are_names(layer: Any) -> bool:
    return isinstance(layer, list) and all(isinstance(one, str) for one in layer)


def _check_layers(module: nn.Module, runner: Runner) -> None:
    """Check that another network has the resolved layers."""
    names = dict(module.named_modules())
    for candidate in runner.resolved_layers:
        if (name := module_name(candidate.name)) not in names:
            likely = nearest(name, list(names), count=1)
            raise InputError(
                f"the other network, {type(module).__name__}, has no layer '{name}', at which {runner.model.name} was "
                "explained."
                + (f" Nearest: '{likely[0]}'." if likely else "")
                + " Give a network of the same architecture."
            )
