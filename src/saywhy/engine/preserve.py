"""Preserving the state of a user's model: it is restored after every block, errors included.

Saved are ``training`` of every module, buffers (value and identity), and the random state of torch on the CPU and on
the model's devices. Gradients and ``requires_grad`` need no saving, because nothing changes them: gradients come from
``torch.autograd.grad`` with respect to activations, and hooks are removed where they are registered. Interrupts are
deferred while the state is saved and restored, and compiled parts of a network run as they were before compilation,
because compiled code calls no hooks and would be compiled again for every mode.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from saywhy.engine import traverse
from saywhy.engine.exclusive import exclusive
from saywhy.interrupts import deferred_interrupts


@dataclass
class _SavedState:
    """The state that the first block saves and the last one restores."""

    blocks: int = 0
    was_training: list[nn.Module] = field(default_factory=list)
    buffers: list[tuple[nn.Module, str, Tensor, int, Tensor]] = field(default_factory=list)


_NORM = nn.BatchNorm2d.forward
"""torch's own batch normalisation, which writes no buffers in evaluation mode: they need no copy."""

_restored: "WeakIdKeyDictionary" = WeakIdKeyDictionary()
"""For buffers restored after a block: their version since then, and the version before the block that it equals."""

_saved_states: "WeakKeyDictionary[nn.Module, _SavedState]" = WeakKeyDictionary()
_lock = threading.Lock()


def content_version(tensor: Tensor, version: int | None = None) -> int:
    """A tensor's version, unchanged by :func:`preserve_state` although autograd's counter increases; -1 without one.

    Args:
        tensor: a weight or a buffer.
        version: an earlier version of autograd's; None is the current one.
    """
    if tensor.is_inference():  # made under torch.inference_mode()
        return -1
    version = tensor._version if version is None else version
    restored, original = _restored.get(tensor, (version, version)) if _restored else (version, version)
    return original if version == restored else version


@contextlib.contextmanager
def preserve_state(model: nn.Module, *, evaluate: bool = True, seed: int | None = None) -> Iterator[None]:
    """Hold ``model`` in evaluation mode within the block, and restore its state; blocks of several threads may overlap.

    Args:
        model: any module.
        evaluate: put every module into evaluation mode. False leaves the modes as they are, for training with maps.
        seed: seeds torch inside the block. The random state outside is restored.
    """
    with deferred_interrupts(), _random_state(_accelerators(model)), _uncompiled():
        if seed is not None:
            # Not torch.manual_seed, which builds a stack trace for every absent kind of device.
            torch.default_generator.manual_seed(seed)
            if torch.cuda.is_initialized():
                torch.cuda.manual_seed_all(seed)
        if not evaluate:
            yield
            return
        failed = True
        try:
            _save(model)
            yield
            failed = False
        finally:
            _restore(model, failed)


@contextlib.contextmanager
def exclusive_run(model: nn.Module, *, evaluate: bool = True, seed: int | None = None) -> Iterator[None]:
    """:func:`preserve_state` while no other thread runs ``model`` for an explanation; see :func:`exclusive`."""
    with exclusive(model), preserve_state(model, evaluate=evaluate, seed=seed):
        yield


@dataclass(eq=False)
class _RandomBlock:
    """The random states of torch before a block, by device; None is the CPU."""

    states: dict[torch.device | None, Tensor] = field(default_factory=dict)


_random_blocks: list[_RandomBlock] = []
"""The blocks that run now, in all threads, in the order in which they began."""


@contextlib.contextmanager
def _random_state(devices: set[torch.device]) -> Iterator[None]:
    """Restore the random states after the block.

    torch's random state is one for all threads. A block that ends while a later one runs hands its states on to that
    one, which restores them.
    """
    block = _RandomBlock()
    try:
        with _lock:
            block.states = {None: torch.default_generator.get_state()}
            for device in devices:
                block.states[device] = torch.get_device_module(device.type).get_rng_state(device)
            _random_blocks.append(block)
        yield
    finally:
        with _lock:
            _end_random_block(block)


def _end_random_block(block: _RandomBlock) -> None:
    if block not in _random_blocks:
        return
    index = _random_blocks.index(block)
    later = _random_blocks[index + 1 :]
    del _random_blocks[index]
    if later:
        later[0].states |= block.states
        return
    for device, value in block.states.items():
        if device is None:
            torch.default_generator.set_state(value)
        else:
            torch.get_device_module(device.type).set_rng_state(value, device)


_stances: list[Any] = []
"""The compiler's stance that the first block sets and the last one takes back, once for every block."""


@contextlib.contextmanager
def _uncompiled() -> Iterator[None]:
    """Run compiled parts of networks uncompiled within the block; the stance is one for all threads."""
    if "torch._dynamo.eval_frame" not in sys.modules:  # nothing is compiled, and importing it takes seconds
        yield
        return
    with _lock:
        _stances.append(_stances[-1] if _stances else torch.compiler.set_stance("force_eager"))
    try:
        yield
    finally:
        with _lock:
            stance = _stances.pop()
            if not _stances:
                stance.__exit__(None, None, None)


def _accelerators(model: nn.Module) -> set[torch.device]:
    """The devices of the model that have a random state of their own; empty while no accelerator is initialised."""
    if not (torch.cuda.is_initialized() or torch.xpu.is_initialized()):
        return set()
    return {t.device for t in traverse.tensors(model) if t.device.type in ("cuda", "xpu")}


def _save(model: nn.Module) -> None:
    with _lock:
        saved = _saved_states.setdefault(model, _SavedState())
        saved.blocks += 1
        if saved.blocks > 1:
            return
        for module in traverse.modules(model):
            # The attribute, not .eval(): models may override train() and eval() with side effects.
            if module.training:
                saved.was_training.append(module)
                module.training = False
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and type(module).forward is _NORM:
                continue
            for name, buffer in module._buffers.items():
                if buffer is not None and not buffer.is_inference():
                    saved.buffers.append((module, name, buffer, buffer._version, buffer.detach().clone()))


def _restore(model: nn.Module, failed: bool) -> None:
    """Restore the state of the last block; after an error buffers are compared by value.

    An error in a dispatch mode, such as an interrupt, may come between an operation in place and the increment of its
    tensor's version.
    """
    with _lock:
        saved = _saved_states[model]
        saved.blocks -= 1
        if saved.blocks:
            return
        del _saved_states[model]
        for module in saved.was_training:
            module.training = True
        for module, name, buffer, version, value in saved.buffers:
            if buffer._version != version or (failed and not torch.equal(buffer, value)):
                original = content_version(buffer, version)
                with torch.no_grad():
                    buffer.copy_(value)
                _restored[buffer] = (buffer._version, original)
            if dict(module._buffers.items()).get(name) is not buffer:  # buffers of scripted modules have no get
                module._buffers[name] = buffer
