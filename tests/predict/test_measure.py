"""Sizes, confidence and uncertainty against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dim_monai.errors import ConfigError
from dim_monai.predict.measure import (
    Structure,
    confidence,
    cup_to_disc,
    measure,
    structures_from_config,
    uncertainty,
    voxel_ml,
)
from tests.dicom_builder import ORIENTATIONS, affine_of


@given(p=st.floats(0, 1))
def test_two_classes_are_as_uncertain_as_their_binary_entropy(p: float) -> None:
    probabilities = np.array([[p], [1 - p]], dtype=np.float32)
    q = float(probabilities[0, 0])
    bits = -sum(x * math.log2(x) for x in (q, 1 - q) if x > 0)
    assert uncertainty(probabilities)[0] == pytest.approx(bits, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_uncertainty_is_0_for_one_class_1_for_a_guess_and_0_where_nothing_was_seen(
    classes: int,
) -> None:
    sure, guess, unseen = np.eye(classes)[1], np.full(classes, 1 / classes), np.zeros(classes)
    partly = 0.25 * guess
    values = uncertainty(np.stack([sure, guess, unseen, partly], axis=1).astype(np.float32))
    assert values == pytest.approx([0, 1, 0, 1], abs=1e-6)
    assert values.dtype == np.float32


def test_confidence_is_the_dice_of_the_mask_and_its_probabilities() -> None:
    mask = np.array([True, True, False, False])
    probability = np.array([0.9, 0.6, 0.4, 0.1], dtype=np.float32)
    assert confidence(mask, probability) == pytest.approx(2 * 1.5 / (2 + 2.0))
    assert confidence(mask, mask.astype(np.float32)) == 1
    assert confidence(~mask & mask, probability) is None


def test_confidence_falls_with_what_the_mask_leaves_out() -> None:
    mask = np.array([True, False, False])
    small, large = (np.array([0.9, p, p], dtype=np.float32) for p in (0.05, 0.45))
    assert confidence(mask, small) > confidence(mask, large)  # type: ignore[operator]


def test_a_structure_of_two_classes_is_their_union() -> None:
    labels = np.array([[0, 1, 2, 2]], dtype=np.uint8)
    probabilities = np.eye(3, dtype=np.float32)[labels].transpose(2, 0, 1)
    disc, cup = Structure("disc", (1, 2)), Structure("cup", (2,))
    found = measure(labels, probabilities, (disc, cup), 0.5)
    assert (found["disc"].size, found["cup"].size) == (1.5, 1.0)
    assert found["disc"].confidence == found["cup"].confidence == 1


def test_the_ratio_needs_both_structures() -> None:
    labels = np.zeros((6, 12), dtype=np.uint8)
    labels[1:5, 1:11] = 1
    labels[2:4, 3:8] = 2
    disc, cup = Structure("disc", (1, 2)), Structure("cup", (2,))
    assert cup_to_disc(labels, (disc, cup)) == 0.5
    assert cup_to_disc(labels, (disc,)) is None
    assert cup_to_disc(np.zeros_like(labels), (disc, cup)) is None


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_volume_of_a_voxel_is_the_product_of_its_edges(orientation: str) -> None:
    assert voxel_ml(affine_of(orientation, (2.0, 5.0, 10.0))) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("section", "word"),
    [
        (None, "does not say"),
        ({}, "does not say"),
        ({"a": {}}, "structure a"),
        ({"a": {"classes": [0]}}, "of 1 to 2"),
        ({"a": {"classes": [3]}}, "of 1 to 2"),
        ({"a": {"classes": [1], "code": ["1", "SCT"]}}, "code"),
        ({"a": {"classes": [1], "colour": "red"}}, "colour"),
    ],
)
def test_structures_that_cannot_be_meant_are_refused(section: object, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        structures_from_config(section, num_classes=3)


def test_structures_are_read_in_order() -> None:
    section = {"b": {"classes": [2], "code": [41216001, "SCT", "P"]}, "a": {"classes": [1, 2]}}
    assert structures_from_config(section, 3) == (
        Structure("b", (2,), ("41216001", "SCT", "P")),
        Structure("a", (1, 2)),
    )
