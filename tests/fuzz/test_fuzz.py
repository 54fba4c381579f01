"""Random values, inputs and files: the outcome is a result or a SaywhyError, never another error, hang or bomb."""

import shutil

import pytest
import torch
from fuzz_cases import CASES, FOLDER
from fuzz_runner import Findings, run

SEED = 17


def assert_clean(found: Findings) -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    listed = "\n".join(found.wrong.values())
    assert not found.wrong, f"{len(found.wrong)} kinds of wrong outcomes in {found.cases} cases:\n{listed}"
    assert found.refused > found.cases / 10  # the values are strange enough


@pytest.mark.slow
def test_a_sample_of_random_calls_ends_in_results_or_saywhy_errors() -> None:
    with torch.random.fork_rng(devices=[]):
        assert_clean(run(CASES, 1_000, SEED))


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(5))
def test_random_calls_end_in_results_or_saywhy_errors(part: int) -> None:
    with torch.random.fork_rng(devices=[]):
        assert_clean(run(CASES, 8_000, SEED + 1 + part))
