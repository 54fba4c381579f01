"""What is remembered of a model's layers: those found for each target, and the proofs of their layouts."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
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

_FEW_VALUES = 16
"""Weights and attributes of at most so many numbers are compared by value: nothing counts the writes to ``.data``."""

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
    """What is remembered of one model, as it is built now and with the weights and attributes it has now.

    Attributes:
        parts: its modules, their hooks and forward functions.
        state: its weights and plain attributes.
        memos: by the kind of inputs.
        own: attributes that its own passes change (a counter), which are not compared.
    """

    parts: tuple[int, ...] = ()
    state: int = 0
    memos: dict[Hashable, Memo[Any]] = field(default_factory=dict)
    own: set[tuple[int, str]] = field(default_factory=set)


_memos: "WeakKeyDictionary[nn.Module, _ModelMemos]" = WeakKeyDictionary()


def memo_of(search: LayerSearch) -> Memo[Any]:
    """The memory for a model and inputs like these; replaced modules and changed weights discard it.

    The key holds which argument is the image, its axes, the names, shapes, dtypes and devices of all tensors, and the
    other arguments: a number or a word may choose what the network sees. Hooks on what goes into a module, a
    ``forward`` that was replaced, and plain attributes that were set, make another network too.
    """
    known = _memos.get(search.model) or _ModelMemos()
    parts, state = _built(search.model, known.own)
    if known.parts != parts or (known.state != state and not search.learning):
        known = _memos[search.model] = _ModelMemos(parts, state, own=known.own)
    if search.learning:
        known.state = state
    image = tree.image_tensor(search.inputs)
    key = tuple((path, tuple(t.shape[1:]), t.dtype, t.device, t is image) for path, t in _by_path(search.inputs))
    axes = search.inputs.axes if isinstance(search.inputs, tree.ModelInputs) else None
    plain = frozenset((path, type(one), one) for path, one in _plain(search.inputs))
    whole = (axes, frozenset(key), plain)
    if whole not in known.memos and len(known.memos) == _MOST_INPUTS:
        del known.memos[next(iter(known.memos))]
    return known.memos.setdefault(whole, Memo())


@contextmanager
def own_changes(model: nn.Module) -> Iterator[None]:
    """Note which plain attributes the passes within the block change: they discard nothing that is remembered."""
    before = _values(traverse.modules(model))
    yield
    after, known = _values(traverse.modules(model)), _memos.get(model)
    changed = {key for key in {**before, **after} if before.get(key) != after.get(key)}
    if known is not None and changed:
        known.own |= changed
        known.state = _built(model, known.own)[1]


def _built(model: nn.Module, own: set[tuple[int, str]]) -> tuple[tuple[int, ...], int]:
    """What a network is built of, and a number for its weights and its attributes but those that are its own."""
    parts: list[int] = []
    state: list[Hashable] = []
    modules = list(traverse.modules(model))
    for module in modules:
        parts.append(id(module))
        parts.append(id(module.__dict__.get("forward")))
        parts.extend(module._forward_pre_hooks)
        for held in (module._parameters, module._buffers):
            state.extend((id(t), content_version(t)) for t in held.values() if t is not None)
    state += [one for one in _values(modules).items() if one[0] not in own]
    return tuple(parts), hash(tuple(state))


def _values(modules: Iterable[nn.Module]) -> dict[tuple[int, str], Hashable]:
    """The plain attributes, and the weights of few numbers, that modules of the user's own classes hold."""
    found: dict[tuple[int, str], Hashable] = {}
    for module in modules:
        if type(module).__module__.startswith("torch.nn."):
            continue
        for name, one in module.__dict__.items():
            if name in _OF_EVERY_MODULE:
                continue
            if isinstance(one, list | tuple) and len(one) <= _FEW_VALUES:
                one = tuple(one)
            if _is_plain(one):
                found[id(module), name] = one
        for held in (module._parameters, module._buffers):
            for name, t in held.items():
                if t is not None and _is_readable(t):
                    found[id(module), name] = str(t.detach().double().tolist())
    return found


_OF_EVERY_MODULE = frozenset(nn.Module().__dict__)


def _is_readable(t: Tensor) -> bool:
    ordinary = type(t) in (Tensor, nn.Parameter) and t.layout == torch.strided
    dense = ordinary and not (t.is_meta or t.is_quantized or t.is_complex())
    return dense and t.numel() <= _FEW_VALUES


def _is_plain(one: Any) -> bool:
    return isinstance(one, str | int | float) or (isinstance(one, tuple) and all(map(_is_plain, one)))


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
