"""Ensembles of networks, and test-time augmentation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.errors import InputError
from saywhy.models import Model
from saywhy.output import OutputScale
from saywhy.uncertainty.mc_samples import (
    MCSamples,
    as_logits,
    as_mc_samples,
    as_model,
    output_batch_size,
    output_of,
    single_output,
    single_scores,
    wrapped_layer,
)

Augmentation = Callable[[Tensor], Tensor]
"""A function from preprocessed images [batch, channel, *space] to images of the same shape."""


def ensemble(models: Sequence["str | nn.Module | Model"]) -> Model:
    """Return an ensemble of models (deep ensemble; Lakshminarayanan et al., 2017): see :class:`Ensemble`.

    Labels and preprocessing are those of the first model.

    Raises:
        InputError: there are no models, or their labels differ.

    >>> members = [nn.Sequential(nn.Flatten(), nn.Linear(12, 2)) for _ in range(2)]
    >>> ensemble(members).module(torch.rand(3, 3, 2, 2)).sample_logits.shape
    torch.Size([2, 3, 2])
    """
    if isinstance(models, str | nn.Module | Model) or not isinstance(models, Sequence):
        raise InputError(f"an ensemble needs a list of models, got {type(models).__name__}.")
    members = [as_model(model) for model in models]
    if not members:
        raise InputError("an ensemble needs one model at least, got none.")
    properties: dict[str, set[Any]] = {
        "labels": {None if one.labels is None else tuple(one.labels) for one in members},
        "kinds of classes (multilabel)": {one.multilabel for one in members},
    }
    for what, values in properties.items():
        if len(values) > 1:
            names = ", ".join(one.name for one in members)
            raise InputError(
                f"the members of an ensemble must have the same classes: the {what} of {names} differ. Use models of "
                "one task."
            )
    first = members[0]
    module = Ensemble(
        [one.module for one in members],
        [one.output for one in members],
        first.multilabel,
        [one.scale for one in members],
    )
    return replace(first, module=module, name=f"ensemble of {len(members)}", output=None, layer=None, scale=None)


class Ensemble(nn.Module):
    """An ensemble of networks; the output is a :class:`saywhy.uncertainty.mc_samples.MCSamples`.

    The layers for explanations are those of a member: ``members.0.features``.

    Args:
        members: networks with the same classes and the same preprocessing.
        outputs: the key or index of the class scores in each output; None where they are found automatically.
        multilabel: whether the classes are independent (sigmoid instead of softmax).
        scales: what the class scores of each member are (:attr:`saywhy.models.Model.scale`); None finds it.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        outputs: Sequence[str | int | None] | None = None,
        multilabel: bool = False,
        scales: Sequence[OutputScale | None] | None = None,
    ) -> None:
        super().__init__()
        self.members, self.multilabel = nn.ModuleList(members), multilabel
        self.scales = [None] * len(members) if scales is None else list(scales)
        self.outputs = [None] * len(members) if outputs is None else list(outputs)

    @property
    def wrapped_module(self) -> nn.Module:
        """The first member, which takes the inputs."""
        return self.members[0]

    def forward(self, *args: Any, **kwargs: Any) -> MCSamples:
        """Return the predictions of all members for a batch."""
        samples = tree.batch_size((args, kwargs))
        results = [single_output(member(*args, **kwargs), member) for member in self.members]
        logits = [
            as_logits(single_scores(result, output_batch_size(result, samples), output, member), self.multilabel, scale)
            for result, output, member, scale in zip(results, self.outputs, self.members, self.scales, strict=True)
        ]
        if len({one.shape for one in logits}) > 1:
            raise InputError(
                f"members of an ensemble must have the same classes, got {[one.shape[1] for one in logits]}."
            )
        extra = (_outputs_of_all(results, name) for name in ("variance", "attention"))
        variances, attention = extra
        return as_mc_samples(torch.stack(logits), self.multilabel, variances, attention, scale="logit")


def with_augmentations(model: "str | nn.Module | Model", augmentations: Sequence[Augmentation] | None = None) -> Model:
    """Return the model with test-time augmentation: see :class:`TestTimeAugmentation`."""
    model = as_model(model)
    module = TestTimeAugmentation(model.module, augmentations, model.output, model.multilabel, model.scale)
    return replace(model, module=module, output=None, layer=wrapped_layer(model.layer), scale=None)


