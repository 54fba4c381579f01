"""Recipes: how the models that ship were trained, and the command that trains each again."""
