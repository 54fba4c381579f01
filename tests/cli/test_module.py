"""``python -m saywhy``."""

import subprocess
import sys
from importlib.metadata import version

import pytest


@pytest.mark.slow
def test_python_m_saywhy_runs_the_command():
    ran = subprocess.run([sys.executable, "-m", "saywhy", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == f"saywhy {version('saywhy')}"
