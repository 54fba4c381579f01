"""Features of image regions by bottom-up attention (Anderson et al., 2018, section 3.1), as they are released.

A Faster R-CNN trained on Visual Genome proposes regions of an image, 36 or 10 to 100, each with a box and the
mean-pooled features of its ResNet-101, 2048 numbers.
"""

from saywhy.tasks.region_features.hdf5 import RegionFile
from saywhy.tasks.region_features.regions import RegionFeatures
from saywhy.tasks.region_features.tsv import read_region_tsv

__all__ = ["RegionFeatures", "RegionFile", "read_region_tsv"]
