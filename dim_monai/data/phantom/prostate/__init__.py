"""Synthetic prostate MRI: one patient's pelvis (`anatomy`), seen by one site's scanner (`scanner`).

The patient says which tissue fills each point; the site says how bright, how sharp and how noisy
each tissue becomes, and on which grid it is sampled. What differs between sites is therefore what
differs between real scanners, and never the anatomy. The images serve demonstrations and tests; no
number measured on them says anything about patients.
"""

from dim_monai.data.phantom.prostate.case import Phantom, make_phantom
from dim_monai.data.phantom.prostate.scanner import SITES, Site

__all__ = ["SITES", "Phantom", "Site", "make_phantom"]
