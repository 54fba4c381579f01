"""How a network is watched: it knows ``nn.Module`` and nothing of images, labels or methods."""
