"""Tests of a saliency map, and the verdict."""
