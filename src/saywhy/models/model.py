"""``Model``: a network with its preprocessing, labels and text inputs."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import nn

from saywhy.engine import traverse
from saywhy.engine.exclusive import exclusive
from saywhy.engine.preserve import content_version
from saywhy.errors import InputError
from saywhy.models.axes import Input
from saywhy.models.device import move
from saywhy.models.digest import digest_of
from saywhy.models.domain import ImageDomain
from saywhy.models.preprocess import MeasuredPreprocess, Preprocess
from saywhy.models.uncertainty_reference import UncertaintyReference
from saywhy.output import OutputScale
from saywhy.validation import validate

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


@dataclass
class Model:
    """A network with its preprocessing and labels.

    Attributes:
        module: the network; in evaluation mode if saywhy loaded it, else in the user's mode.
        name: its name, e.g. ``"torchvision:resnet50"``.
        preprocess: maps an image to the input tensor; None if only tensors can be explained.
        labels: names of the classes; None if there are none.
        multilabel: several classes can be right at once (sigmoid instead of softmax).
        output: where the class scores are in what the network returns; None finds them.
        feed: maps a batch [batch, 3, height, width] to the network's inputs.
        texts: for networks that take text too: by the name of the argument, a function from texts to a tensor with the
            batch first.
        layer: the default layer of its maps; None finds one.
        axes: the axes of the network's input, and the arguments that belong to all samples; what is not declared is
            found.
        reference: uncertainties of the questions of a test set; None if they were not measured.
        scale: what the class scores are: ``"logit"``, ``"probability"`` (the network ends in a softmax or sigmoid),
            ``"log-probability"``, or ``"value"`` (a regression); None finds it from the autograd graph.
        given: by option, what was given: the files ``weights`` and ``labels`` ("FILE" for a list), and on the command
            line the settings of the maps, several values on a line each.
        domain: the kind of images it was trained on, for a demo model that knows only some; None is any kind.
    """

    module: nn.Module
    name: str = ""
    preprocess: Preprocess | MeasuredPreprocess | None = None
    labels: tuple[str, ...] | None = None
    multilabel: bool = False
    output: str | int | None = None
    feed: Callable[[torch.Tensor], Any] | None = None
    texts: Mapping[str, Callable[[Sequence[str]], torch.Tensor]] = field(default_factory=dict)
    layer: str | None = None
    reference: UncertaintyReference | None = None
    scale: OutputScale | None = None
    axes: Input = field(default_factory=Input)
    domain: ImageDomain | None = None
    given: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.module = unwrapped(self.module)
        self.name = self.name or type(self.module).__name__
        self.labels = tuple(self.labels) if self.labels is not None else None
        if self.scale is not None:
            validate("scale", self.scale, OutputScale)

    def __repr__(self) -> str:
        """The name, kind and size of the network, in one line.

        >>> Model(nn.Linear(3, 2), "mine", labels=("no", "yes"))
        Model mine: Linear, 8 weights, 2 labels, no preprocessing, cpu
        """
        count = sum(one.numel() for one in self.module.parameters())
        size = f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
        labels = f"{len(self.labels)} labels" if self.labels else "no labels"
        fed = "" if self.preprocess is not None else ", no preprocessing"
        return f"Model {self.name}: {type(self.module).__name__}, {size} weights, {labels}{fed}, {self.device}"

    @property
    def device(self) -> torch.device:
        """The device of the network's first parameter."""
        first = next(self.module.parameters(), None)
        return first.device if first is not None else torch.device("cpu")

    def to(self, device: str | int | torch.device) -> Self:
        """Move the network to a device, in place, as ``nn.Module.to`` does; return the model.

        Raises:
            InputError: there is no such device here.

        >>> Model(nn.Linear(3, 2), "mine").to("cpu").device
        device(type='cpu')
        """
        move(self.module, device)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the network's first floating-point parameter."""
        return next((p.dtype for p in self.module.parameters() if p.is_floating_point()), torch.float32)

    def prepare_inputs(self, image: Any, words: str) -> dict[str, Any]:
        """The keyword arguments of the network for an image and a text.

        Raises:
            InputError: the network takes no text, or several texts.
        """
        image_name, text_name = self.image_and_text_names()
        return {image_name: image, text_name: words}

    def image_and_text_names(self) -> tuple[str, str]:
        """The names of the network's image and text arguments.

        Raises:
            InputError: the network takes no text, or several texts.
        """
        if len(self.texts) != 1:
            raise InputError(
                f"{self.name} takes no words beside an image. Give a model that does; for your own network set "
                "texts (saywhy.models.Model), which encodes its words."
            )
        (text_name,) = self.texts
        return next(name for name in takes(self.module) if name != text_name), text_name

    def unknown(self, words: str) -> tuple[str, ...]:
        """The words that are not in the vocabulary, if the encoder's object has a method ``unknown``."""
        known = [getattr(getattr(read, "__self__", None), "unknown", None) for read in self.texts.values()]
        return tuple(word for unknown in known if unknown is not None for word in unknown(words))

    def version(self) -> int:
        """A number that changes when a weight or a buffer is written to or replaced; it is cheap.

        Writes to buffers while saywhy runs the network do not count, because they are undone.
        """
        with exclusive(self.module):
            tensors = list(traverse.tensors(self.module))
            return hash((*map(id, tensors), *map(content_version, tensors)))

    def digest(self) -> str:
        """SHA-256 over all weights and buffers, by name: 0.1 s for a ResNet-50.

        It is not cached, because a tensor's version counter may miss changes (writes through ``.data`` and numpy).
        """
        return digest_of(self.module)


def takes(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    """The parameters of a network's forward; those of the inner network if it has one (``wrapped_module``).

    >>> list(takes(nn.Linear(1, 1)))
    ['input']
    """
    while isinstance(inner := getattr(module, "wrapped_module", None), nn.Module):
        module = inner
    return inspect.signature(module.forward).parameters


def unwrapped(module: nn.Module) -> nn.Module:
    """The network inside ``torch.compile``, ``DataParallel`` or ``DistributedDataParallel``, whose layers take hooks.

    >>> type(unwrapped(nn.DataParallel(nn.Linear(1, 1)))).__name__
    'Linear'
    """
    while True:
        inner = module.module if isinstance(module, _PARALLEL) else getattr(module, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def labels_of(module: nn.Module) -> Sequence[str] | None:
    """The labels in the configuration of a transformers module; None if it has none.

    >>> labels_of(nn.Linear(1, 1)) is None
    True
    """
    names = getattr(getattr(module, "config", None), "id2label", None)
    if not isinstance(names, dict) or not names:
        return None
    return tuple(str(names[i]) for i in sorted(names))
