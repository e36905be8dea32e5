"""What inference offers beyond the network: the mean over mirror images, small pieces dropped."""

from dim_monai.inference.components import RemoveSmallComponentsd
from dim_monai.inference.flips import FlipMeanInferer

__all__ = ["FlipMeanInferer", "RemoveSmallComponentsd"]