class TestTimeAugmentation(nn.Module):
    """Test-time augmentation (Ayhan and Berens, 2018): predictions for label-preserving augmentations of an image.

    Its output is a :class:`saywhy.uncertainty.mc_samples.MCSamples`.

    Args:
        network: a network; its first floating-point input with the axes of an image is augmented.
        augmentations: functions of preprocessed images; None takes :data:`AUGMENTATIONS`.
        output: the key or index of the class scores in the network's output, if they are not found automatically.
        multilabel: whether the classes are independent (sigmoid instead of softmax).
        scale: what the class scores are (:attr:`saywhy.models.Model.scale`); None finds it.

    >>> TestTimeAugmentation(nn.Sequential(nn.Flatten(), nn.Linear(27, 2)))(torch.rand(2, 3, 3, 3)).sample_logits.shape
    torch.Size([8, 2, 2])
    """

    __test__ = False  # pytest would collect it because of its name

    def __init__(
        self,
        network: nn.Module,
        augmentations: Sequence[Augmentation] | None = None,
        output: str | int | None = None,
        multilabel: bool = False,
        scale: OutputScale | None = None,
    ) -> None:
        super().__init__()
        self.network, self.output, self.multilabel, self.scale = network, output, multilabel, scale
        if callable(augmentations):
            raise InputError("augmentations must be a list of functions of images, got one function. Use [function].")
        self.augmentations = list(AUGMENTATIONS if augmentations is None else augmentations)
        if not self.augmentations:
            raise InputError("augmentations is empty. Give at least one function of images, or None for the defaults.")

    @property
    def wrapped_module(self) -> nn.Module:
        """The wrapped network, which takes the inputs."""
        return self.network

    def forward(self, *args: Any, **kwargs: Any) -> MCSamples:
        """Return the predictions for all augmentations of a batch."""
        inputs = (args, kwargs)
        image, samples = tree.image_tensor(inputs), tree.batch_size(inputs)
        results = []
        for augmentation in self.augmentations:
            augmented = augmentation(image.clone())  # which it may write into
            if augmented.shape != image.shape:
                raise InputError(
                    f"an augmentation keeps the images' shape {list(image.shape)}, got {list(augmented.shape)}."
                )
            altered_args, altered_kwargs = tree.replace_tensor(inputs, image, augmented)
            results.append(single_output(self.network(*altered_args, **altered_kwargs), self.network))
        scores = torch.stack([single_scores(result, samples, self.output, self.network) for result in results])
        return as_mc_samples(scores, self.multilabel, _outputs_of_all(results, "variance"), scale=self.scale)


def _outputs_of_all(results: Sequence[Any], name: str) -> list[Tensor]:
    """Return the tensors that all outputs have under a name; an empty list if one has none."""
    found = [output_of(result, name) for result in results]
    return found if all(isinstance(one, Tensor) for one in found) else []


def _shift(down: float, across: float) -> Augmentation:
    """Return a translation by a fraction of the image's sides; edge pixels are repeated."""

    def augmentation(images: Tensor) -> Tensor:
        for axis, share in ((-2, down), (-1, across)):
            side = images.shape[axis]
            places = (torch.arange(side, device=images.device) - round(share * side)).clamp(0, side - 1)
            images = images.index_select(axis, places)
        return images

    return augmentation


def _contrast(factor: float) -> Augmentation:
    """Return a change of contrast by a factor."""

    def augmentation(images: Tensor) -> Tensor:
        middle = images.mean(tuple(range(1, images.ndim)), keepdim=True)
        return middle + factor * (images - middle)

    return augmentation


AUGMENTATIONS: tuple[Augmentation, ...] = (
    lambda images: images,
    *(_shift(down, across) for down, across in ((0.04, 0.0), (-0.04, 0.0), (0.0, 0.04), (0.0, -0.04))),
    _contrast(0.85),
    _contrast(1.15),
    lambda images: images + 0.05 * images.std(tuple(range(1, images.ndim)), keepdim=True),
)
"""The default augmentations: the image itself, four small translations, less and more contrast, and more brightness.

Horizontal flips are usual but not included, because they change text, and answers about left and right.
"""
