"""What is remembered of a model's layers: those found for each target, and the proofs of their layouts."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from saywhy.engine import traverse, tree
from saywhy.engine.preserve import content_version
from saywhy.engine.proof import Proof
from saywhy.engine.trace import Candidate, LayerProbe, LayerSearch

Found = TypeVar("Found")

_MOST_TARGETS = 1024
"""Layers of so many targets are remembered; then the oldest are forgotten."""

_MOST_INPUTS = 256
"""Kinds of inputs that are remembered of a model; then the oldest are forgotten."""

_MOST_GROUPS = 4
"""Alternatives remembered for one target: different samples may pass through different layers."""


@dataclass
class Memo(Generic[Found]):
    """The layers found for a model, its weights, and inputs of one structure and shape.

    Attributes:
        named: layers that the user named, by name.
        proofs: by name and shape, the proofs that do not depend on the target.
    """

    named: dict[str, Candidate] = field(default_factory=dict)
    proofs: dict[tuple[str, tuple[int, ...]], Proof | None] = field(default_factory=dict)
    _of_target: dict[Hashable, list[Found]] = field(default_factory=dict)
    _of_family: dict[Hashable, list[Found]] = field(default_factory=dict)

    def groups(self, probe: LayerProbe) -> list[Found]:
        """What was found for a target, the last first; else what serves every target of its family."""
        return self._of_target.get(probe.key) or self._of_family.get(probe.family) or []

    def store(self, probe: LayerProbe, found: Found, *, for_family: bool) -> None:
        """Remember what was found for a target, and if it serves them, for all targets of its family."""
        if for_family:
            self._of_family[probe.family] = [found]
        known = [one for one in self._of_target.pop(probe.key, []) if one != found]
        self._of_target[probe.key] = [found, *known][:_MOST_GROUPS]
        if len(self._of_target) > _MOST_TARGETS:
            del self._of_target[next(iter(self._of_target))]


@dataclass
class _ModelMemos:
    """What is remembered of one model, as it is built now and with the weights it has now."""

    parts: tuple[int, ...]
    weights: int
    memos: dict[Hashable, Memo[Any]] = field(default_factory=dict)


_memos: "WeakKeyDictionary[nn.Module, _ModelMemos]" = WeakKeyDictionary()


def memo_of(search: LayerSearch) -> Memo[Any]:
    """The memory for a model and inputs like these; replaced modules and changed weights discard it.

    The key holds which argument is the image, its axes, the names, shapes, dtypes and devices of all tensors, and the
    other arguments: a number or a word may choose what the network sees. Hooks on what goes into a module, and a
    ``forward`` that was replaced, make another network too.
    """
    parts: list[int] = []
    weights: list[tuple[int, int]] = []
    for module in traverse.modules(search.model):
        parts.append(id(module))
        parts.append(id(module.__dict__.get("forward")))
        parts.extend(module._forward_pre_hooks)
        for held in (module._parameters, module._buffers):
            weights.extend((id(t), content_version(t)) for t in held.values() if t is not None)
    version, built = hash(tuple(weights)), tuple(parts)
    known = _memos.get(search.model)
    if known is None or known.parts != built or (known.weights != version and not search.learning):
        known = _memos[search.model] = _ModelMemos(built, version)
    if search.learning:
        known.weights = version
    image = tree.image_tensor(search.inputs)
    key = tuple((path, tuple(t.shape[1:]), t.dtype, t.device, t is image) for path, t in _by_path(search.inputs))
    axes = search.inputs.axes if isinstance(search.inputs, tree.ModelInputs) else None
    plain = frozenset((path, type(one), one) for path, one in _plain(search.inputs))
    whole = (axes, frozenset(key), plain)
    if whole not in known.memos and len(known.memos) == _MOST_INPUTS:
        del known.memos[next(iter(known.memos))]
    return known.memos.setdefault(whole, Memo())


def _plain(value: Any, path: tuple[Hashable, ...] = ()) -> Iterator[tuple[tuple[Hashable, ...], Hashable]]:
    """Every number, word and None with the keys and positions that lead to it.

    >>> list(_plain({"a": "left", "b": (2, [3.5])}))
    [(('a',), 'left'), (('b', 0), 2), (('b', 1, 0), 3.5)]
    """
    if isinstance(value, tree.ModelInputs):
        value = value.value
    if value is None or isinstance(value, str | int | float):
        yield path, value
    elif isinstance(value, Mapping | tuple | list):
        for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _plain(part, (*path, key))


def _by_path(value: Any, path: tuple[Hashable, ...] = ()) -> Iterator[tuple[tuple[Hashable, ...], Tensor]]:
    """Every tensor with the keys and positions that lead to it.

    >>> import torch
    >>> [path for path, _ in _by_path({"a": torch.zeros(1), "b": (torch.zeros(1), 2)})]
    [('a',), ('b', 0)]
    """
    if isinstance(value, tree.ModelInputs):
        value = value.value
    if isinstance(value, Tensor):
        yield path, value
        return
    if isinstance(value, tuple | list):
        value = dict(enumerate(value))
    parts = value.items() if isinstance(value, Mapping) else enumerate(tree.tensors(value))
    for key, part in parts:
        yield from _by_path(part, (*path, key))
