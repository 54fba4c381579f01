"""Localized images: readers of published data sets, one per file."""
