"""A small study without models."""

from study_fixtures import planted

__all__ = ["planted"]
