"""Batches: from the user's images, tensors or arguments to the inputs of the network."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from saywhy.engine import tree
from saywhy.engine.axes import Axes
from saywhy.engine.first_layer import remembered
from saywhy.engine.memory import out_of_memory
from saywhy.engine.preserve import preserve_state
from saywhy.errors import InputError, nearest
from saywhy.images import SourceImage, image_from_tensor, read_image
from saywhy.models.arrange import arranged, is_one_image
from saywhy.models.axes import WORDS
from saywhy.models.bare import advice
from saywhy.models.model import Model, takes
from saywhy.models.weights import check_usable
from saywhy.output import parse_output
from saywhy.validation import plain_tensor


@dataclass(frozen=True)
class Batch:
    """Inputs of one call of the network.

    Attributes:
        inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments.
        images: a function that makes the original images, called when they are needed.
        classes: the texts, where they may be the classes of all samples, as for CLIP; else ().
    """

    inputs: Any
    images: Callable[[], tuple[SourceImage, ...]]
    classes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The number of samples."""
        return tree.batch_size(self.inputs)

    def of_samples(self, some: slice) -> "Batch":
        """A batch of some of the samples."""
        index = torch.arange(self.size, device=tree.image_tensor(self.inputs).device)[some]
        return replace(self, inputs=tree.select(self.inputs, index), images=lambda: self.images()[some])

    def with_texts(self, model: Model, texts: Sequence[str]) -> "Batch":
        """A batch of the first image with each of several texts, one sample a text. The image is not read again.

        Raises:
            InputError: the model takes no text, or all words of a text are unknown.
        """
        image_name, text_name = model.image_and_text_names()
        image = tree.image_tensor(self.inputs)[:1]
        index = torch.zeros(len(texts), dtype=torch.long, device=image.device)
        words = model.texts[text_name](list(texts)).to(model.device)

        def images() -> tuple[SourceImage, ...]:
            original = self.images()[0]
            name = original.name.partition(SEPARATOR)[0]
            return tuple(replace(original, name=f"{name}{SEPARATOR}{text}") for text in texts)

        return Batch({image_name: image[index], text_name: words}, images)

    @property
    def space(self) -> tuple[int, ...]:
        """(height, width) of the network's image in pixels."""
        return tuple(tree.image_tensor(self.inputs).shape[2:])


SEPARATOR = " · "
"""Separates the name of an image from its text."""


def as_batch(model: Model, given: Any) -> Batch:
    """Make a batch from inputs of any kind: images are preprocessed by the model, tensors are taken as preprocessed.

    Args:
        model: the model, with its preprocessing.
        given: a path, PIL image or numpy array, or a list of them; a tensor [3, height, width] or
            [batch, 3, height, width]; a tuple of positional or a dict of keyword arguments that hold tensors; or a
            batch, which is returned as it is.

    Raises:
        InputError: the input is of another kind, is empty or holds NaN, or the model has no preprocessing for images.
        ImageError: an image cannot be read.
        ModelError, GradientError: the network's weights have no values yet, or allow no gradient.
    """
    check_usable(model.module)
    if isinstance(given, Batch):
        return given
    for tensor in tree.tensors(given):
        plain_tensor("the input", tensor)
    if _is_image(given):
        return _of_images(model, [given])
    if isinstance(given, list | tuple) and given and all(_is_image(part) for part in given):
        return _of_images(model, given)
    if isinstance(given, list | tuple | Mapping) and not given:
        raise InputError("there is nothing to explain: the list of images is empty.")
    if isinstance(given, list) and all(isinstance(part, Tensor) for part in given):
        given = _stack(given)
    if isinstance(given, Tensor):
        return _of_tensor(model, given)
    if isinstance(given, tuple | Mapping) or hasattr(given, "keys"):
        return _of_arguments(model, given)
    raise InputError(
        "expected a path, a PIL image, a numpy array, a tensor [batch, 3, height, width], a list of these, "
        f"a tuple of arguments or a dict of keyword arguments; got {_kind(given)}."
    )


def check_words(model: Model, given: Any) -> None:
    """Check that a model of images and texts is given both.

    Raises:
        InputError: a text is missing; the message says under which name.
    """
    if not model.texts or not (_is_image(given) or isinstance(given, Mapping | list | Tensor)):
        return
    names_given = list(given) if isinstance(given, Mapping) else ["an image"]
    missing = [name for name in model.texts if name not in names_given]
    if missing:
        names = list(takes(model.module))
        example = ", ".join(f"{name!r}: {'words' if name in model.texts else 'image'}" for name in names)
        raise InputError(
            f"{model.name} takes words under the name {missing[0]!r} beside an image; got "
            f"{', '.join(map(str, names_given))}. Give {{{example}}}, or use `saywhy ask` or `saywhy caption`."
        )


