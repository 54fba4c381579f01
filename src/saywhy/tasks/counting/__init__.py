"""Counting: networks that count the objects of every class, their data, baselines and training."""
