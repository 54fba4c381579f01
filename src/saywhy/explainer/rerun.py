"""The question of an explanation, asked again: of altered images, or of an altered network."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.runner import ModelRunner
from saywhy.errors import InputError, nearest
from saywhy.explainer.runner import Request, module_name
from saywhy.methods.registry import find_method
from saywhy.models.inputs import Batch
from saywhy.output import ScoreKind
from saywhy.targets import PerSampleTarget, Target

if TYPE_CHECKING:
    from saywhy.explanation import Explanation


class NoRunnerUp(InputError):
    """There is no other class to compare with."""


@dataclass(frozen=True)
class Rerunner:
    """What was asked, of what; the targets are those of the image as it was, the layers those that were found.

    Attributes:
        request: what was asked.
        batch: the images.
        explained: explains a batch as a request says.
        targets: those of the images as they are, once they have been asked for; the same list for all who ask of
            the same images.
    """

    request: Request
    batch: Batch
    explained: Callable[[Request, Batch], "Explanation"]
    targets: list[Target] = field(default_factory=list)

    @property
    def fixed(self) -> Request:
        """The request with the answers of the images as they are; one pass, when it is first asked for."""
        if not self.targets:
            self.targets.append(self.request.fixed(self.batch).target)
        return replace(self.request, target=self.targets[0])

    def of(self, method: str) -> "Rerunner":
        """The same, asked of one of the methods alone."""
        return replace(self, request=replace(self.request, methods=(find_method(method),)))

    def then(self, change: "Callable[[Explanation], Explanation]") -> "Rerunner":
        """The same, with every explanation changed in the same way."""
        return replace(self, explained=lambda request, batch: change(self.explained(request, batch)))

    def runner(self, score: ScoreKind = "probability") -> ModelRunner:
        """The scores of altered images; those of classes are of this kind."""
        return self.fixed.runner(self.batch, score)

    def explain(
        self,
        images: Tensor | None = None,
        module: nn.Module | None = None,
        methods: Sequence[str] | None = None,
    ) -> "Explanation":
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
        # The layers are settled; what was said of them may be a module, which another network does not have.
        request, batch = replace(self.fixed, layer=None), self.batch
        if module is not None:
            _check_layers(module, request)
            request = replace(request, model=replace(request.model, module=module))
        if methods is not None:
            request = replace(request, methods=tuple(map(find_method, methods)), parameters={})
        if images is not None:
            original = tree.image_tensor(batch.inputs)
            given = images.to(original)
            batch = replace(batch, inputs=tree.replace_tensor(batch.inputs, original, given))
        return self.explained(request, batch)

    def sample(self, index: int) -> "Rerunner":
        """The same of one sample by itself."""
        some = slice(index, index + 1)
        request = replace(self.fixed, target=self.fixed.target.of_samples(some))
        return replace(self, request=request, batch=self.batch.of_samples(some), targets=[request.target])

    def runner_up(self) -> "Explanation":
        """For every target that is a class, the class of highest score beside it, whatever else is asked.

        In the place of a target that is no class there is the highest of all.

        Raises:
            NoRunnerUp: no target is a class, or the network knows one class only.
        """
        request = self.fixed
        answer = request.plain(self.batch)
        classes = request.target.evaluate(answer).classes
        if bool((classes < 0).all()) or answer.logits.shape[1] < 2:
            came = f"got {', '.join(request.target.evaluate(answer).names[0])} of {answer.logits.shape[1]} classes"
            raise NoRunnerUp(f"the next best class is asked of a target that is a class, among several; {came}.")
        own = torch.arange(answer.logits.shape[1]) == classes.unsqueeze(2)
        others = answer.logits.detach().cpu().unsqueeze(1).masked_fill(own, -math.inf).argmax(2)
        return self.explained(replace(request, target=PerSampleTarget(others)), self.batch)


def _check_layers(module: nn.Module, request: Request) -> None:
    """Another network has the layers that were found."""
    names = dict(module.named_modules())
    for candidate in request.resolved_layers:
        if (name := module_name(candidate.name)) not in names:
            likely = nearest(name, list(names), count=1)
            raise InputError(
                f"the other network, {type(module).__name__}, has no layer '{name}', at which {request.model.name} was "
                "explained."
                + (f" Nearest: '{likely[0]}'." if likely else "")
                + " Give a network of the same architecture."
            )
