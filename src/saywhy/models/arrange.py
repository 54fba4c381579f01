"""From what a network takes to [batch, channel, *space]: which argument is the image, and which of its axes is what."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.axes import Axes
from saywhy.engine.first_layer import FirstLayer, find_axes, first_layer, remembered
from saywhy.errors import InputError, SaywhyWarning
from saywhy.models.axes import Input
from saywhy.models.model import Model
from saywhy.validation import short_repr

LARGEST = 20.0
"""The largest value of a normalised image; those of ImageNet's normalisation reach 2.64."""


def arranged(model: Model, arguments: Any) -> Any:
    """The inputs with their image as [batch, channel, *space].

    The axes are those that the model declares, or else those that its first layer takes as channels and space.

    Args:
        model: the model, with its declaration.
        arguments: one tensor, a tuple of positional or a dict of keyword arguments.

    Returns:
        The arguments themselves if they are one tensor [batch, channel, *space], else a
        :class:`~saywhy.engine.tree.ModelInputs`.

    Raises:
        InputError: there is no image among the arguments, or its axes are not declared and cannot be found.
    """
    image = _image_of(arguments, model.axes)
    declared = model.axes.axes_of(image)
    found, first, inner = _recognized(model.module, arguments, image) if _batched(declared) else (None, None, 1.0)
    axes = declared or found
    if axes is None:
        _refuse_ambiguous(type(model.module).__name__, tuple(image.shape), first)
    mixed = _mixed_axis(declared, found)
    _warn_of_pixels(model, image, axes, inner)
    position = next(i for i, t in enumerate(tree.tensors(arguments)) if t is image)
    if axes is None or (model.axes.axes is None and axes.ordinary):
        if isinstance(arguments, Tensor) or len(list(tree.tensors(arguments))) == 1:
            return arguments
        return with_size_guess(tree.ModelInputs(arguments, position))
    value = tree.replace_tensor(arguments, image, axes.to_maps(image))
    return with_size_guess(tree.ModelInputs(value, position, axes=axes, mixed=mixed))


def _batched(declared: Axes | None) -> bool:
    return declared is None or declared.names[0] == "b"


def _mixed_axis(declared: Axes | None, found: Axes | None) -> str | None:
    """The declared axis of space that the first layer takes as channels; None if there is none."""
    if declared is None or found is None or "c" not in found.names:
        return None
    name = declared.names[found.names.index("c")]
    return name if name != "c" else None


def is_one_image(module: nn.Module, tensor: Tensor) -> bool:
    """Whether a tensor of three axes is one image [channel, height, width], and no batch.

    The network tells: as a batch of one image it fits the first layer, as a batch of its own it does not. Where both
    fit (a linear layer on the last axis), it is a batch if the network runs on it.
    """
    return remembered(module, ("one image", tuple(tensor.shape)), lambda: _find_one_image(module, tensor))


def _find_one_image(module: nn.Module, tensor: Tensor) -> bool:
    image = tensor.unsqueeze(0)
    single, several = (first_layer(module, t, t) for t in (image, tensor))
    as_image = single is not None and single[0].fits
    as_batch = several is not None and several[0].fits
    if as_image != as_batch:
        return as_image
    if as_image and single is not None and not single[0].convolution:
        return False
    first = next((m for m in module.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)), None)
    if isinstance(first, nn.Conv1d):
        return False
    return len(tensor) in (1, 3) or (isinstance(first, nn.Conv2d) and len(tensor) == first.in_channels)


def _image_of(arguments: Any, declared: Input) -> Tensor:
    """The argument that is explained: the declared one, or the first floating-point tensor with the most axes."""
    if declared.argument is not None:
        found = argument_at(arguments, declared.argument)
        if not isinstance(found, Tensor) or not found.is_floating_point():
            raise InputError(f"argument={declared.argument!r} must be a floating-point tensor, got {_kind(found)}.")
        return found
    floats = [t for t in tree.tensors(arguments) if t.is_floating_point() and t.ndim >= 2]
    least = min(3, len(declared.names or "bcl"))
    image = max(floats, key=lambda t: t.ndim, default=None)
    if image is None or (image.ndim < least and not isinstance(arguments, Tensor)):
        raise InputError(
            "there is no image among the arguments: expected a floating-point tensor [batch, channel, height, width]. "
            "For inputs of other axes name them: axes=saywhy.Input('b l', argument='name')."
        )
    return image


def argument_at(arguments: Any, name: str | int) -> Any:
    """The argument of this name or position.

    Raises:
        InputError: there is none.
    """
    if isinstance(arguments, Mapping) and name in arguments:
        return arguments[name]
    if isinstance(arguments, tuple) and isinstance(name, int) and -len(arguments) <= name < len(arguments):
        return arguments[name]
    known = ", ".join(map(repr, arguments if isinstance(arguments, Mapping) else range(_count(arguments))))
    raise InputError(f"there is no argument {short_repr(name)}. The arguments are {known}.")