@contextlib.contextmanager
def translated(model: Model, batch: Batch) -> Iterator[None]:
    """Turn an error that the model raises into one that names the shapes of its inputs."""
    try:
        yield
    except tree.CallFailed as failed:
        if out_of_memory(failed):
            raise
        error = failed.__cause__
        shapes = ", ".join(f"{t.dtype} {list(t.shape)}".removeprefix("torch.") for t in tree.tensors(batch.inputs))
        raise InputError(
            f"{model.name} does not take this input ({shapes}): {type(error).__name__}: {error}"
        ) from error


def _kind(given: Any) -> str:
    if not isinstance(given, list):
        return type(given).__name__
    return f"a list of {', '.join(dict.fromkeys(type(part).__name__ for part in given))}"


def _is_image(given: Any) -> bool:
    return isinstance(given, str | os.PathLike | Image.Image | np.ndarray)


def _of_images(model: Model, sources: Sequence[Any]) -> Batch:
    if model.preprocess is None:
        raise InputError(
            f"{model.name} is a bare network, whose preprocessing is not known. {advice(model)}; or give a "
            "preprocessed tensor [batch, 3, height, width]."
        )
    opened = [read_image(source) for source in sources]
    fed = [model.preprocess(image) for image in opened]
    shapes = {tuple(tensor.shape) for tensor, _ in fed}
    if len(shapes) > 1:
        raise InputError(
            f"the images give inputs of several sizes ({', '.join(str(list(s)) for s in sorted(shapes))}), which "
            "cannot be one batch. Explain them one by one, or load the model with input_size=."
        )
    tensor = torch.stack([tensor for tensor, _ in fed]).to(model.device, model.dtype)
    names = [_name(source, i, len(sources)) for i, source in enumerate(sources)]
    images = tuple(
        SourceImage(n, image, crop_box, objection=model.domain.objection(image) if model.domain else "")
        for n, image, (_, crop_box) in zip(names, opened, fed, strict=True)
    )
    return Batch(model.feed(tensor) if model.feed else tensor, lambda: images)


def _name(source: Any, index: int, count: int) -> str:
    if isinstance(source, str | os.PathLike):
        return Path(source).name
    named = getattr(source, "filename", "")
    return Path(named).name if named else ("image" if count == 1 else f"image {index}")


def _of_tensor(model: Model, tensor: Tensor) -> Batch:
    if not tensor.is_floating_point():
        raise InputError(
            f"a tensor must be preprocessed floating-point input, got {tensor.dtype}. For pixels 0 to 255 give a numpy "
            "array [height, width, 3] or a PIL image, and a model with preprocessing."
        )
    if tensor.ndim < 2:
        raise InputError(f"a tensor must be [batch, channel, height, width], got {list(tensor.shape)}.")
    tensor = tensor.to(model.device, model.dtype)
    _check_tensor(tensor)
    if tensor.ndim == 3 and model.axes.axes is None and is_one_image(model.module, tensor):
        tensor = tensor.unsqueeze(0)
    return _of_inputs(arranged(model, model.feed(tensor) if model.feed else tensor))


def _of_arguments(model: Model, given: Any) -> Batch:
    arguments = {k: given[k] for k in given.keys()} if not isinstance(given, tuple) else given  # noqa: SIM118
    if isinstance(arguments, dict) and any(name in model.texts for name in arguments):
        return _of_images_and_texts(model, arguments)
    for tensor in tree.tensors(arguments):
        if tensor.is_floating_point():
            _check_tensor(tensor)
    if isinstance(arguments, dict) and not _takes_keywords(model.module, arguments):
        arguments = (arguments,)  # a network whose one argument is a dict
    return _of_inputs(arranged(model, arguments))


def _of_inputs(inputs: Any) -> Batch:
    image = tree.image_tensor(inputs)
    axes = inputs.axes if isinstance(inputs, tree.ModelInputs) else None
    return Batch(inputs, lambda: _source_images(image, axes))


