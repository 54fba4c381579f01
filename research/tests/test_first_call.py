"""The page that compares the first and later calls of two versions."""

import pytest
import typer

from research.benchmarks.first_call import main, page


def test_ratios_are_those_of_the_seconds_pair_by_pair():
    ours = [{"net": (2.0, 1.1, 1.0)}, {"net": (3.0, 1.2, 1.0)}, {"net": (4.0, 1.0, 2.0)}]
    theirs = [{"net": (2.0, 1.0, 0.5)}, {"net": (2.0, 1.0, 0.5)}, {"net": (2.0, 1.0, 0.5)}]
    text = page(ours, theirs, "commit 1234567")
    assert "The other version is commit 1234567. Median of 3 pairs" in text
    assert "| net | 2.00 | 4.00 | 1.50 (1.00 to 2.00) | 1.10 | 2.00 | 1.10 (1.00 to 1.20) |" in text


def test_a_folder_without_the_package_is_refused(tmp_path):
    with pytest.raises(typer.BadParameter, match="saywhy/"):
        main(against=tmp_path)
