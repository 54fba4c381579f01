"""Trainings in tests run on one thread."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Commands of recipes set the number of threads of the whole process, and a busy machine may give fewer of several:
    sums are then split otherwise, and two runs are the same to the rounding only.
    """
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)
