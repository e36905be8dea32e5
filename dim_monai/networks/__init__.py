"""Networks that MONAI lacks."""

from dim_monai.networks.coarse_to_fine import CoarseToFine

__all__ = ["CoarseToFine"]
