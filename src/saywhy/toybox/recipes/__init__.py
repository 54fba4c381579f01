"""How the models that ship are trained."""
