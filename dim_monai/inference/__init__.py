"""What inference offers beyond the network: the mean over mirror images, classes, small pieces."""

from dim_monai.inference.classes import MostLikelyClassd
from dim_monai.inference.components import RemoveSmallComponentsd
from dim_monai.inference.flips import FlipMeanInferer

__all__ = ["FlipMeanInferer", "MostLikelyClassd", "RemoveSmallComponentsd"]
