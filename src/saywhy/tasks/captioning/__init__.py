"""Image captioning: networks, readers and ``caption``."""