def _of_images_and_texts(model: Model, arguments: Mapping[str, Any]) -> Batch:
    """A batch of images and texts; a single image or text is repeated for all of the others.

    Texts that the network compares with every image, one score a text, are its classes and are not repeated.
    """
    texts = {name: _texts(name, given) for name, given in arguments.items() if name in model.texts}
    others = {name: given for name, given in arguments.items() if name not in texts}
    if len(others) != 1:
        raise InputError(f"{model.name} takes one image besides {', '.join(texts)}; got {', '.join(others) or 'none'}.")
    ((name, given),) = others.items()
    images = as_batch(replace(model, feed=None, texts={}), given)
    count = max(images.size, *map(len, texts.values()))
    if len(texts) == 1 and isinstance(images.inputs, Tensor):
        ((text_name, given_texts),) = texts.items()
        together = {name: images.inputs, text_name: model.texts[text_name](given_texts).to(model.device)}
        if len(given_texts) != images.size and _are_classes(model, together):
            return Batch(together, images.images, tuple(given_texts))
    if any(size not in (1, count) for size in (images.size, *map(len, texts.values()))):
        counted = ", ".join(f"{len(some)} of '{name}'" for name, some in texts.items())
        raise InputError(
            f"{images.size} images and {counted} do not go together. Give the same number of each, or one."
        )
    repeated = {name: list(some) * (count if len(some) == 1 else 1) for name, some in texts.items()}
    words = {name: model.texts[name](some).to(model.device) for name, some in repeated.items()}
    index = torch.zeros(count, dtype=torch.long) if images.size == 1 else torch.arange(count)

    def source_images() -> tuple[SourceImage, ...]:
        originals = images.images()
        return tuple(
            replace(originals[i], name=SEPARATOR.join([originals[i].name, *(some[n] for some in repeated.values())]))
            for n, i in enumerate(index.tolist())
        )

    classes = tuple(*texts.values()) if len(texts) == 1 and images.size == count else ()
    return Batch({name: images.inputs[index.to(images.inputs.device)], **words}, source_images, classes)


def _are_classes(model: Model, arguments: Mapping[str, Tensor]) -> bool:
    """Whether the network gives a score for every image and every text, [image, text]."""
    images, texts = (len(t) for t in arguments.values())

    def find() -> bool:
        try:
            with torch.inference_mode(False), torch.no_grad(), preserve_state(model.module):
                raw = tree.call(model.module, tree.escape_inference(arguments))
        except tree.CallFailed:
            return False
        return tuple(parse_output(raw, images, model.output).logits.shape) == (images, texts)

    return remembered(model.module, ("texts", images, texts, model.output), find)


def _texts(name: str, given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given) if isinstance(given, list | tuple) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"'{name}' is a text or a list of texts, got {_kind(given)}.")
    return texts


def _takes_keywords(module: nn.Module, arguments: Mapping[str, Any]) -> bool:
    """Whether the arguments are the network's own by name; if none is, the network takes one dict."""
    parameters = takes(module)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return True
    unknown = [name for name in arguments if name not in parameters]
    if unknown and len(unknown) < len(arguments):
        likely = nearest(unknown[0], parameters, count=1)
        raise InputError(
            f"{type(module).__name__}.forward({', '.join(parameters)}) takes no argument '{unknown[0]}'."
            + (f" Nearest: '{likely[0]}'." if likely else "")
        )
    return not unknown


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    if all(t.ndim == 4 for t in tensors) and len({t.shape[1:] for t in tensors}) == 1:
        return torch.cat(list(tensors))
    shapes = {tuple(t.shape) for t in tensors}
    if len(shapes) > 1:
        raise InputError(f"tensors of several shapes ({', '.join(map(str, sorted(shapes)))}) cannot be one batch.")
    return torch.stack(list(tensors))


def _check_tensor(tensor: Tensor) -> None:
    if not tensor.numel():
        raise InputError(f"there is nothing to explain: the tensor is empty, {list(tensor.shape)}.")
    plain_tensor("the network's input", tensor)
    # The sum first, which is ten times as fast; it may overflow although all numbers are finite.
    if not bool(tensor.sum().isfinite()) and not bool(torch.isfinite(tensor).all()):
        raise InputError("the input holds NaN or infinity. Check the divisions in the preprocessing.")


def _source_images(tensor: Tensor, axes: Axes | None) -> tuple[SourceImage, ...]:
    names = tuple(WORDS[name] for name in axes.space) if axes is not None else ()
    return tuple(
        replace(image_from_tensor(sample, "input" if len(tensor) == 1 else f"input {i}"), axes=names)
        for i, sample in enumerate(tensor)
    )


def black_of(model: Model, space: Sequence[int]) -> Tensor | None:
    """A black pixel after the model's preprocessing, one value a channel; None if it is not known."""
    if model.preprocess is None or len(space) != 2:
        return None
    height, width = space
    fed, _ = model.preprocess(Image.new("RGB", (width, height)))
    return fed.flatten(1).median(1).values
