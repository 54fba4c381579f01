"""``Input``: what the axes of an input are, and which arguments of a network belong to all samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from saywhy.engine.axes import Axes
from saywhy.errors import InputError, nearest
from saywhy.validation import short_repr

NAMES = {
    "b": ("n", "batch"),
    "c": ("channel", "channels", "variable", "variables", "feature", "features"),
    "h": ("height",),
    "w": ("width",),
    "d": ("depth",),
    "t": ("time", "frame", "frames"),
    "v": ("view", "views"),
    "l": ("length", "sample", "samples"),
    "f": ("frequency", "mel"),
    "tile": ("tiles", "instance", "instances"),
}
"""The names of axes, each with its other spellings."""

WORDS = {
    "b": "batch", "c": "channel", "h": "height", "w": "width", "d": "depth", "t": "frame", "v": "view", "l": "sample",
    "f": "frequency", "tile": "tile",
}  # fmt: skip
"""The names of axes as words."""

_SPELLINGS = {spelling: name for name, others in NAMES.items() for spelling in (name, *others)}


@dataclass(frozen=True)
class Input:
    """The axes of a network's input, and the arguments that belong to all samples.

    Attributes:
        axes: the axes in the order in which the network takes them, separated by spaces: ``b`` batch, ``c`` channel (or
            the variables of a time series), and any of ``h`` height, ``w`` width, ``d`` depth, ``t`` time (frames),
            ``v`` view, ``l`` length, ``f`` frequency, ``tile``. Maps lie over all axes but ``b`` and ``c``, in this
            order. Without ``b`` the network takes one sample (a bag of tiles), without ``c`` one channel. None finds
            the axes.
        argument: the name or position of the argument that is explained; None is the floating-point tensor with the
            most axes.
        shared: the names or positions of the arguments that belong to all samples (the prompts of CLIP); of all others
            the first axis is the batch. None finds them.

    Raises:
        InputError: an axis has an unknown name, or occurs twice.

    >>> Input("b t c h w").names
    ('b', 't', 'c', 'h', 'w')
    >>> Input("batch time variables").names
    ('b', 't', 'c')
    """

    axes: str | None = None
    argument: str | int | None = None
    shared: Sequence[str | int] | None = None

    def __post_init__(self) -> None:
        if self.axes is not None and not isinstance(self.axes, str):
            raise InputError(f"axes must be a text such as 'b t c h w', got {short_repr(self.axes)}.")
        if self.shared is not None and (isinstance(self.shared, str) or not isinstance(self.shared, Sequence)):
            raise InputError(
                f"shared must be a list of names or positions of arguments, got {short_repr(self.shared)}."
            )
        self.names  # noqa: B018  it raises an error for unknown names

    @property
    def names(self) -> tuple[str, ...] | None:
        """The standard names of the axes; None if they are not declared."""
        if self.axes is None:
            return None
        words = self.axes.lower().replace(",", " ").split()
        if len(words) == 1 and words[0] not in _SPELLINGS:
            words = list(words[0])  # "btchw"
        found = tuple(_standard_name(word, self.axes) for word in words)
        if len(set(found)) < len(found) or not set(found) - {"b", "c"}:
            raise InputError(
                f"axes='{self.axes}': every axis must occur once, and one at least besides b and c. "
                "Example: 'b t c h w'."
            )
        return found

    def axes_of(self, tensor: Tensor) -> Axes | None:
        """The declared axes of a tensor; None if they are not declared.

        Raises:
            InputError: the tensor has another number of axes.
        """
        names = self.names
        if names is None:
            return None
        if len(names) != tensor.ndim:
            raise InputError(
                f"axes='{self.axes}' names {len(names)} axes, but the input has {tensor.ndim}: {list(tensor.shape)}. "
                "Name every axis, the batch (b) too; leave out b only if the network takes no batch."
            )
        return Axes(names)


def as_input(given: Any) -> Input:
    """The declaration in what was given as ``axes``.

    >>> as_input("b l")
    Input(axes='b l', argument=None, shared=None)
    """
    if given is None or isinstance(given, str):
        return Input(given)
    if isinstance(given, Input):
        return given
    raise InputError(f"axes must be a text such as 'b t c h w', or saywhy.Input(...), got {type(given).__name__}.")


def _standard_name(word: str, whole: str) -> str:
    if word in _SPELLINGS:
        return _SPELLINGS[word]
    likely = nearest(word, _SPELLINGS, count=1)
    known = ", ".join(f"{name} ({WORDS[name]})" if name != WORDS[name] else name for name in NAMES)
    raise InputError(
        f"axes='{whole}': '{word}' is no axis.{f' Nearest: {likely[0]!r}.' if likely else ''} Axes are {known}."
    )
