"""Which DICOM series of a study a bundle segments: stated rules on stated attributes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from dim_monai.dicom.geometry import ORIENTATION_TOLERANCE, SliceHeader, are_orthonormal
from dim_monai.dicom.instance import damaged
from dim_monai.errors import ConfigError

SINGLE_IMAGE = "a single image, no volume"
PLANES = ("sagittal", "coronal", "axial")
"""By the patient's axis, x, y or z, that the normal of the images is nearest to."""

_TAGS = ["ImageType", "ScanningSequence", "EchoTime"]
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,15}")
"""What a code of the standard looks like; whatever else stands in a header is not repeated."""


@dataclass(frozen=True)
class SeriesRules:
    """What a series must be to be segmented; an attribute that it does not have excludes nothing.

    Attributes:
        modality: values of Modality that are taken; none takes every one.
        smallest_echo_time_ms: EchoTime from which it is taken, in ms; 0 takes every one.
        without_sequence: values of ScanningSequence that are passed over.
        plane: of `PLANES`, in which its images are; "" takes every one.
    """

    modality: tuple[str, ...] = ()
    smallest_echo_time_ms: float = 0
    without_sequence: tuple[str, ...] = ()
    plane: str = ""

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None) -> SeriesRules:
        """Return the rules of the section ``series`` of a config; None takes every volume.

        Raises:
            ConfigError: a rule that does not exist, or a value of another type.
        """
        rules = dict(section or {})
        known = cls.__dataclass_fields__
        if unknown := sorted(set(rules) - set(known)):
            raise ConfigError("unknown rule for series", got=unknown, expected=list(known))
        for name, value in rules.items():
            if name == "smallest_echo_time_ms":
                fits = isinstance(value, int | float) and value >= 0
            elif name == "plane":
                fits = value in ("", *PLANES)
            else:
                fits = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
                rules[name] = tuple(value) if fits else value
            if not fits:
                raise ConfigError(f"rule for series: {name}", got=repr(value))
        return cls(**rules)


def reason_to_skip(headers: Sequence[SliceHeader], rules: SeriesRules) -> str | None:
    """Return why a series is not segmented, None if it is.

    Only attributes that name nobody are looked at: Modality, ImageType, ScanningSequence and
    EchoTime of its first file, and the directions and number of its images.

    Args:
        headers: of its files, sorted by name.
        rules: of the bundle.

    Raises:
        DataError: its first file cannot be parsed.
    """
    first = headers[0]
    if not is_images(headers):
        return f"no images ({_codes([first.modality])})"
    if rules.modality and first.modality and first.modality not in rules.modality:
        return f"modality {_codes([first.modality])}, not {' or '.join(rules.modality)}"
    image_type, sequence, echo_time_ms = _attributes(first.file)
    if "LOCALIZER" in image_type:
        return "a localizer, by its ImageType"
    directions, share, usual = _directions(headers)
    if share <= 0.5:
        return f"a localizer: {directions} directions, none of them that of most images"
    plane = None if usual is None else _plane(usual)
    if rules.plane and plane not in (None, rules.plane):
        return f"{plane} images, not {rules.plane}"
    if passed := sorted(set(sequence) & set(rules.without_sequence)):
        return f"ScanningSequence {_codes(passed)}"
    if echo_time_ms is not None and echo_time_ms < rules.smallest_echo_time_ms:
        return f"EchoTime {echo_time_ms:g} ms, below {rules.smallest_echo_time_ms:g} ms"
    if len(headers) == 1 and not first.multi_frame:
        return SINGLE_IMAGE
    return None


def is_images(headers: Sequence[SliceHeader]) -> bool:
    """Whether a series holds images, and no segmentation, report or structure set."""
    return headers[0].rows is not None and headers[0].modality != "SEG"


def _attributes(file: Path) -> tuple[list[str], list[str], float | None]:
    try:
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        image_type, sequence = (_values(dataset.get(tag)) for tag in _TAGS[:2])
        echo_time = dataset.get("EchoTime")
        echo_time_ms = None if echo_time in (None, "") else float(echo_time)
    except Exception as error:  # as in dim_monai.dicom.instance
        raise damaged(file, type(error).__name__) from error
    return image_type, sequence, echo_time_ms


def _values(element: object) -> list[str]:
    if element is None:
        return []
    return [element] if isinstance(element, str) else [str(value) for value in element]  # type: ignore[attr-defined]


def _directions(
    headers: Sequence[SliceHeader],
) -> tuple[int, float, np.ndarray[Any, Any] | None]:
    """Return how many directions the images have, the share of the usual one, and that one.

    An image that states none, or nonsense, counts as one of the usual: it is refused later.
    """
    found: Counter[int] = Counter()
    seen: list[np.ndarray[Any, Any]] = []
    for header in headers:
        try:
            cosines = np.asarray(header.orientation, dtype=np.float64)
        except (TypeError, ValueError):
            continue
        if cosines.shape != (6,) or not np.isfinite(cosines).all():
            continue
        near = (n for n, one in enumerate(seen) if _same(one, cosines))
        place = next(near, len(seen))
        if place == len(seen):
            seen.append(cosines)
        found[place] += 1
    if not found:
        return 0, 1.0, None
    ((place, images),) = found.most_common(1)
    usual = images + len(headers) - found.total()
    return len(found), usual / len(headers), seen[place]


def _plane(cosines: np.ndarray[Any, Any]) -> str | None:
    """Return the plane of directions, None of nonsense, which is refused later."""
    if not are_orthonormal(cosines):
        return None
    normal = np.cross(cosines[:3], cosines[3:])
    return PLANES[int(np.abs(normal).argmax())]


def _same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return float(np.abs(one - other).max()) <= ORIENTATION_TOLERANCE


def _codes(values: Sequence[str]) -> str:
    return ", ".join(value if _CODE.fullmatch(value) else "unknown" for value in values)