def _count(arguments: Any) -> int:
    return len(arguments) if isinstance(arguments, tuple) else 1


def _kind(found: Any) -> str:
    return str(found.dtype) if isinstance(found, Tensor) else type(found).__name__


def with_size_guess(inputs: tree.ModelInputs) -> tree.ModelInputs:
    """The inputs in which a tensor belongs to the samples if its first axis has the size of the batch."""
    size = tree.batch_size(inputs)
    shared = {i for i, t in enumerate(tree.tensors(inputs)) if not t.ndim or t.shape[0] != size}
    return replace(inputs, shared=frozenset(shared - {inputs.image}))


def _recognized(module: nn.Module, arguments: Any, image: Tensor) -> tuple[Axes | None, FirstLayer | None, float]:
    """The axes that the first layer shows, that layer, and by how much values grow before it."""
    shapes = tuple((tuple(t.shape[1:]), t.dtype) for t in tree.tensors(arguments))

    def find() -> tuple[Axes | None, FirstLayer | None, float]:
        sample, single = _first_sample(arguments, image)
        found = first_layer(module, sample, single)
        scale = float(single.detach().abs().max())
        if found is None or not found[0].fits:
            return None, None, 1.0
        inner = float(found[0].tensor.detach().abs().max()) / scale if scale else 1.0
        return find_axes(found), FirstLayer(torch.empty(0), *_facts(found[0])), inner

    return remembered(module, ("axes", shapes), find)


def _facts(first: FirstLayer) -> tuple[int, bool, bool]:
    """What is kept of a first layer, without its tensor."""
    return first.channel, first.fits, first.convolution


def _first_sample(arguments: Any, image: Tensor) -> tuple[Any, Tensor]:
    """The arguments for the first row of the image, and that row among them."""
    size = len(image)
    rows = {id(t): t[:1] if t.ndim and len(t) == size else t for t in tree.tensors(arguments)}
    return tree.map_tensors(arguments, lambda t: rows[id(t)]), rows[id(image)]


def _refuse_ambiguous(name: str, shape: tuple[int, ...], first: FirstLayer | None) -> None:
    """Raise an error for a shape that has several likely readings, of which the network shows none."""
    written = list(shape)
    if len(shape) < 3:
        raise InputError(
            f"a tensor must be [batch, channel, height, width], got {written}. If it is a waveform [batch, sample] and "
            "the network takes it so, say axes='b l'; a table without order has no map."
        )
    if len(shape) == 3 and first is not None:
        raise InputError(
            f"{name} does not show which axis of {written} is time and which holds the variables. Say it: "
            "axes='b t c' ([batch, time, variables]) or axes='b c t'; axes='b t f' gives maps over both."
        )
    likely_last = len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] > 4
    likely_frames = len(shape) == 5 and shape[2] in (1, 3) and shape[1] != 1
    if likely_last or likely_frames or len(shape) > 5:
        example = "b h w c" if likely_last else " ".join(["b", *["v", "t", "d"][-(len(shape) - 4) :], "c h w"])
        if likely_frames:
            example = "b t c h w"
        raise InputError(
            f"{name} does not show which axis of {written} holds the channels. Say it, for example axes='{example}' "
            "(b batch, c channel, h height, w width, d depth, t frame, v view)."
        )


def _warn_of_pixels(model: Model, image: Tensor, axes: Axes | None, inner: float) -> None:
    """Warn of pixels from 0 to 255 where the network takes normalised ones."""
    colours = image.shape[axes.names.index("c")] if axes is not None and "c" in axes.names else image.shape[1]
    if image.ndim < 4 or colours not in (1, 3):
        return
    low, high = (float(value) for value in torch.aminmax(image.detach()))
    if high <= LARGEST or high * inner <= LARGEST:
        return
    pixels = low >= 0 and high <= 255 and bool((image.detach() == image.detach().round()).all())
    if model.preprocess is None and not pixels:
        return
    expected = "the model's preprocessing gives values of about -3 to 3" if model.preprocess else "networks are trained"
    if not model.preprocess:
        expected = "most networks are trained on values of about -3 to 3 (or 0 to 1), and this one does not rescale"
    warnings.warn(
        f"the input has values from {low:g} to {high:g}, like pixels from 0 to 255; {expected}. Divide by 255 and "
        "normalise, or give an image (a path, PIL, numpy) to a model with preprocessing: saywhy.load(network, "
        "input_size=...).",
        SaywhyWarning,
        stacklevel=2,
    )
