"""Errors and warnings; every message says what to do next.

    SaywhyError
    ├── ModelError            a model cannot be found, built or fed
    │   ├── WeightsError      its weights cannot be read, do not fit, or are not finite
    │   └── MissingExtra      an optional library is not installed
    ├── ImageError            an image cannot be read
    ├── InputError            an input does not have the shape or type that is needed
    │   └── WriteError        a file cannot be written; also an OSError
    ├── TargetError           what is to be explained does not exist or is not a number a sample
    ├── LayerError            a layer does not exist or has no spatial map
    │   └── LayoutError       a layer's output cannot be proved to be a map of the image
    ├── MethodError           a method or one of its parameters does not exist
    ├── MetricError           a metric or one of its parameters does not exist
    ├── TrainingError         the loss of a training run is NaN or infinite
    └── GradientError         the target does not depend on the layer, or gradients are switched off inside

Every message names the object, what was expected, what was given, and the nearest valid value.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from saywhy.terminal import printable

_WORD = re.compile(r"[^\W_]+")


class SaywhyError(Exception):
    """The base class of every error that saywhy raises on purpose."""

    def __str__(self) -> str:
        """The message, without control codes: it may quote labels and file names that others wrote."""
        return printable(super().__str__())


class ModelError(SaywhyError):
    """A model cannot be found, built or fed."""


class WeightsError(ModelError):
    """Weights cannot be read, do not fit the architecture, or are not finite."""


class MissingExtra(ModelError):
    """An optional library is not installed."""


class ImageError(SaywhyError):
    """An image cannot be read."""


class InputError(SaywhyError):
    """An input does not have the shape or type that is needed."""


class WriteError(InputError, OSError):
    """A file cannot be written: the disk is full, the folder is read-only, or another run is writing it."""


class TargetError(SaywhyError):
    """What is to be explained does not exist, or is not one number a sample."""


class LayerError(SaywhyError):
    """A layer does not exist, was not run, or has no spatial map."""


class LayoutError(LayerError):
    """A layer's output cannot be proved to be a map of the image."""


class MethodError(SaywhyError):
    """A method, or a parameter of a method, does not exist."""


class MetricError(SaywhyError):
    """A metric, or a parameter of a metric, does not exist."""


class TrainingError(SaywhyError):
    """A training run cannot go on: its loss is NaN or infinite."""


class GradientError(SaywhyError):
    """The target does not depend on the layer, or gradients are switched off inside the model."""


class SaywhyWarning(UserWarning):
    """The result is valid, but has a limitation that the user should know."""

    def __str__(self) -> str:
        """The message, without control codes."""
        return printable(super().__str__())


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known words most similar to ``word``, best first; case is ignored.

    Those that hold all of its words come first, the shortest before the others.

    >>> nearest("tigger cat", ["tiger", "tiger cat", "tabby"], count=1)
    ['tiger cat']
    >>> nearest("cat", ["crate", "cab", "tabby, tabby cat", "tiger cat"], count=3)
    ['tiger cat', 'tabby, tabby cat', 'crate']
    """
    spelling = {name.lower(): name for name in reversed(list(known))}
    parts = set(_WORD.findall(word.lower()))
    whole = sorted((name for name in spelling if parts and parts <= set(_WORD.findall(name))), key=len)
    close = get_close_matches(word.lower(), spelling, n=count, cutoff=0.4)
    return [spelling[match] for match in dict.fromkeys([*whole, *close])][:count]


def same_name(one: str, other: str) -> bool:
    """Whether two names are the same but for case, hyphens, underscores and spaces.

    >>> same_name("Tiger_Cat", "tiger cat"), same_name("tiger", "tiger cat")
    (True, False)
    """
    return _WORD.findall(one.lower()) == _WORD.findall(other.lower()) != []


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type if the message is empty.

    >>> first_line(ValueError("no such model\\nLook here: …")), first_line(KeyError())
    ('no such model', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
