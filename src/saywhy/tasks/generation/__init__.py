"""What tasks that generate text share: networks, decoding, explanations of several texts, and training."""
