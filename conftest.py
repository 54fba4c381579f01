"""What all tests share: the folder of real weights and images, and networks of a few hundred weights."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from oracles.networks import TinyNetwork

# These networks are small: two threads wait for one another, and for other processes, longer than they compute.
torch.set_num_threads(1)

REAL = Path(os.environ.get("SAYWHY_REAL") or Path(__file__).parents[1] / "shared" / "real")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Commands that train set the number of threads of the whole process: the tests behind theirs would be ten times as
    slow, and sums that are split between threads are the same to the rounding only.
    """
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real weights and images; tests that need it are skipped where it is absent."""
    if not REAL.is_dir():
        pytest.skip(f"there is no folder of real images '{REAL}'; SAYWHY_REAL names another")
    return REAL


@pytest.fixture(scope="session")
def tiny() -> Callable[..., nn.Module]:
    """Builds the network that most tests explain: two convolutions, pooling, a linear head; layer "features"."""
    return TinyNetwork.build


@pytest.fixture(scope="session")
def images() -> Callable[..., torch.Tensor]:
    """Builds random images [batch, 3, side, side]."""

    def build(batch: int = 2, side: int = 12, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, 3, side, side, generator=generator, dtype=torch.float64).to(dtype)

    return build
