"""A model is borrowed, never owned: whatever happens inside, it is given back as it was.

What is kept: ``training`` of every module, buffers (value and identity), and the random state of torch on the CPU
and on the model's devices. Gradients and ``requires_grad`` need no keeping, because nothing here touches them:
gradients come from ``torch.autograd.grad`` with respect to activations, and hooks are removed where they are made.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from saywhy.engine import traverse


@dataclass
class _SavedState:
    """What the first borrower found and the last one restores."""

    borrowers: int = 0
    was_training: list[nn.Module] = field(default_factory=list)
    buffers: list[tuple[nn.Module, str, Tensor, int, Tensor]] = field(default_factory=list)


_NORM = nn.BatchNorm2d.forward
"""torch's own batch normalisation, which writes nothing in evaluation mode: its buffers need no copy."""

_restored: "WeakIdKeyDictionary" = WeakIdKeyDictionary()
"""Of buffers that a network wrote to on loan: their version since they are back, and the one that it stands for."""

_saved_states: "WeakKeyDictionary[nn.Module, _SavedState]" = WeakKeyDictionary()
_lock = threading.Lock()


def content_version(tensor: Tensor, version: int | None = None) -> int:
    """A tensor's version, which a loan leaves as it was although autograd's own counts on; -1 where none is kept.

    Args:
        tensor: a weight or a buffer.
        version: an earlier one of autograd's; None is the present one.
    """
    if tensor.is_inference():  # made under torch.inference_mode()
        return -1
    version = tensor._version if version is None else version
    now, stood_for = _restored.get(tensor, (version, version)) if _restored else (version, version)
    return stood_for if version == now else version


@contextlib.contextmanager
def preserve_state(model: nn.Module, *, evaluate: bool = True, seed: int | None = None) -> Iterator[None]:
    """Hold ``model`` in evaluation mode for a while; two threads may hold it at once.

    Args:
        model: any module.
        evaluate: put every module into evaluation mode. False leaves the modes alone, for training with maps.
        seed: seeds torch inside the block. Outside, the random state goes on as if nothing had happened.
    """
    devices = _accelerators(model)
    with contextlib.ExitStack() as stack:
        for kind in {device.type for device in devices}:
            indices = [d.index or 0 for d in devices if d.type == kind]
            stack.enter_context(torch.random.fork_rng(indices, device_type=kind))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        if seed is not None:
            # Not torch.manual_seed, which makes a stack trace for every kind of device that is not there.
            torch.default_generator.manual_seed(seed)
            if any(device.type == "cuda" for device in devices):
                torch.cuda.manual_seed_all(seed)
        if not evaluate:
            yield
            return
        _save(model)
        try:
            yield
        finally:
            _restore(model)


def _accelerators(model: nn.Module) -> set[torch.device]:
    """The devices with a random state of their own on which the model lies; none while none is in use at all."""
    if not (torch.cuda.is_initialized() or torch.xpu.is_initialized()):
        return set()
    return {t.device for t in traverse.tensors(model) if t.device.type in ("cuda", "xpu")}


def _save(model: nn.Module) -> None:
    with _lock:
        loan = _saved_states.setdefault(model, _SavedState())
        loan.borrowers += 1
        if loan.borrowers > 1:
            return
        for module in traverse.modules(model):
            # The attribute, not .eval(): models override train() and eval() with effects of their own.
            if module.training:
                loan.was_training.append(module)
                module.training = False
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and type(module).forward is _NORM:
                continue
            for name, buffer in module._buffers.items():
                if buffer is not None and not buffer.is_inference():
                    loan.buffers.append((module, name, buffer, buffer._version, buffer.detach().clone()))


def _restore(model: nn.Module) -> None:
    with _lock:
        loan = _saved_states[model]
        loan.borrowers -= 1
        if loan.borrowers:
            return
        del _saved_states[model]
        for module in loan.was_training:
            module.training = True
        for module, name, buffer, version, value in loan.buffers:
            if buffer._version != version:
                stood_for = content_version(buffer, version)
                with torch.no_grad():
                    buffer.copy_(value)
                _restored[buffer] = (buffer._version, stood_for)
            if dict(module._buffers.items()).get(name) is not buffer:  # those of scripted modules have no get
                module._buffers[name] = buffer
