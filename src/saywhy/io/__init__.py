"""Files: explanations as npz and JSON, and atomic writes."""
