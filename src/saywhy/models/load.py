"""``load``: a model by its name, from a file, or from a network."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.errors import InputError, ModelError, WeightsError, nearest
from saywhy.models.axes import Input, as_input
from saywhy.models.bare import bare, transforms_of
from saywhy.models.head import last_layer
from saywhy.models.label_files import read_labels
from saywhy.models.model import Model
from saywhy.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess, as_preprocess
from saywhy.models.registry import SOURCES
from saywhy.models.weights import load_weights
from saywhy.output import OutputScale
from saywhy.validation import PositiveFloat, file_path, short_repr, sizes_of_axes, validate, validated

_WEIGHTS_FILES = frozenset({".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".onnx"})


@validated()
def load(
    model: "str | os.PathLike[str] | nn.Module | Model",
    weights: str | os.PathLike[str] | None = None,
    *,
    labels: "Sequence[str] | os.PathLike[str] | None" = None,
    input_size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preprocess: Callable[..., Any] | None = None,
    multilabel: bool | None = None,
    output: str | int | None = None,
    scale: OutputScale | None = None,
    texts: Mapping[str, Callable[[Sequence[str]], Tensor]] | None = None,
    axes: str | Input | None = None,
    device: str | int | torch.device | None = None,
) -> Model:
    """Load a model that can be explained.

    Args:
        model: ``"torchvision:resnet50"``, ``"timm:vit_small_patch16_224"``, ``"hf:google/vit-base-patch16-224"`` (or a
            folder with a saved model), ``"toybox:classifier"``, ``"path/to/file.py:function"`` (a function of yours
            that returns a network), or a network itself.
        weights: None takes the library's pretrained ones (downloaded once); ``"random"`` takes none; else a safetensors
            file or a state dict that torch saved, read with ``weights_only=True``. A classifier of torchvision or timm
            gets a head for the number of classes in the file.
        labels: names of the classes, in place of the model's own; or the ``Path`` of a file with them, one a line, or
            JSON (:func:`saywhy.models.label_files.read_labels`).
        input_size: images are resized and cropped to this, one side or (height, width).
        mean: of each channel, in place of the model's own, in units of 0 to 1.
        std: of each channel, likewise.
        preprocess: a function from a PIL image to a tensor [3, height, width], or torchvision's enum of weights
            (``ResNet18_Weights.DEFAULT``), in place of all of the above. A bare network brings its own where it is of
            timm, or of transformers and saved with its image processor (:func:`saywhy.models.bare.bare`).
        multilabel: several classes can be right at once.
        output: where the class scores are in what the network returns, e.g. ``"logits"`` or 0.
        scale: what these scores are: ``"logit"``, ``"probability"`` (the network ends in a softmax or sigmoid),
            ``"log-probability"``, or ``"value"`` (a regression). None finds it from the autograd graph; one number
            without labels is a value, unless ``multilabel`` or labels say that it is the logit of a yes or no.
        texts: for a network that takes text too: by the name of the argument, a function from texts to its tensor,
            e.g. ``{"question": vocabulary.batch}`` (:class:`saywhy.tasks.vocabulary.Vocabulary`).
        axes: the axes of the network's input, e.g. ``"b t c h w"``, or a :class:`saywhy.Input`; None finds them.
        device: the network is moved there, e.g. ``"cuda"``; None leaves it where it is, a named model on torch's
            default device. Inputs follow the network.

    Raises:
        ModelError: there is no such model or library.
        WeightsError: the weights cannot be downloaded or read, or do not fit.
        InputError: a parameter has a wrong type or value.

    >>> load(nn.Linear(3, 2), labels=["no", "yes"]).labels
    ('no', 'yes')
    """
    if weights is not None:
        file_path("weights", weights, WeightsError)
        weights = os.fspath(weights)
    found = _find(model, weights)
    if weights is not None:
        found.given = {**found.given, "weights": str(weights)}
    if preprocess is not None:
        found.preprocess = as_preprocess(transforms_of(preprocess))
    elif input_size is not None or mean is not None or std is not None:
        found.preprocess = _with_overrides(found.preprocess, input_size, mean, std)
    if labels is not None:
        found.given = {**found.given, "labels": os.fspath(labels) if isinstance(labels, os.PathLike) else "FILE"}
        if isinstance(labels, os.PathLike):
            labels = read_labels(labels)
        if isinstance(labels, str) and "\n" not in labels and Path(labels).suffix:
            raise InputError(f"labels must be a list of names, or the Path of a file: labels=Path('{labels}').")
        if isinstance(labels, str) or not isinstance(labels, Iterable) or getattr(labels, "ndim", 1) != 1:
            raise InputError(f"labels must be a list of names, got {short_repr(labels)}.")
        found.labels = tuple(map(str, labels))
        _check_number_of_labels(found, weights)
    if multilabel is not None:
        found.multilabel = validate("multilabel", multilabel, bool)
    found.output = found.output if output is None else output
    found.scale = found.scale if scale is None else validate("scale", scale, OutputScale)
    if texts is not None:
        if not isinstance(texts, Mapping) or not all(callable(read) for read in texts.values()):
            raise InputError(f"texts must be functions by the names of arguments, got {short_repr(texts)}.")
        found.texts = texts
    if axes is not None:
        found.axes = as_input(axes)
    return found if device is None else found.to(device)


def _find(model: Any, weights: Any) -> Model:
    if isinstance(model, nn.Module):
        model = bare(model)
    if isinstance(model, Model):
        if weights not in (None, "random"):
            load_weights(model.module, weights)
        return replace(model)
    if not isinstance(model, str | os.PathLike):
        raise ModelError(
            f"a model must be a string such as 'torchvision:resnet50', or an nn.Module, got {type(model).__name__}."
        )
    source, _, name = os.fspath(model).partition(":")
    path, _, function = os.fspath(model).rpartition(":")
    if path.endswith(".py") or os.fspath(model).endswith(".py"):
        from saywhy.models.file import load_file

        return load_file(path or function, function if path else "", weights)
    found = SOURCES.lookup(source) if name else None
    if found is None:
        raise ModelError(
            f"no model '{os.fspath(model)}': it must begin with {', '.join(f'{s}:' for s in SOURCES)} "
            f"or be path/to/file.py:function.{_hint(os.fspath(model), source, name)}"
        )
    return found.function(name, weights)


def _check_number_of_labels(model: Model, weights: Any) -> None:
    """Check that a head built from a file has a name for each of its classes."""
    if weights in (None, "random") or not model.name.startswith(("torchvision:", "timm:")):
        return
    last = last_layer(model.module)
    if last is not None and model.labels is not None and len(model.labels) != last.weight.shape[0]:
        raise InputError(
            f"the network in '{weights}' has {last.weight.shape[0]} classes, and {len(model.labels)} labels were "
            "given. Give one label a class, in the order of training."
        )


def _hint(model: str, source: str, name: str) -> str:
    """A suggestion for a model name without a known source."""
    if Path(model).suffix in _WEIGHTS_FILES:
        return " This is a weights file: give the name of its network as the model, and the file as weights=."
    likely = nearest(source, SOURCES, count=1)
    if likely:
        return f" Nearest: '{likely[0]}:{name or 'NAME'}'."
    return f" Perhaps 'torchvision:{model}'?" if model and not name else ""


def _with_overrides(
    old: Any,
    input_size: int | tuple[int, int] | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Preprocess:
    """The model's preprocessing with another size or normalisation."""
    base = old if isinstance(old, Preprocess) else Preprocess(resize=None, crop=None)
    if input_size is not None:
        sides = sizes_of_axes(input_size, 2)
        if sides is None:
            raise InputError(f"input_size must be one side or (height, width) in pixels, got {short_repr(input_size)}.")
        height, width = sides
        resize = height if height == width else (height, width)
        base = replace(base, resize=resize, crop=(height, width), largest=None)
    return replace(
        base,
        mean=_three("mean", mean, float, IMAGENET_MEAN) if mean is not None else base.mean,
        std=_three("std", std, PositiveFloat, IMAGENET_STD) if std is not None else base.std,
    )


def _three(name: str, given: Sequence[float], kind: Any, example: tuple[float, ...]) -> Any:
    """Return three numbers, one a channel."""
    try:
        values = tuple(validate(name, given, Sequence[kind]))
    except InputError:
        values = ()
    if len(values) != 3:
        limit = "" if kind is float else " above 0"
        raise InputError(
            f"{name} must be three numbers{limit}, one a channel, e.g. {example}, got {short_repr(given)}."
        )
    return values
