"""Guesses of several networks, and of several views of an image."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.errors import InputError
from saywhy.models import Model
from saywhy.output import parse_output
from saywhy.uncertainty.mc_samples import MCSamples, as_mc_samples, asked_once, inside, length_of, loaded, output_of

Augmentation = Callable[[Tensor], Tensor]
"""From preprocessed images [batch, channel, *space] to others of the same shape."""


def ensemble(models: Sequence["str | nn.Module | Model"]) -> Model:
    """Several models as one, whose guesses are theirs (Lakshminarayanan et al., 2017): see :class:`Ensemble`.

    What else is known of the model (labels, preprocessing) is that of the first.

    Raises:
        InputError: there are none, or their labels differ.

    >>> members = [nn.Sequential(nn.Flatten(), nn.Linear(12, 2)) for _ in range(2)]
    >>> ensemble(members).module(torch.rand(3, 3, 2, 2)).sample_logits.shape
    torch.Size([2, 3, 2])
    """
    if isinstance(models, str | nn.Module | Model) or not isinstance(models, Sequence):
        raise InputError(f"an ensemble is of a list of models, got {type(models).__name__}.")
    members = [loaded(model) for model in models]
    if not members:
        raise InputError("an ensemble is of one model at least, got none.")
    answers: dict[str, set[Any]] = {
        "labels": {None if one.labels is None else tuple(one.labels) for one in members},
        "kinds of classes (multilabel)": {one.multilabel for one in members},
    }
    for what, found in answers.items():
        if len(found) > 1:
            names = ", ".join(one.name for one in members)
            raise InputError(f"the members of an ensemble answer the same question: the {what} of {names} differ.")
    first = members[0]
    module = Ensemble([one.module for one in members], [one.output for one in members], first.multilabel)
    return replace(first, module=module, name=f"ensemble of {len(members)}", output=None, layer=None)


class Ensemble(nn.Module):
    """Networks that are asked the same; the output is a :class:`saywhy.uncertainty.mc_samples.MCSamples`.

    Layers to be explained are those of a member: ``members.0.features``.

    Args:
        members: networks with the same classes, and the same preprocessing.
        outputs: where the class scores of each are; None where they are found.
        multilabel: whether every class is a yes or no of its own.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        outputs: Sequence[str | int | None] | None = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        self.members, self.multilabel = nn.ModuleList(members), multilabel
        self.outputs = [None] * len(members) if outputs is None else list(outputs)

    @property
    def passes_on_to(self) -> nn.Module:
        """The network that takes the inputs."""
        return self.members[0]

    def forward(self, *args: Any, **kwargs: Any) -> MCSamples:
        """The guesses of all members for a batch."""
        samples = tree.batch_size((args, kwargs))
        results = [asked_once(member(*args, **kwargs), member) for member in self.members]
        logits = [
            parse_output(result, length_of(result, samples), output).logits
            for result, output in zip(results, self.outputs, strict=True)
        ]
        if len({one.shape for one in logits}) > 1:
            raise InputError(f"members of an ensemble have the same classes, got {[one.shape[1] for one in logits]}.")
        extra = (_all_of(results, name) for name in ("variance", "attention"))
        return as_mc_samples(torch.stack(logits), self.multilabel, *extra)


def with_augmentations(model: "str | nn.Module | Model", augmentations: Sequence[Augmentation] | None = None) -> Model:
    """The same model, asked of several views of the image: see :class:`TestTimeAugmentation`."""
    model = loaded(model)
    module = TestTimeAugmentation(model.module, augmentations, model.output, model.multilabel)
    return replace(model, module=module, output=None, layer=inside(model.layer))


class TestTimeAugmentation(nn.Module):
    """A network that is asked of several views of an image that should not change its answer (Ayhan and Berens, 2018).

    Its output is a :class:`saywhy.uncertainty.mc_samples.MCSamples`.

    Args:
        network: whose first floating-point input with the axes of an image is altered.
        augmentations: functions of preprocessed images; None are :data:`AUGMENTATIONS`.
        output: where its class scores are, if they are not found.
        multilabel: whether every class is a yes or no of its own.

    >>> TestTimeAugmentation(nn.Sequential(nn.Flatten(), nn.Linear(27, 2)))(torch.rand(2, 3, 3, 3)).sample_logits.shape
    torch.Size([8, 2, 2])
    """

    __test__ = False  # by its name pytest would take it for a class of tests

    def __init__(
        self,
        network: nn.Module,
        augmentations: Sequence[Augmentation] | None = None,
        output: str | int | None = None,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.output, self.multilabel = network, output, multilabel
        if callable(augmentations):
            raise InputError("views is a list of functions of images, got one function: [function].")
        self.augmentations = list(AUGMENTATIONS if augmentations is None else augmentations)
        if not self.augmentations:
            raise InputError("views is empty. Give at least one function of images, or None for the usual ones.")

    @property
    def passes_on_to(self) -> nn.Module:
        """The network that takes the inputs."""
        return self.network

    def forward(self, *args: Any, **kwargs: Any) -> MCSamples:
        """The guesses of all views for a batch."""
        inputs = (args, kwargs)
        image, samples = tree.image_tensor(inputs), tree.batch_size(inputs)
        results = []
        for augmentation in self.augmentations:
            seen = augmentation(image.clone())  # which it may write into
            if seen.shape != image.shape:
                raise InputError(f"a view keeps the images' shape {list(image.shape)}, got {list(seen.shape)}.")
            altered_args, altered_kwargs = tree.replace_tensor(inputs, image, seen)
            results.append(asked_once(self.network(*altered_args, **altered_kwargs), self.network))
        logits = torch.stack([parse_output(result, samples, self.output).logits for result in results])
        return as_mc_samples(logits, self.multilabel, _all_of(results, "variance"))


def _all_of(results: Sequence[Any], name: str) -> list[Tensor]:
    """What all of some outputs have under a name; none where one of them has not."""
    found = [output_of(result, name) for result in results]
    return found if all(isinstance(one, Tensor) for one in found) else []


def _moved(down: float, across: float) -> Augmentation:
    """An image that is moved by a share of its sides; what comes in repeats its edge."""

    def augmentation(images: Tensor) -> Tensor:
        for axis, share in ((-2, down), (-1, across)):
            side = images.shape[axis]
            places = (torch.arange(side, device=images.device) - round(share * side)).clamp(0, side - 1)
            images = images.index_select(axis, places)
        return images

    return augmentation


def _stretched(factor: float) -> Augmentation:
    """An image of more or less contrast."""

    def augmentation(images: Tensor) -> Tensor:
        middle = images.mean(tuple(range(1, images.ndim)), keepdim=True)
        return middle + factor * (images - middle)

    return augmentation


AUGMENTATIONS: tuple[Augmentation, ...] = (
    lambda images: images,
    *(_moved(down, across) for down, across in ((0.04, 0.0), (-0.04, 0.0), (0.0, 0.04), (0.0, -0.04))),
    _stretched(0.85),
    _stretched(1.15),
    lambda images: images + 0.05 * images.std(tuple(range(1, images.ndim)), keepdim=True),
)
"""The image as it is, moved a little four ways, of less and of more contrast, and a little brighter.

It is not mirrored, as is usual, because writing and questions of left and right change with that.
"""
