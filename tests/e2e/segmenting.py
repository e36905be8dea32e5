"""What tests of inference share: networks of which the right mask is known, and how to use them.

In these images the first channel is bright in what is to be found: a ball in a volume, the disc in
a photograph, whose second channel is bright in the cup. A 1 x 1 convolution tells them apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from dim_monai.data.kinds import get_kind
from dim_monai.dicom.write import write_series
from dim_monai.errors import DimError
from tests import photograph_builder
from tests.bundles.examples import FUNDUS, PROSTATE, Example, copy_bundle, start
from tests.dicom_builder import affine_of, centres

RADIUS_MM = 21.0

# Logits of intensities in [-1, 1]: each class is the highest where it should be.
WEIGHTS = {
    PROSTATE.name: [[-10.0, 0.0, 0.0], [10.0, 0.0, 0.0]],  # of the slice itself alone
    FUNDUS.name: [[0.0, 0.0, 0.0], [20.0, 0.0, 0.0], [20.0, 20.0, 0.0]],
}


def threshold(example: Example, classes: int | None = None) -> dict[str, Any]:
    """Return the override that puts a 1 x 1 convolution in the place of the U-Net."""
    rows = WEIGHTS[example.name]
    convolution = {
        "_target_": "torch.nn.Conv2d",
        "in_channels": len(rows[0]),
        "out_channels": classes or len(rows),
        "kernel_size": 1,
    }
    return {"network_def" if example is PROSTATE else "unet": convolution}


def threshold_bundle(folder: Path, example: Example) -> Path:
    """Return a copy of a bundle with the weights of the threshold as its model."""
    bundle = copy_bundle(folder / example.name, example)
    rows = torch.tensor(WEIGHTS[example.name])
    weights = {"weight": rows[:, :, None, None], "bias": torch.zeros(len(rows))}
    torch.save(weights, bundle / "models" / "model.pt")
    return bundle


def segment(
    example: Example, bundle: Path, images: Path | str, output_dir: Path, **more: Any
) -> None:
    places = {"dataset_dir": str(images), "output_dir": str(output_dir)}
    settings = {**threshold(example), **places, **more}
    workflow = start(bundle, "inference.yaml", kind="inference", **settings)
    workflow.run()
    workflow.finalize()


def refusal(
    example: Example, bundle: Path, images: Path, output_dir: Path, **more: Any
) -> DimError:
    """Segment what must be refused; return our error."""
    with pytest.raises(RuntimeError) as caught:
        segment(example, bundle, images, output_dir, **more)
    assert not output_dir.exists()
    assert isinstance(caught.value.__cause__, DimError)
    return caught.value.__cause__


def mask_of(example: Example, case: str) -> str:
    """Return where the mask of a case lies, both below their folders."""
    kind, path = get_kind(example.kind), Path(case)
    name = case if path.suffix.strip(".").isdigit() else kind.case_name(path)
    return path.with_name(f"{Path(name).name}_seg{example.mask}").as_posix()


def write_plain(example: Example, path: Path) -> None:
    """Write a sound case."""
    if example is PROSTATE:
        affine = affine_of("axial", (1.25, 1.25, 3.0))
        write_volume(path, ball((96, 96, 20), affine), affine)
    else:
        photograph_builder.save(path, photograph((240, 200), (120, 90), 80))


# --- volumes


def ball(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Return a bright ball around the middle; brightness passes the middle at its surface."""
    points = centres(shape, affine)
    distance_mm = np.linalg.norm(points - middle(shape, affine), axis=1)
    return np.clip(500 + 100 * (RADIUS_MM - distance_mm), 0, 1000).reshape(shape).astype(np.int16)


def middle(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    return affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]


def write_volume(path: Path, image: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(image, affine), path)
    else:
        write_series(path, image, affine, seed_uid=path.name)


# --- photographs


def photograph(shape: tuple[int, int], centre: tuple[float, float], diameter: float) -> np.ndarray:
    """Return an upright photograph (W, H, 3): a disc, in it a cup of 0.7 of its diameter.

    The brightness of a channel passes the middle at the edge of what it shows.
    """
    distance = distances(shape, centre)
    edges = [diameter / 2, 0.7 * diameter / 2]
    disc, cup = (np.clip(128 + 40 * (edge - distance), 0, 255) for edge in edges)
    ramp = np.broadcast_to(np.linspace(0, 255, shape[0])[:, None], shape)
    return np.stack([disc, cup, ramp], axis=-1).astype(np.uint8)


def classes_of(shape: tuple[int, int], centre: tuple[float, float], diameter: float) -> np.ndarray:
    """Return the mask (W, H) of `photograph`."""
    distance = distances(shape, centre)
    return sum((distance < d / 2).astype(np.uint8) for d in (diameter, 0.7 * diameter))


def distances(shape: tuple[int, int], centre: tuple[float, float]) -> np.ndarray:
    x, y = np.indices(shape)
    return np.hypot(x + 0.5 - centre[0], y + 0.5 - centre[1])
