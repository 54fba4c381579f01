"""Running a network and recording what happens inside, for any ``nn.Module``; without images, labels or methods."""
