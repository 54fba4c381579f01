"""Run calls of saywhy, send a real SIGINT in the middle of each, and print what it left behind as JSON.

``python interrupted.py COUNT SEED``. A process of its own, because a signal that comes late would end the tests.
"""

import copy
import json
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import saywhy
from saywhy import interrupts
from saywhy.engine import exclusive, preserve


class Network(nn.Module):
    """Attention over a feature map; batch norms, dropout, a counter in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU()
        )
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.fc(self.drop(self.features(x).mean((2, 3))))


def build() -> Network:
    torch.manual_seed(0)
    network = Network().train()
    network.fc.weight.requires_grad_(False)
    return network


IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def metrics(network: nn.Module) -> Any:
    explanation = saywhy.explain(network, IMAGE, 1)
    return saywhy.metrics.measure(explanation, ["deletion", "parameter-randomization"])


def dropout(network: nn.Module) -> Any:
    return saywhy.uncertainty.estimate(saywhy.uncertainty.mc_dropout(network, num_samples=6), IMAGE)


def explained(method: str, **settings: Any) -> Callable[[nn.Module], Any]:
    return lambda network: saywhy.explain(network, IMAGE, 1, method, **settings)


JOBS: dict[str, Callable[[nn.Module], Any]] = {
    "gradcam": explained("gradcam"),
    "guided": explained("guided-gradcam", layer="features"),
    "fullgrad": explained("fullgrad"),
    "excitation": explained("excitation-backprop", layer="features"),
    "reciprocam": explained("reciprocam"),
    "scorecam": explained("scorecam"),
    "rise": explained("rise", masks=32),
    "fast": explained("gradcam", precision="fast"),
    "layers": lambda network: saywhy.layers(network, IMAGE),
    "capture": lambda network: saywhy.capture(network, IMAGE, [0, 1, 2, 0]).gradients(),
    "check": lambda network: saywhy.check(saywhy.explain(network, IMAGE, 1)),
    "metrics": metrics,
    "dropout": dropout,
}


def state_of(network: nn.Module) -> dict[str, Any]:
    """All that an interrupt may leave behind."""
    return {
        "training": [m.training for m in network.modules()],
        "hooks": [
            len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules()
        ],
        "buffers": [b.tolist() for b in network.buffers()],
        "requires_grad": [(p.requires_grad, p.grad is None) for p in network.parameters()],
        "random": torch.get_rng_state().tolist(),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        "modes": (torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()),
        "warnings": [str(entry) for entry in warnings.filters],
        "handler": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "interrupts": (interrupts.state.blocks, interrupts.state.raises, interrupts.state.pending),
        "locks": (len(exclusive._turns.held), len(exclusive._turns.waiting), preserve._lock.locked()),
        "blocks": (len(preserve._saved_states), len(preserve._random_blocks), len(preserve._stances)),
    }


def output_of(network: nn.Module) -> Any:
    """The output, which depends on the weights, the buffers and the hooks."""
    with torch.no_grad():
        return copy.deepcopy(network).eval()(IMAGE).tolist()


def main(count: int, seed: int) -> None:
    draw = random.Random(seed)
    sys.setswitchinterval(1e-5)
    network = build()
    seconds = {}
    for name, job in JOBS.items():
        job(copy.deepcopy(network))  # imports, once
        start = time.perf_counter()
        job(copy.deepcopy(network))
        seconds[name] = time.perf_counter() - start
    before, output, left, came = state_of(network), output_of(network), [], 0

    def unraisable(found: Any) -> None:
        # Python ignores an interrupt that comes in a finaliser or in the callback of a weak reference.
        nonlocal came
        came += isinstance(found.exc_value, KeyboardInterrupt)

    sys.unraisablehook = unraisable
    for number in range(count):
        name = draw.choice(list(JOBS))
        cold = copy.deepcopy(network) if draw.random() < 0.5 else network
        delay = draw.uniform(0, 1.1 * seconds[name])

        def interrupt(delay: float = delay) -> None:
            time.sleep(delay)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        try:
            thread.start()
            JOBS[name](cold)
            thread.join()
            time.sleep(0)
        except KeyboardInterrupt:
            came += 1
        thread.join()
        after = state_of(cold)
        changed = [key for key in before if before[key] != after[key]]
        if output_of(cold) != output:
            changed.append("output")
        if changed:
            left.append([number, name, changed])
            network = build()
            preserve._saved_states.clear()
    print(json.dumps({"came": came, "left": left}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
