"""Placeholder."""

from typing import Literal

Precision = Literal["exact", "fast"]
