"""Synthetic fundus photographs: one eye (`eye`, `vessels`, `retina`), one camera (`camera`).

The eye says what light the retina sends back at each point; the camera says how bright, how sharp,
of what colour and how noisy that becomes, and on which grid it is sampled.
"""

from dim_monai.data.phantom.fundus.camera import CAMERAS, Camera
from dim_monai.data.phantom.fundus.case import Phantom, make_phantom

__all__ = ["CAMERAS", "Camera", "Phantom", "make_phantom"]
