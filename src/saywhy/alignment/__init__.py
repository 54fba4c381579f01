"""Training with explanations: HINT, its rivals, and the controls that tell hints from regularization."""
