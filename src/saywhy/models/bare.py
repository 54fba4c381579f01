"""Preprocessing and labels that a bare network carries with it, or the line that gives them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from saywhy.errors import SaywhyError
from saywhy.models.head import last_layer
from saywhy.models.model import Model, labels_of
from saywhy.models.preprocess import MeasuredPreprocess, as_preprocess


def bare(module: nn.Module) -> Model:
    """Return a model of a network, with the preprocessing that it carries.

    Looked for are the configuration of timm, the image processor of transformers that was saved beside the network (no
    download), and torchvision's enum of weights as an attribute ``weights``. A function that is stored on the network
    is not taken: ``forward`` may call it, and the image would be preprocessed twice.

    >>> bare(nn.Linear(3, 2)).preprocess is None
    True
    """
    labels = labels_of(module)
    model = Model(module, labels=tuple(labels) if labels else None)
    library = type(model.module).__module__.partition(".")[0]
    for found in (_of_weights, *({"timm": (_of_timm,), "transformers": (_of_transformers,)}.get(library, ()))):
        with_more = found(model)
        if with_more is not None:
            return with_more
    return model


def advice(model: Model) -> str:
    """Return the line that gives a bare network its preprocessing."""
    name = torchvision_name(model.module)
    if name:
        preset = f"torchvision.models.get_model_weights('{name}').DEFAULT"
        return (
            f"It is built as torchvision's {name}, whose weights are not kept in the network. If it was trained with "
            f"torchvision's preprocessing: model = saywhy.load(network, preprocess={preset})"
        )
    return (
        "Add one line: model = saywhy.load(network, input_size=224) for ImageNet's mean and std (or mean=, std=), or "
        "model = saywhy.load(network, preprocess=function) with the function from a PIL image to a tensor that you "
        "validated with"
    )


def torchvision_name(module: nn.Module) -> str:
    """Return the name by which torchvision builds such a network, whatever the size of its head; empty if none does.

    >>> from torchvision.models import mobilenet_v3_small
    >>> torchvision_name(mobilenet_v3_small(num_classes=2)), torchvision_name(nn.Linear(1, 1))
    ('mobilenet_v3_small', '')
    """
    if not type(module).__module__.startswith("torchvision.models."):
        return ""
    from torchvision import models

    own = {name: tensor.shape[1:] for name, tensor in module.state_dict().items()}
    for name in models.list_models(module=models):
        if models.get_model_builder(name).__module__ != type(module).__module__:
            continue
        with torch.device("meta"):
            other = models.get_model(name).state_dict()
        if {key: tensor.shape[1:] for key, tensor in other.items()} == own:
            return str(name)
    return ""


def is_weights_enum(value: Any) -> bool:
    """Return whether a value is a member of a torchvision enum of weights: it has ``transforms`` and ``meta``.

    >>> from torchvision.models import ResNet18_Weights
    >>> is_weights_enum(ResNet18_Weights.DEFAULT), is_weights_enum(len)
    (True, False)
    """
    return callable(getattr(value, "transforms", None)) and isinstance(getattr(value, "meta", None), dict)


def transforms_of(given: Any) -> Any:
    """Return the transforms of torchvision's enum of weights; anything else as it is."""
    return given.transforms() if is_weights_enum(given) else given


def _of_weights(model: Model) -> Model | None:
    """Return the model with torchvision's preprocessing, if the user stored the enum of weights on the network."""
    value: Any = getattr(model.module, "weights", None)
    if not is_weights_enum(value):
        return None
    return replace(model, preprocess=as_preprocess(value.transforms()), labels=model.labels or _names(model, value))


def _names(model: Model, enum: Any) -> tuple[str, ...] | None:
    """Return the labels of an enum of weights, if the network has a score for each."""
    last, names = last_layer(model.module), enum.meta.get("categories")
    return tuple(names) if names and last is not None and len(names) == last.weight.shape[0] else None


def _of_timm(model: Model) -> Model | None:
    if not isinstance(getattr(model.module, "pretrained_cfg", None), dict):
        return None
    from saywhy.models.timm import labels_of_timm, preprocess_of_timm

    labels = model.labels or labels_of_timm(model.module)
    return replace(model, preprocess=preprocess_of_timm(model.module), labels=labels)


def _of_transformers(model: Model) -> Model | None:
    where = getattr(getattr(model.module, "config", None), "_name_or_path", "")
    if not where:
        return None
    from saywhy.models.transformers import processor_of

    try:
        preprocess: MeasuredPreprocess | None = processor_of(where, where, local=True)
    except SaywhyError:
        return None
    feed: Callable[[torch.Tensor], Any] = lambda images: {"pixel_values": images}  # noqa: E731
    return replace(model, preprocess=preprocess, feed=feed, output="logits")
