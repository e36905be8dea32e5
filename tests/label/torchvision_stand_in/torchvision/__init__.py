"""A stand-in for torchvision, for these tests alone.

Where PyTorch is a build for the CPU, the usual index of pip has no torchvision that it can load.
MONAI Label imports two functions of it at the top of a module and calls them only to draw pictures
of its DeepEdit training, which no test here does. Nothing else is replaced.
"""

__version__ = "0.28.0+stand.in"
