"""Training with explanations: HINT, its baselines, and the controls that tell hints from regularization."""
