"""Visual question answering: networks, readers, scores and ``ask``."""
