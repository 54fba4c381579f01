"""What the channels of a layer stand for: textual explanations and deep feature factorization."""
