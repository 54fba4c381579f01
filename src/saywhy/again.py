"""The question of an explanation, asked again: of altered pictures, or of an altered network."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor, nn

from saywhy.answer import ScoreKind
from saywhy.engine import tree
from saywhy.engine.subject import Subject
from saywhy.errors import InputError
from saywhy.inputs import Batch
from saywhy.methods.registry import find_method
from saywhy.request import Request
from saywhy.targets import Chosen

if TYPE_CHECKING:
    from saywhy.explanation import Explanation


@dataclass(frozen=True)
class Again:
    """What was asked, of what; the targets are those of the picture as it was, the layers those that were found.

    Attributes:
        request: what was asked.
        batch: the pictures.
        explained: explains a batch as a request says.
    """

    request: Request
    batch: Batch
    explained: Callable[[Request, Batch], "Explanation"]

    @cached_property
    def fixed(self) -> Request:
        """The request with the answers of the pictures as they are; one pass, if it asks for the network's own."""
        return self.request.fixed(self.batch)

    def of(self, method: str) -> "Again":
        """The same, asked of one of the methods alone."""
        return replace(self, request=replace(self.request, methods=(find_method(method),)))

    def then(self, change: "Callable[[Explanation], Explanation]") -> "Again":
        """The same, with every explanation changed in the same way."""
        return replace(self, explained=lambda request, batch: change(self.explained(request, batch)))

    def subject(self, score: ScoreKind = "probability") -> Subject:
        """The scores of altered pictures; those of classes are of this kind."""
        return self.fixed.subject(self.batch, score)

    def explain(
        self,
        pictures: Tensor | None = None,
        module: nn.Module | None = None,
        methods: Sequence[str] | None = None,
    ) -> "Explanation":
        """The same explanation of other pictures, by another network, or by other methods.

        Args:
            pictures: [batch, channel, *space], preprocessed, in place of those explained; None are the same.
            module: a network of the same architecture in place of the model's; None is the same.
            methods: names of methods, with their parameters left as they are; None are the same.
        """
        request, batch = self.fixed, self.batch
        if module is not None:
            request = replace(request, model=replace(request.model, module=module))
        if methods is not None:
            request = replace(request, methods=tuple(map(find_method, methods)), parameters={})
        if pictures is not None:
            original = tree.picture_tensor(batch.inputs)
            given = pictures.to(original)
            batch = replace(batch, inputs=tree.replace_tensor(batch.inputs, original, given))
        return self.explained(request, batch)

    def rivals(self) -> "Explanation":
        """For every target that is a class, the class of highest score that is none of the targets.

        Raises:
            InputError: a target is no class, or there are no others.
        """
        request = self.fixed
        answer = request.plain(self.batch)
        classes = request.target.columns(answer).classes
        if bool((classes < 0).any()) or answer.logits.shape[1] <= classes.shape[1]:
            raise InputError("the next best class is asked of targets that are classes, among others that are none.")
        others = answer.logits.detach().scatter(1, classes.to(answer.logits.device), -math.inf).argmax(1)
        rival = Chosen(others.unsqueeze(1).expand(-1, classes.shape[1]))
        return self.explained(replace(request, target=rival), self.batch)
