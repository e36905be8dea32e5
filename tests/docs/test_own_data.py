"""What docs/how-to/own-data.md says of public sets holds for small copies of their layouts."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from dim_monai.data.labels import LabelMapping
from dim_monai.data.photograph import read_mask
from dim_monai.data.prepare.prepare import prepare
from dim_monai.dicom.write import write_series
from dim_monai.errors import DataError
from tests.docs.pages import DOCS, bundle_commands

PAGE = DOCS / "how-to" / "own-data.md"


def decathlon(root: Path) -> Path:
    affine = np.diag([0.6, 0.6, 4.0, 1.0])
    training = []
    for number in range(2):
        image, label = (
            f"{folder}/prostate_{number:02d}.nii.gz" for folder in ("imagesTr", "labelsTr")
        )
        both = np.stack([np.full((8, 8, 3), 10.0 + number), np.full((8, 8, 3), 99.0)], axis=3)
        both[0, 0, 0] += 1
        zones = np.zeros((8, 8, 3), dtype=np.uint8)
        zones[2:5, 2:5, 1], zones[5, 5, 1] = 1, 2
        for path, array in ((image, both.astype(np.float32)), (label, zones)):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, affine), root / path)
        training.append({"image": f"./{image}", "label": f"./{label}"})
    (root / "dataset.json").write_text(json.dumps({"training": training, "test": []}))
    return root


def run_program(library: str, folder: Path) -> None:
    """Run the one program of the page that imports a library, on a folder."""
    text = PAGE.read_text(encoding="utf-8")
    programs = re.findall(r"^    import sys\n(?:    .*\n|\n)+", text, re.MULTILINE)
    (program,) = (program for program in programs if f"import {library} " in program)
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), folder], check=True)


def test_the_program_for_the_labels_of_prostate_3t_keeps_their_grid(tmp_path: Path) -> None:
    draw, source = np.random.default_rng(0), tmp_path / "set"
    for name, corner in (("one", -20.0), ("two", 35.0)):
        label = draw.integers(0, 3, (9, 8, 4)).astype(np.uint8)
        affine = np.diag([-0.6, -0.6, 4.0, 1.0])
        affine[:3, 3] = corner
        write_series(source / name, 100 * label.astype(int), affine, seed_uid=name)
        image = sitk.GetImageFromArray(label.transpose())
        image.SetSpacing((0.6, 0.6, 4.0))
        image.SetOrigin((-corner, -corner, corner))  # LPS; the affine is RAS
        sitk.WriteImage(image, source / f"{name}.nrrd")
    run_program("SimpleITK", source)
    cases = prepare(source, tmp_path / "out", validation_fraction=0).datalist.labeled
    assert len(cases) == 2
    for case in cases:
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(case["image"]))
        volume = sitk.GetArrayFromImage(sitk.ReadImage(files))
        assert np.array_equal(volume, 100 * sitk.GetArrayFromImage(sitk.ReadImage(case["label"])))


def test_the_program_for_the_decathlon_leaves_the_first_volume(tmp_path: Path) -> None:
    source = decathlon(tmp_path / "set")
    with pytest.raises(DataError, match="wrong shape"):
        prepare(source, tmp_path / "refused", layout=None)
    run_program("nibabel", source)
    prepared = prepare(source, tmp_path / "taken", layout=None)
    assert prepared.layout == "decathlon"
    first = nib.load(source / "imagesTr" / "prostate_01.nii.gz")
    assert first.shape == (8, 8, 3)
    assert np.unique(first.get_fdata()).tolist() == [11.0, 12.0]
    assert np.allclose(first.affine, np.diag([0.6, 0.6, 4.0, 1.0]))


def test_the_masks_of_refuge_are_read_as_they_are_coded(tmp_path: Path) -> None:
    (given,) = (
        command[command.index("--label_classes") + 1]
        for command in bundle_commands(PAGE)
        if "--label_classes" in command
    )
    mapping = LabelMapping(ast.literal_eval(given))
    coded = np.full((6, 6), 255, dtype=np.uint8)
    coded[1:5, 1:5], coded[2:4, 2:4] = 128, 0
    Image.fromarray(coded).convert("RGB").save(tmp_path / "mask.png")
    classes = mapping.apply(read_mask(tmp_path / "mask.png"))
    # Rim is 1 and cup 2, as the regions of the bundle have it: 12 pixels around 4.
    assert np.bincount(np.asarray(classes).astype(int).ravel()).tolist() == [20, 12, 4]
