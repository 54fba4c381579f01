"""The same run on one core, and on two processes that share every batch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.nightly

pytest.importorskip("lightning_fabric", reason="recipes need the extra train")

SCRIPT = """
import json, sys
import torch
from saywhy.training.loop import Devices, Plan, optimize

torch.manual_seed(0)
network, x = torch.nn.Linear(3, 2), torch.randn(8, 3)
told = []

def loss(model, step, share):
    return (model(x[share]) ** 2).mean()

optimize(network, loss, 6, Plan((), batch=8, warmup=1), {}, report=lambda step, _: told.append(step),
        devices=Devices("cpu", int(sys.argv[1])))
print(json.dumps({"weights": network.weight.flatten().tolist(), "told": told}))
"""


@pytest.mark.slow
def test_two_processes_reach_the_weights_of_one(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    found = []
    for count in ("1", "2"):
        ran = subprocess.run([sys.executable, script, count], capture_output=True, text=True, timeout=300, check=False)
        assert ran.returncode == 0, ran.stderr
        (line,) = (line for line in ran.stdout.splitlines() if line.startswith("{"))  # one speaks, the other ends
        found.append(json.loads(line))
    one, two = found
    assert one["told"] == two["told"] == [1, 2, 3, 4, 5, 6]
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-5)
