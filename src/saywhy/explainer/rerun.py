"""The same request again: of altered images, by another network, or by other methods."""

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
from saywhy.explainer.runner import Runner
from saywhy.explanation import Explanation
from saywhy.methods.registry import find_method
from saywhy.models.inputs import Batch
from saywhy.output import ScoreKind
from saywhy.targets import PerSampleTarget, Target


class Explain(Protocol):
    """Runs a request on a batch; ``warn`` says where a map is zero everywhere."""

    def __call__(self, runner: Runner, batch: Batch, *, warn: bool = False) -> Explanation: ...


class NoRunnerUp(InputError):
    """There is no other class to compare with."""


@dataclass(frozen=True)
class Rerunner:
    """Runs the request of an explanation again.

    The targets are those of the images as they were, the layers those that were resolved. It holds the model and the
    inputs, which an explanation itself does not.

    Attributes:
        runner: the request, its layers resolved.
        batch: the inputs.
        explain_with: runs a request on a batch.
        version: of the model's weights when the explanation was made.
        targets: the resolved ones, once they have been asked for; the same list for all that are made of this one.
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
        """What the network was called with."""
        return self.batch.inputs

    @property
    def size(self) -> int:
        """The number of samples."""
        return self.batch.size

    def check_version(self) -> None:
        """Refuse where the model is not the same any more.

        Raises:
            InputError: its weights have changed.
        """
        if self.runner.model.version() != self.version:
            raise InputError(
                "the model's weights have changed since the explanation was made, so it cannot be asked again. Call "
                "explain once more."
            )

    @property
    def resolved(self) -> Runner:
        """The request with the answers to the images as they are; one pass, when it is first asked for."""
        if not self.targets:
            self.targets.append(self.runner.with_resolved_target(self.batch).config.target)
        return self.runner.with_config(target=self.targets[0])

    def of(self, method: str) -> "Rerunner":
        """The same for one of the methods alone."""
        return replace(self, runner=self.runner.with_config(methods=(find_method(method),)))

    def then(self, change: Callable[[Explanation], Explanation]) -> "Rerunner":
        """The same, with every explanation changed in the same way."""

        def changed(runner: Runner, batch: Batch, *, warn: bool = False) -> Explanation:
            return change(self.explain_with(runner, batch, warn=warn))

        return replace(self, explain_with=changed)

    def model_runner(self, score: ScoreKind = "probability") -> ModelRunner:
        """The scores of altered images; those of classes are of this kind."""
        return self.resolved.model_runner(self.batch, score)

    def explain(
        self,
        images: Tensor | None = None,
        module: nn.Module | None = None,
        methods: Sequence[str] | None = None,
    ) -> Explanation:
        """The same explanation of other images, by another network, or by other methods.

        Made for the answers and at the layers of the first one. Where that was of the image itself there were no
        layers: then other methods take the one that is found.

        Args:
            images: [batch, channel, *space], preprocessed, in place of those explained; None are the same.
            module: a network of the same architecture in place of the model's; None is the same.
            methods: names of methods, with their own defaults; None are the same, with the parameters that were given.

        Raises:
            InputError: the other network has no such layer.
        """
        # The layers are resolved; what was said of them may be a module, which another network does not have.
        runner, batch = self.resolved.with_config(layer=None), self.batch
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
        """The same for one sample by itself."""
        some = slice(index, index + 1)
        config = self.resolved.config.of_samples(some)
        runner = replace(self.resolved, config=config)
        return replace(self, runner=runner, batch=self.batch.of_samples(some), targets=[config.target])

    def runner_up(self) -> Explanation:
        """For every target that is a class, the other class of highest score, whatever else is asked.

        In the place of a target that is no class there is the highest class of all.

        Raises:
            NoRunnerUp: no target is a class, or the network knows one class only.
        """
        runner = self.resolved
        output = runner.predict(self.batch)
        scores = runner.config.target.evaluate(output)
        classes = scores.classes
        if bool((classes < 0).all()) or output.logits.shape[1] < 2:
            came = f"got {', '.join(scores.names[0])} of {output.logits.shape[1]} classes"
            raise NoRunnerUp(f"the runner-up class exists for a target that is a class, among several; {came}.")
        own = torch.arange(output.logits.shape[1]) == classes.unsqueeze(2)
        others = output.logits.detach().cpu().unsqueeze(1).masked_fill(own, -math.inf).argmax(2)
        return self.explain_with(runner.with_config(target=PerSampleTarget(others)), self.batch)

    def counterfactual(self) -> Explanation:
        """What speaks against each target (Grad-CAM, section 3.3), by the model as it is now."""
        if self.runner.model.version() != self.version:
            warnings.warn(
                "the model's weights have changed since the explanation was made: the counterfactual is that of the "
                "model as it is now. Call explain again for both.",
                SaywhyWarning,
                stacklevel=3,
            )
        # The layers are resolved again, as they are for a request of its own.
        runner = replace(self.runner, resolved_layers=()).with_config(target=-self.runner.config.target)
        return self.explain_with(runner, self.batch, warn=True)


def _check_layers(module: nn.Module, runner: Runner) -> None:
    """Another network has the layers that were resolved."""
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
