"""Semi-supervised medical image segmentation for MONAI bundles, after the idea of DiM."""

__version__ = "0.1.0"
