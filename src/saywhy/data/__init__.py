"""Pictures and data sets."""
