"""Concepts in a layer: textual explanations by channels, and deep feature factorization."""
