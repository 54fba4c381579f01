"""Localized images: readers of published data sets, one a file."""
