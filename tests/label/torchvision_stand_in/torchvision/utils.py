"""The two names that MONAI Label imports; to call one is an error."""

from typing import NoReturn


def make_grid(*args: object, **kwargs: object) -> NoReturn:
    raise NotImplementedError("this is the tests' stand-in for torchvision")


def save_image(*args: object, **kwargs: object) -> NoReturn:
    raise NotImplementedError("this is the tests' stand-in for torchvision")
