"""Training in tests runs on one thread."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Set one thread: recipes set the number of threads of the process, and sums over several threads differ by
    rounding from run to run.
    """
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)
