"""How a request is run: its settings, the layers, the runner, and asking again."""
