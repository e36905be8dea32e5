"""CoarseToFine: a network that looks at a whole photograph first and then at the disc it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dim_monai.errors import ConfigError
from dim_monai.networks.windows import (
    Window,
    largest_component,
    look,
    put_back,
    roundness,
    window_around,
)

NEARLY_WHOLE = 0.8
"""A window of this share of the image is taken for all of it: a second look at it would enlarge by
less than 1.25 what the first has seen."""

STEADY = 0.05
"""Looking closer ends when the window moves by less than this share of its side."""

CERTAIN = 10.0
"""Logit of the background outside of the window, where the other classes have 0."""


class CoarseToFine(nn.Module):
    """Let a network of one input size segment the optic disc in photographs of any size.

    An image of exactly ``roi_size`` goes through ``network`` and nothing else happens: so do the
    patches of a training. Any other image is looked at several times:

    1. All of it, reduced to ``roi_size``. Each connected component of the disc classes may be the
       disc; those ``candidates`` that hold the most probability are looked at again.
    2. Squares of so many diameters as ``fields`` tells around the candidate, each resized to
       ``roi_size``. What the network sees there moves a square and changes its size, ``looks``
       times at most.
    3. The square is kept whose last look shows the roundest and surest disc (:func:`roundness`).
       Its logits are put back in their place; everything outside of the square is background.

    If the squares of the first candidate are about the whole image, as in one that is centred on a
    disc already, the first look is the answer; likewise if it shows no disc. So there is one way
    for regions and for whole photographs. The network alone says where the disc is: there is no
    rule about brightness.

    What a square shows beyond the image is filled with the darkest value of each channel, as a
    photograph is black around the retina. The network must have been trained on discs of both
    sizes, see :class:`dim_monai.data.field_of_view.RandFieldOfViewd`.

    The module has no weights of its own, and its state dict is that of ``network``: weights go from
    one to the other. Names of modules begin with ``network.``, as they do in any module.

    TorchScript has all of this by scripting. The looks depend on what they show, so a trace would
    keep those of one image: it is refused, but for ``torch.export`` of the plain network.

    Args:
        network: (B, C, *roi_size) to logits (B, K, *roi_size); class 0 is the background.
        roi_size: its input, pixels; a square.
        disc_classes: the classes that form the disc together.
        fields: sides of the squares in disc diameters. Networks trained on images cut out around
            the disc know it best at 2.5: in whole photographs (synthetic ones) they found 41 of 72
            discs at 2.5, 18 at 3.5 and 42 with both (Dice above 0.5). Networks trained on whole
            photographs know it best at 3.5: of 22 (real ones) they found 19, 22 and 22.
        candidates: how many components are looked at again.
        looks: at a candidate; a first square that cuts the disc off, or is too wide, is put right.

    Raises:
        ConfigError: ``roi_size`` is no square; or the search is traced.
    """

    def __init__(
        self,
        network: nn.Module,
        roi_size: Sequence[int] = (256, 256),
        disc_classes: Sequence[int] = (1, 2),
        *,
        fields: Sequence[float] = (2.5, 3.5),
        candidates: int = 3,
        looks: int = 2,
    ) -> None:
        super().__init__()
        if len(roi_size) != 2 or roi_size[0] != roi_size[1]:
            raise ConfigError("roi_size of CoarseToFine", got=list(roi_size), expected="a square")
        self.network = network
        self.size = int(roi_size[0])
        self.disc_classes = list(disc_classes)
        self.fields = [float(field) for field in fields]
        self.candidates, self.looks = candidates, looks
        # TorchScript reads attributes, not globals.
        self.nearly_whole, self.steady, self.certain = NEARLY_WHOLE, STEADY, CERTAIN
        self.register_state_dict_post_hook(_remove_prefix)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_add_prefix)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, W, H) of images (B, C, W, H), float."""
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            _refuse_trace(image, self.size)
        width, height = image.shape[2], image.shape[3]
        if width == self.size and height == self.size:
            logits: Tensor = self.network(image)
            return logits
        whole = (0, 0, width, height)
        coarse = self.network(look(image, whole, self.size))
        result = image.new_zeros((image.shape[0], coarse.shape[1], width, height))
        for index in range(image.shape[0]):
            seen, window = self.search(image[index : index + 1], coarse[index : index + 1])
            if window != whole:
                result[index, 0] = self.certain
            put_back(seen, window, result[index])
        return result

    def search(self, photo: Tensor, coarse: Tensor) -> tuple[Tensor, Window]:
        """Return the best look at the disc, logits (1, K, *roi_size), and the part it shows.

        Args:
            photo: (1, C, W, H).
            coarse: logits (1, K, *roi_size) of all of it.
        """
        width, height = photo.shape[2], photo.shape[3]
        whole = (0, 0, width, height)
        best, best_window, best_score = coarse, whole, -1.0
        probability = self.disc_probability(coarse)
        for _ in range(self.candidates):
            disc = largest_component(probability)
            for field in self.fields:
                window = self.window(disc, whole, field, width, height)
                if window == whole:  # seen already, or there is no candidate
                    continue
                seen, window, score = self.look_closer(photo, window, field)
                if score > best_score:
                    best, best_window, best_score = seen, window, score
            if best_window == whole:  # the first candidate is like that: the first look says all
                break
            probability = probability * (~disc)
        return best, best_window

    def look_closer(
        self, photo: Tensor, window: Window, field: float
    ) -> tuple[Tensor, Window, float]:
        """Return logits and window of the last of several looks, and how round its disc is."""
        width, height = photo.shape[2], photo.shape[3]
        seen = self.network(look(photo, window, self.size))
        for _ in range(self.looks - 1):
            disc = largest_component(self.disc_probability(seen))
            moved = self.window(disc, window, field, width, height)
            if moved == (0, 0, width, height) or self.is_steady(window, moved):
                break
            window = moved
            seen = self.network(look(photo, window, self.size))
        return seen, window, roundness(self.disc_probability(seen))

    def disc_probability(self, logits: Tensor) -> Tensor:
        """Return (*roi_size): the probability of disc, from logits (1, K, *roi_size)."""
        probability = torch.softmax(logits[0].float(), dim=0)
        return torch.stack([probability[k] for k in self.disc_classes]).sum(dim=0)

    def window(self, disc: Tensor, shown: Window, field: float, width: int, height: int) -> Window:
        """Return the square around a disc; all of the image if it would show no more, or no disc.

        Args:
            disc: (*roi_size) bool, where it was seen.
            shown: the part of the image that was looked at.
            field: side of the square in disc diameters.
            width: of the image, pixels.
            height: of the image, pixels.
        """
        window = window_around(disc, shown, field, width, height)
        nearly_whole = max(window[2], window[3]) > self.nearly_whole * max(width, height)
        return (0, 0, width, height) if nearly_whole else window

    def is_steady(self, window: Window, moved: Window) -> bool:
        """Return whether a window has hardly moved."""
        shift = max(abs(window[0] - moved[0]), abs(window[1] - moved[1]))
        growth = max(abs(window[2] - moved[2]), abs(window[3] - moved[3]))
        return max(shift, growth) < self.steady * max(window[2], window[3])


def _refuse_trace(image: Tensor, size: int) -> None:
    """Refuse to record one image's way through the search as that of all images."""
    is_exporting = torch.compiler.is_exporting() and tuple(image.shape[2:]) != (size, size)
    if torch.jit.is_tracing() or is_exporting:  # type: ignore[attr-defined, no-untyped-call]
        raise ConfigError(
            "the search for the disc cannot be traced: its way depends on the image",
            do=f"export by ckpt_export without use_trace, or {size} x {size} pixels by onnx_export",
        )


def _remove_prefix(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
) -> None:
    _rename(state, f"{prefix}network.", prefix)


def _add_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    _rename(state, prefix, f"{prefix}network.")


def _rename(state: dict[str, Any], old: str, new: str) -> None:
    """Replace the beginning of all names, keeping their order."""
    renamed = [(new + k[len(old) :] if k.startswith(old) else k, v) for k, v in state.items()]
    state.clear()
    state.update(renamed)
