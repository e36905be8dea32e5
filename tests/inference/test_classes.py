"""The class of a voxel is that of its greatest probability; MONAI and NumPy say the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted
from torch import Tensor

from dim_monai.inference import MostLikelyClassd


def classes(probabilities: Tensor) -> Tensor:
    found: Tensor = MostLikelyClassd("pred")({"pred": probabilities})["pred"]
    return found


@pytest.mark.parametrize("shape", [(2, 7, 8, 5), (3, 9, 11), (1, 4, 4), (256, 3, 2)])
def test_it_is_the_argmax(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    # Few values, so that there are ties; axes in an order that is not that of the memory.
    given = torch.randint(0, 4, shape[::-1]).float().permute(*reversed(range(len(shape))))
    found = classes(given)
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), given.numpy().argmax(axis=0)[None])
    other = AsDiscreted("pred", argmax=True)({"pred": given})["pred"]
    assert torch.equal(found.float(), other.as_tensor())


def test_the_geometry_stays() -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    given = MetaTensor(torch.rand(2, 3, 4, 5), affine=affine, meta={"filename_or_obj": "a.nii"})
    found = classes(given)
    assert isinstance(found, MetaTensor)
    assert torch.equal(found.affine, affine)
    assert found.meta["filename_or_obj"] == "a.nii"
    assert found.shape == (1, 3, 4, 5)


def test_a_key_may_be_missing_where_it_is_said() -> None:
    assert MostLikelyClassd("pred", allow_missing_keys=True)({}) == {}
    with pytest.raises(KeyError):
        MostLikelyClassd("pred")({})
