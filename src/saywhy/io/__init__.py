"""Files: explanations as npz, and files that are written whole or not at all."""
