"""An interrupt (Ctrl-C) at any moment leaves the model, torch and the process as they were."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import saywhy
from saywhy.engine.function_mode import FunctionMode
from saywhy.engine.preserve import preserve_state
from saywhy.interrupts import deferred_interrupts, interruptible, state


def interrupted(count: int, seed: int) -> dict[str, Any]:
    """What ``count`` signals at random moments left behind."""
    script = Path(__file__).with_name("interrupted.py")
    done = subprocess.run(
        [sys.executable, script, str(count), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60 + 2 * count,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_a_hundred_interrupts_at_random_moments_leave_no_trace():
    found = interrupted(100, seed=1)
    assert found["came"] == 100
    assert found["left"] == []


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(4))
def test_two_thousand_interrupts_at_random_moments_leave_no_trace(seed):
    found = interrupted(500, seed=10 + seed)
    assert found["came"] == 500
    assert found["left"] == []


class InterruptedAfterAddition(TorchDispatchMode):
    """An interrupt between an operation in place and the increment of its tensor's version."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.add_.Tensor:
            raise KeyboardInterrupt
        return result


class Passing(FunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def test_mode_that_an_interrupt_took_off_the_stack_leaves_the_others():
    def interrupted_call() -> None:
        torch.overrides._pop_mode()  # torch takes the mode off while it works
        raise KeyboardInterrupt

    with Passing() as outer:
        with pytest.raises(KeyboardInterrupt), Passing():
            interrupted_call()
        assert torch.overrides._get_current_function_mode() is outer
    assert torch.overrides._get_current_function_mode() is None


def test_mode_that_is_put_back_late_is_removed():
    """An interrupt right after the mode was taken off: it is put back when the traceback is deleted."""

    def interrupted_call() -> None:
        taken_off = torch.overrides._pop_mode_temporarily()
        taken_off.__enter__()
        raise KeyboardInterrupt

    with Passing() as outer:
        with pytest.raises(KeyboardInterrupt), Passing():
            interrupted_call()
        assert torch.overrides._get_current_function_mode_stack() == [outer]
    assert torch.overrides._get_current_function_mode_stack() == []


def test_mode_that_is_put_back_above_another_is_removed():
    def interrupted_call() -> None:
        with torch.overrides._pop_mode_temporarily():
            taken_off = torch.overrides._pop_mode_temporarily()
            taken_off.__enter__()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Passing(), Passing():
        interrupted_call()
    assert torch.overrides._get_current_function_mode_stack() == []


def test_modes_above_the_ending_one_stay():
    ending, above = Passing(), Passing()
    ending.__enter__()
    above.__enter__()
    ending.__exit__(None, None, None)
    assert torch.overrides._get_current_function_mode_stack() == [above]
    above.__exit__(None, None, None)
    assert torch.overrides._get_current_function_mode_stack() == []


def test_buffer_whose_version_was_not_counted_is_restored():
    network = nn.Module()
    network.register_buffer("calls", torch.zeros(()))
    version = network.calls._version
    with pytest.raises(KeyboardInterrupt), preserve_state(network), InterruptedAfterAddition():
        network.calls += 1
    assert float(network.calls) == 0
    assert network.calls._version >= version


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


class Interrupted(nn.Module):
    """A network that is interrupted when it runs for the given time."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.at, self.runs = at, 0

    def forward(self, x):
        self.runs += 1
        x = self.norm(self.conv(x)).relu()
        if self.runs == self.at:
            interrupt()
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("at", range(2, 6))  # the first run ends at the first layer, before the interrupt
def test_interrupted_run_ends_at_once_and_leaves_the_model_as_it_was(at):
    network = Interrupted(at).train()
    with pytest.raises(KeyboardInterrupt):
        saywhy.explain(network, torch.rand(1, 3, 8, 8), 1, "scorecam")
    assert network.runs == at
    assert all(m.training and not m._forward_hooks for m in network.modules())
    assert int(network.norm.num_batches_tracked) == 0
    assert torch.is_grad_enabled()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    network.at = 0
    assert saywhy.explain(network, torch.rand(1, 3, 8, 8), 1, "scorecam", relu=False).maps.shape == (1, 1, 8, 8)


def test_interrupt_between_runs_is_raised_at_the_next_run():
    done = []

    def restore_and_run():
        with deferred_interrupts():
            interrupt()
            done.append("restored")
            interruptible(lambda: done.append("ran"))

    with pytest.raises(KeyboardInterrupt):
        restore_and_run()
    assert done == ["restored"]
    assert (state.blocks, state.raises, state.pending) == (0, True, 0.0)


def test_interrupt_in_a_block_is_raised_at_the_end_of_the_outermost():
    done = []

    def nest():
        with deferred_interrupts():
            with deferred_interrupts():
                interrupt()
            done.append("inner")

    with pytest.raises(KeyboardInterrupt):
        nest()
    assert done == ["inner"]


def test_second_interrupt_after_patience_is_raised_at_once(monkeypatch):
    monkeypatch.setattr("saywhy.interrupts.PATIENCE", -1.0)
    done = []

    def insist():
        with deferred_interrupts():
            interrupt()
            done.append("first")
            interrupt()
            done.append("second")

    with pytest.raises(KeyboardInterrupt):
        insist()
    assert done == ["first"]


def test_handler_of_the_caller_gets_the_interrupt():
    """An asyncio runner, for one, cancels its task instead of raising KeyboardInterrupt."""
    got = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
    try:
        with deferred_interrupts():
            interrupt()
            assert got == []
        assert got == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) not in (signal.SIG_DFL, signal.default_int_handler)
    finally:
        signal.signal(signal.SIGINT, previous)


def test_ignored_interrupts_stay_ignored():
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred_interrupts():
            interrupt()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)


def test_state_is_restored_when_saving_it_fails():
    """A module whose mode cannot be set must not leave those before it in evaluation mode."""

    class Fixed(nn.Module):
        @property
        def training(self):
            return True

        @training.setter
        def training(self, value):
            if not value:
                raise RuntimeError("always in training mode")

    network = nn.Sequential(nn.ReLU(), Fixed())
    with pytest.raises(RuntimeError, match="always"):
        saywhy.explain(network, torch.rand(1, 3, 8, 8), 1)
    assert network[0].training
    assert network.training


def test_embedded_python_without_a_main_thread_defers_nothing(monkeypatch):
    def refuse(*_):
        raise ValueError("signal only works in main thread of the main interpreter")

    monkeypatch.setattr(signal, "signal", refuse)
    with deferred_interrupts():
        assert not state.raises
    assert (state.blocks, state.raises) == (0, True)
