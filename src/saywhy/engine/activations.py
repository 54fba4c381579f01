"""Activation functions that a network calls as functions (``F.relu(self.conv(x))``), watched as if they were modules.

Grad-CAM is defined on rectified feature maps. An ``nn.ReLU`` takes a hook; the result of ``F.relu`` belongs to no
module. A call of a function is therefore found by the module that finished last before it: the first, second, ...
activation function after that module.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from saywhy.engine.calls import activation, spelled
from saywhy.engine.function_mode import FunctionMode
from saywhy.engine.hooks import Hook, forward_hooks


@dataclass(frozen=True)
class FunctionCall:
    """An activation function that is called after a module.

    Attributes:
        name: ``"relu"`` for max(x, 0) in any spelling; torch's name for other functions.
        index: the number of activation functions between the module and this one.
        direct: whether its input is the module's output; False if a sum or another operation lies between.

    """

    name: str
    index: int = 0
    direct: bool = field(default=True, compare=False)


def layer_name(module: str, function: FunctionCall | None) -> str:
    """The name of a layer in results.

    >>> layer_name("conv#0", FunctionCall("relu")), layer_name("norm2", FunctionCall("gelu", 1, direct=False))
    ('relu(conv#0)', 'gelu#1(norm2 ...)')
    """
    if function is None:
        return module
    number = f"#{function.index}" if function.index else ""
    return f"{function.name}{number}({module}{'' if function.direct else ' ...'})"


def module_part(layer: str) -> str:
    """The module in a layer's name, with the number of the call.

    >>> module_part("relu(conv#0)"), module_part("gelu#1(norm2 ...)"), module_part("conv")
    ('conv#0', 'norm2', 'conv')
    """
    function, _, rest = layer.partition("(")
    return rest.removesuffix(")").removesuffix(" ...") if rest else function


class ActivationMode(FunctionMode):
    """Within the block, the results of activation functions can be recorded and replaced.

    In-place functions are computed on a copy of their input, and the result is then written into the input. A mode
    belongs to one thread.

    Args:
        wants: whether the next call of an activation function, by name, is to be recorded.
        record: gets name, input and result of that call, and whether it works in place; returns what the network gets
            instead of the result.

    >>> with ActivationMode(lambda name: name == "relu", lambda name, given, result, in_place: result + 10):
    ...     torch.tensor([-1.0, 2.0]).relu_()
    tensor([10., 12.])
    """

    def __init__(self, wants: Callable[[str], bool], record: Callable[[str, Tensor, Tensor, bool], Tensor]) -> None:
        super().__init__()
        self.active = True
        self._wants, self._record = wants, record

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        if not self.active:
            return func(*args, **options)
        spelling, in_place = spelled(func, options)
        found = activation(spelling, args, options)
        target = args[0] if args else options.get("input")
        if found is None or (in_place and found[0] is not target) or not self._wants(found[1]):
            return func(*args, **options)
        given, name = found
        if not in_place:
            return self._record(name, given, func(*args, **options), False)
        copy = given.clone()
        args = tuple(copy if a is given else a for a in args)
        options = {key: copy if a is given else a for key, a in options.items()}
        return _written_over(given, self._record(name, given, func(*args, **options), True))


def _written_over(given: Tensor, result: Tensor) -> Tensor:
    """The input of an in-place function with its new content; a replay may give it another batch size."""
    if torch.is_grad_enabled() or given._base is not None:
        return given.copy_(result)
    given.data = result
    return given


@contextlib.contextmanager
def hooked(module: nn.Module, function: FunctionCall | None, call: int, hook: Hook) -> Iterator[None]:
    """Within the block, a forward hook on a module, or on an activation function called after it.

    Args:
        module: the module.
        function: the function after it; None is the module itself.
        call: the call of the module at which the hook is called, counted from the start of the block; -1 is every call.
        hook: takes the module, its arguments (none for a function) and the output, and may return another output.
    """
    calls = 0
    ahead: int | None = None  # activation functions still to come before the one that is hooked

    def finished(_module: nn.Module, args: Any, output: Any) -> Any:
        nonlocal calls, ahead
        calls += 1
        ahead, mode.active = None, False
        if call not in (-1, calls - 1):
            return None
        if function is None:
            return hook(module, args, output)
        ahead, mode.active = function.index, True
        return None

    def wants(name: str) -> bool:
        nonlocal ahead
        if function is None or ahead is None:
            return False
        ahead -= 1
        if ahead >= 0:
            return False
        ahead, mode.active = None, False
        return name == function.name

    def record(_name: str, _given: Tensor, result: Tensor, _in_place: bool) -> Tensor:
        replaced = hook(module, (), result)
        return replaced if isinstance(replaced, Tensor) else result

    mode = ActivationMode(wants, record)
    mode.active = False
    with forward_hooks([module], finished), mode if function is not None else contextlib.nullcontext():
        yield
