"""Classifiers with the head of a checkpoint: a fine-tuned network has another number of classes."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.errors import WeightsError
from saywhy.models.weights import fit_weights, read_weights, without_prefix


def with_head_of(build: Callable[..., nn.Module], path: Any) -> tuple[nn.Module, bool]:
    """Build a network for the number of classes in a checkpoint, and load the checkpoint.

    A head that is one linear layer inside ``nn.Sequential``, e.g. behind a dropout, is put in place of the head.

    Args:
        build: the builder of the network; takes ``num_classes``.
        path: the weights file.

    Returns:
        The network, and whether its head is another one than the builder's own.

    Raises:
        WeightsError: the file cannot be read or does not fit.

    >>> from pathlib import Path; from tempfile import mkdtemp
    >>> path = Path(mkdtemp(), "two.pth")
    >>> torch.save({"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}, path)
    >>> with_head_of(lambda num_classes=5: nn.Linear(3, num_classes), path)
    (Linear(in_features=3, out_features=2, bias=True), True)
    """
    with torch.device("meta"):
        expected = build().state_dict()
    state = _with_plain_head(without_prefix(read_weights(path), expected), expected, path)
    classes = classes_in(state, expected)
    module = build() if classes is None else build(num_classes=classes)
    fit_weights(module, state, path)
    return module, classes is not None


def classes_in(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes of a state dict; None if it is that of the network, or not only the head differs.

    >>> own, theirs = {"w": torch.zeros(9, 3), "b": torch.zeros(9)}, {"w": torch.zeros(2, 3), "b": torch.zeros(2)}
    >>> classes_in(theirs, own), classes_in(own, own)
    (2, None)
    """
    other = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    if not all(state[n].ndim and state[n].shape[1:] == expected[n].shape[1:] for n in other):
        return None
    sizes = {(expected[name].shape[0], state[name].shape[0]) for name in other}
    return sizes.pop()[1] if len(sizes) == 1 else None


def last_layer(module: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """Return the last linear or convolutional layer, which gives a classifier's scores; None if there is none.

    >>> last_layer(nn.Sequential(nn.Linear(3, 2), nn.ReLU())).out_features
    2
    """
    found = [one for one in module.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    return found[-1] if found else None


def _with_plain_head(state: dict[str, Tensor], expected: Mapping[str, Tensor], path: Any) -> dict[str, Tensor]:
    """Rename the one linear layer inside a sequential head to the name of the head that is missing."""
    missing = [name for name in expected if name.endswith(".weight") and name not in state]
    if len(missing) != 1:
        return state
    head = missing[0].removesuffix(".weight")
    inside = [name for name in state if name.startswith(f"{head}.") and name not in expected]
    layers = {name.rpartition(".")[0] for name in inside}
    if len(layers) > 1:
        raise WeightsError(
            f"'{path}' has a head of {len(layers)} layers ({', '.join(sorted(layers))}) in place of '{head}', and a "
            "file of weights does not say what is between them. Build the network in a function of your own, and give "
            "path/to/file.py:function as the model."
        )
    return {(f"{head}.{name.rpartition('.')[2]}" if name in inside else name): state[name] for name in state}
