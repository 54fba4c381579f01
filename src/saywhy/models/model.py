"""A model as saywhy holds it: a network, how images are fed to it, and what its answers are called."""

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from saywhy.engine import traverse
from saywhy.engine.preserve import content_version
from saywhy.errors import InputError
from saywhy.models.preprocess import MeasuredPreprocess, Preprocess
from saywhy.models.uncertainty_reference import UncertaintyReference

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


@dataclass
class Model:
    """A network with its preprocessing and labels.

    Attributes:
        module: the network, in evaluation mode when it was loaded by saywhy, as it was when it is the user's.
        name: what it is called, e.g. ``"torchvision:resnet50"``.
        preprocess: from an image to what is fed; None when only tensors can be explained.
        labels: names of the classes; None when they have none.
        multilabel: several classes can be right at once (sigmoid instead of softmax).
        output: where the class scores are in what the network returns; None finds them.
        feed: from a batch [batch, 3, height, width] to what the network is called with.
        texts: of networks that take words too: by the name of the argument, from texts to what the network takes,
            a tensor with the batch first.
        layer: where its maps are taken if nobody names a layer; None finds one.
        reference: how uncertain it is of the questions of a test set; None where that was never measured.
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

    def __post_init__(self) -> None:
        self.module = unwrapped(self.module)
        self.name = self.name or type(self.module).__name__
        self.labels = tuple(self.labels) if self.labels is not None else None

    @property
    def device(self) -> torch.device:
        """Where the network's first parameter lives."""
        first = next(self.module.parameters(), None)
        return first.device if first is not None else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the network's first floating-point parameter."""
        return next((p.dtype for p in self.module.parameters() if p.is_floating_point()), torch.float32)

    def prepare_inputs(self, image: Any, words: str) -> dict[str, Any]:
        """An image and words, by the names of the network's arguments.

        Raises:
            InputError: the network takes no words, or words under several names.
        """
        image_name, text_name = self.image_and_text_names()
        return {image_name: image, text_name: words}

    def image_and_text_names(self) -> tuple[str, str]:
        """What the network calls the image and the words.

        Raises:
            InputError: the network takes no words, or words under several names.
        """
        if len(self.texts) != 1:
            raise InputError(
                f"{self.name} takes no words beside an image. Give a model that does; one of your own says how its "
                "words are read under the name texts (saywhy.models.Model)."
            )
        (text_name,) = self.texts
        return next(name for name in takes(self.module) if name != text_name), text_name

    def unknown(self, words: str) -> tuple[str, ...]:
        """The words that the vocabulary does not have, as far as it says so (an ``unknown`` beside its reader)."""
        known = [getattr(getattr(read, "__self__", None), "unknown", None) for read in self.texts.values()]
        return tuple(word for unknown in known if unknown is not None for word in unknown(words))

    def version(self) -> int:
        """A number that changes when a weight or a buffer is written to or replaced; it costs nearly nothing.

        What a network writes to its buffers while saywhy runs it does not count, because it is undone.
        """
        tensors = list(traverse.tensors(self.module))
        return hash((*map(id, tensors), *map(content_version, tensors)))

    def digest(self) -> str:
        """SHA-256 over all weights and buffers, by name: 0.1 s for a ResNet-50.

        It is not remembered, because no tensor tells for certain that it has changed (``.data`` and numpy write past
        its version counter).
        """
        total = hashlib.sha256()
        for name, tensor in self.module.state_dict().items():
            if isinstance(tensor, torch.Tensor):
                total.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
                total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return total.hexdigest()


def takes(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    """What a network is called with; of one that passes it all on (``wrapped_module``), what that other one is.

    >>> list(takes(nn.Linear(1, 1)))
    ['input']
    """
    while isinstance(inner := getattr(module, "wrapped_module", None), nn.Module):
        module = inner
    return inspect.signature(module.forward).parameters


def unwrapped(module: nn.Module) -> nn.Module:
    """The network inside ``torch.compile``, ``DataParallel`` or ``DistributedDataParallel``: its layers can be watched.

    >>> type(unwrapped(nn.DataParallel(nn.Linear(1, 1)))).__name__
    'Linear'
    """
    while True:
        inner = module.module if isinstance(module, _PARALLEL) else getattr(module, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def labels_of(module: nn.Module) -> Sequence[str] | None:
    """The labels that a bare module of transformers carries in its configuration, if they are more than numbers.

    >>> labels_of(nn.Linear(1, 1)) is None
    True
    """
    names = getattr(getattr(module, "config", None), "id2label", None)
    if not isinstance(names, dict) or not names:
        return None
    return tuple(str(names[i]) for i in sorted(names))
