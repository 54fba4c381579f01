"""How a network is watched: it knows ``nn.Module`` and nothing of pictures, labels or methods."""
