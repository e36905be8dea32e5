"""Laws of the methods: which pixels, targets and trust the student sees, with stub teachers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dim_monai.errors import ConfigError
from dim_monai.methods import Batch, MeanTeacher, Method, MiDSS, Stream, Supervised
from dim_monai.methods.base import teacher_probability, trust_in_teacher
from dim_monai.objectives import View

METHODS = [Supervised(), MeanTeacher(), MiDSS()]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
taught = pytest.mark.parametrize("method", METHODS[1:], ids=lambda m: type(m).__name__)

SHAPES = [(24, 20), (12, 10, 8)]
STRONG = 100.0  # the strong view lies this much above the weak one: a pixel tells where it is from
STEEPNESS = 12.0


class Relative(nn.Module):
    """Says class 1 where a pixel exceeds the mean of its image: the answer changes with the
    surroundings, as a real network's does."""

    def __init__(self) -> None:
        super().__init__()
        self.steepness = nn.Parameter(torch.tensor(STEEPNESS))
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(image)
        pixels = tuple(range(1, image.ndim))
        above = self.steepness * (image - image.mean(dim=pixels, keepdim=True))
        return torch.cat([torch.zeros_like(above), above], dim=1)


class Absolute(nn.Module):
    """Says class 1 where a pixel exceeds 0.7, and is sure of nearly all it says."""

    def forward(self, image: Tensor) -> Tensor:
        above = 50 * (image - 0.7)
        return torch.cat([torch.zeros_like(above), above], dim=1)


class Constant(nn.Module):
    """Says class 2 of three, everywhere, and is sure in the upper half of the image only."""

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.zeros(len(image), 3, *image.shape[2:])
        logits[:, 2] = 1.0
        logits[:, 2, : image.shape[2] // 2] = 50.0
        return logits


def relative_probability(images: np.ndarray) -> np.ndarray:
    """Probability of class 1 that :class:`Relative` gives, in NumPy."""
    mean = images.mean(axis=tuple(range(1, images.ndim)), keepdims=True)
    return 1 / (1 + np.exp(-STEEPNESS * (images - mean)))


def decide(probability: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return class and trust, for two classes: surer than the threshold or the class's mean."""
    label, largest = probability > 0.5, np.maximum(probability, 1 - probability)
    means = np.array([largest[label == k].mean() for k in (False, True)])
    return label, largest > np.minimum(means, threshold)[label.astype(int)]


def batch(shape: tuple[int, ...] = SHAPES[0], labelled: int = 3, unlabelled: int = 3) -> Batch:
    """Labelled images in [0.4, 0.6]; unlabelled ones in [0, 1] with both ends, so that no
    amplitude transfer between them is clipped."""
    generator = torch.Generator().manual_seed(0)
    x = 0.4 + 0.2 * torch.rand((labelled, 1, *shape), generator=generator)
    y = torch.randint(2, (labelled, 1, *shape), generator=generator)
    u = torch.rand((unlabelled, 1, *shape), generator=generator)
    u.flatten(1)[:, 0], u.flatten(1)[:, 1] = 0.0, 1.0
    return Batch(Stream(x, x + STRONG, y), Stream(u, u + STRONG))


def pose(
    method: Method, data: Batch, teacher: nn.Module | None, progress: float = 0.0, seed: int = 0
) -> tuple[dict[str, View], dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    views, numbers = method.views(data, teacher, progress, generator)
    assert len({view.term for view in views}) == len(views)
    return {view.term: view for view in views}, numbers


@dataclass(frozen=True)
class Mixed:
    """What MiDSS made of a batch, with its boxes as the pixels show them."""

    views: dict[str, View]
    numbers: dict[str, Any]
    data: Batch
    inside: Tensor

    @property
    def styled(self) -> Tensor:
        """The labelled image that the two mixtures hold between them."""
        one, other = self.views["labelled_in_box"], self.views["unlabelled_in_box"]
        return torch.where(self.inside, one.image, other.image)


def midss(
    shape: tuple[int, ...] = SHAPES[0],
    teacher: nn.Module | None = None,
    progress: float = 0.0,
    **settings: float,
) -> Mixed:
    data = batch(shape)
    views, numbers = pose(MiDSS(**settings), data, teacher or Relative(), progress)
    return Mixed(views, numbers, data, views["labelled_in_box"].image < STRONG / 2)


@every_method
def test_every_method_has_the_supervised_term_of_the_strong_view(method) -> None:
    data = batch()
    view = pose(method, data, Relative())[0]["supervised"]
    assert torch.equal(view.image, data.labelled.strong)
    assert torch.equal(view.target, data.labelled.label)
    assert view.weight is None
    assert (view.coefficient, view.origin) == (1.0, "labelled")


@every_method
def test_without_unlabelled_images_a_method_is_supervised(method) -> None:
    views, numbers = pose(method, replace(batch(), unlabelled=None), teacher=None)
    assert list(views) == ["supervised"]
    assert numbers == {}


@every_method
def test_labelled_images_without_labels_are_refused(method) -> None:
    data = batch()
    data = replace(data, labelled=replace(data.labelled, label=None))
    with pytest.raises(ValueError, match="no label"):
        pose(method, data, Relative())


def test_all_but_the_baseline_ask_for_their_teacher() -> None:
    assert list(pose(Supervised(), batch(), teacher=None)[0]) == ["supervised"]
    for method in METHODS[1:]:
        with pytest.raises(ValueError, match="needs a teacher"):
            pose(method, batch(), teacher=None)


@taught
def test_nothing_that_the_teacher_says_carries_a_gradient(method) -> None:
    teacher = Relative()
    views, numbers = pose(method, batch(), teacher, progress=0.5)
    assert len(views) > 1
    for view in views.values():
        tensors = (view.image, view.target, view.weight)
        assert not any(tensor.requires_grad for tensor in tensors if tensor is not None)
    assert not any(n.requires_grad for n in numbers.values() if isinstance(n, Tensor))
    assert teacher.steepness.grad is None


def test_the_teacher_answers_all_batches_in_one_pass_without_a_graph() -> None:
    teacher, data = Relative(), batch(unlabelled=2)
    answers = teacher_probability(teacher, data.labelled.weak, data.unlabelled.weak)
    assert len(teacher.seen) == 1
    assert [len(answer) for answer in answers] == [3, 2]
    for answer, stream in zip(answers, (data.labelled, data.unlabelled), strict=True):
        assert not answer.requires_grad
        expected = relative_probability(stream.weak.double().numpy())
        np.testing.assert_allclose(answer[:, 1:].numpy(), expected, atol=1e-6)
        np.testing.assert_allclose(answer.sum(dim=1).numpy(), 1, atol=1e-6)


@taught
def test_an_image_in_which_nothing_is_found_teaches_nothing_if_it_is_not_trusted(method) -> None:
    data = batch()
    weak = data.unlabelled.weak.clone()
    weak[0] = 0.1
    data = replace(data, unlabelled=Stream(weak, weak + STRONG))
    trusting, numbers = pose(replace(method, trust_empty=True), data, Absolute(), progress=0.5)
    wary, fewer = pose(replace(method, trust_empty=False), data, Absolute(), progress=0.5)
    del trusting["supervised"]
    for term, view in trusting.items():
        unlabelled = view.image > STRONG / 2
        assert view.weight[0][unlabelled[0]].all()
        assert not wary[term].weight[0][unlabelled[0]].any()
        assert wary[term].weight[0][~unlabelled[0]].all()
        assert torch.equal(wary[term].weight[1:], view.weight[1:])
        assert torch.equal(wary[term].target, view.target)
    assert fewer["coverage"] == pytest.approx(numbers["coverage"] - 1 / 3)


@taught
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_views_fit_the_loss(method, shape) -> None:
    data = batch(shape)
    for view in pose(method, data, Relative(), progress=0.5)[0].values():
        assert view.image.shape == view.target.shape == (3, 1, *shape)
        assert view.target.dtype == torch.int64
        if view.weight is not None:
            assert view.weight.shape == view.target.shape
            assert view.weight.is_floating_point()
            assert set(view.weight.unique().tolist()) <= {0.0, 1.0}


@taught
def test_views_follow_their_generator_alone(method) -> None:
    torch.manual_seed(1)
    one = pose(method, batch(), Relative(), progress=0.5, seed=3)[0]
    torch.manual_seed(2)
    again = pose(method, batch(), Relative(), progress=0.5, seed=3)[0]
    assert one.keys() == again.keys()
    for term, view in one.items():
        assert torch.equal(view.image, again[term].image)
        assert torch.equal(view.target, again[term].target)
        if view.weight is not None:
            assert torch.equal(view.weight, again[term].weight)


def test_midss_draws_other_boxes_from_another_generator() -> None:
    one, other = (pose(MiDSS(), batch(), Relative(), seed=s)[0]["labelled_in_box"] for s in (3, 4))
    assert not torch.equal(one.image, other.image)


@taught
def test_the_batch_is_not_changed(method) -> None:
    data = batch()
    pose(method, data, Relative(), progress=0.9)
    fresh = batch()
    for stream, untouched in ((data.labelled, fresh.labelled), (data.unlabelled, fresh.unlabelled)):
        assert torch.equal(stream.weak, untouched.weak)
        assert torch.equal(stream.strong, untouched.strong)


@pytest.mark.parametrize("threshold", [0.6, 0.9])
def test_mean_teacher_explains_the_strong_view_by_the_label_of_the_weak_one(threshold) -> None:
    data, teacher = batch(), Relative()
    views, numbers = pose(MeanTeacher(threshold=threshold), data, teacher)
    (seen,) = teacher.seen
    assert torch.equal(seen, torch.cat([data.unlabelled.weak, data.labelled.weak]))
    view = views["consistency"]
    label, sure = decide(relative_probability(data.unlabelled.weak.double().numpy()), threshold)
    assert torch.equal(view.image, data.unlabelled.strong)
    np.testing.assert_array_equal(view.target.numpy(), label)
    np.testing.assert_array_equal(view.weight.numpy(), sure)
    assert view.origin == "unlabelled"
    assert 0 < sure.mean() < 1
    assert float(numbers["coverage"]) == pytest.approx(sure.mean())


@pytest.mark.parametrize("progress", [0.0, 0.2, 0.4, 0.9])
def test_coefficients_follow_the_ramp_and_the_trust_in_the_teacher(progress) -> None:
    data = batch()
    found = relative_probability(data.labelled.weak.double().numpy())
    truth = data.labelled.label.numpy()
    dice = (2 * (found * truth).sum() + 1) / (found.sum() + truth.sum() + 1)
    trust = max(0.0, 2 * dice - 1)
    ramp = 2.0 * math.exp(-5 * (1 - min(progress / 0.4, 1)) ** 2) * trust
    settings = {"ramp_length": 0.4, "weight": 2.0}
    views, numbers = pose(MeanTeacher(**settings), batch(), Relative(), progress)
    assert float(views["consistency"].coefficient) == pytest.approx(ramp, rel=1e-5)
    assert float(numbers["unlabelled_weight"]) == pytest.approx(ramp, rel=1e-5)
    assert float(numbers["teacher_trust"]) == pytest.approx(trust, rel=1e-5)

    views, numbers = pose(MiDSS(**settings), batch(), Relative(), progress)
    coefficients = {term: float(view.coefficient) for term, view in views.items()}
    assert coefficients == pytest.approx(
        {
            "supervised": 1.0,
            "labelled_in_box": ramp,
            "unlabelled_in_box": ramp,
            "symmetric": ramp**2,
        },
        rel=1e-5,  # float32, and 2 D - 1 loses a digit
    )
    assert float(numbers["unlabelled_weight"]) == pytest.approx(ramp, rel=1e-5)


class Background(nn.Module):
    """Sure of background, whatever it sees: the state in which self-training is stuck."""

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.zeros(len(image), 2, *image.shape[2:])
        logits[:, 0] = 50.0
        return logits


@taught
def test_a_teacher_that_sees_no_foreground_has_no_say(method) -> None:
    views, numbers = pose(method, batch(), Background(), progress=1.0)
    assert float(numbers["teacher_trust"]) == 0
    assert {float(view.coefficient) for term, view in views.items() if term != "supervised"} == {0}


def test_trust_is_whole_for_the_right_answer_and_where_there_is_nothing_to_find() -> None:
    label = torch.tensor([0, 1, 2, 2]).view(1, 1, 2, 2)
    right = torch.nn.functional.one_hot(label[:, 0], 3).movedim(-1, 1).float()
    assert float(trust_in_teacher(right, label)) == 1
    nothing = torch.zeros_like(label)
    assert float(trust_in_teacher(torch.eye(3)[:, :1, None].expand(3, 2, 2)[None], nothing)) == 1


@pytest.mark.parametrize("shown", [(0, 1), (0, 2), (0, 1, 2)])
def test_trust_asks_for_the_classes_that_are_there(shown: tuple[int, ...]) -> None:
    """Of a class that is not, one part in a thousand of each pixel is 4 pixels: no reason."""
    label = torch.tensor(shown).repeat_interleave(4096 // len(shown)).view(1, 1, 1, -1)
    right = torch.nn.functional.one_hot(label[:, 0], 3).movedim(-1, 1).float()
    assert float(trust_in_teacher(0.998 * right + 0.001, label)) > 0.99


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_midss_exchanges_one_box_both_ways(shape) -> None:
    made = midss(shape)
    strong, inside = made.data.unlabelled.strong, made.inside
    for box in inside[:, 0].numpy():
        edges = [slice(where.min(), where.max() + 1) for where in np.nonzero(box)]
        assert box[tuple(edges)].all()
        assert 0 < box.sum() < box.size
    one, other = made.views["labelled_in_box"].image, made.views["unlabelled_in_box"].image
    assert torch.equal(one[~inside], strong[~inside])
    assert torch.equal(other[inside], strong[inside])
    # At the beginning of the training the labelled image keeps its style.
    torch.testing.assert_close(made.styled, made.data.labelled.weak, rtol=0, atol=1e-6)


def test_midss_moves_the_labelled_image_toward_the_style_of_its_partner() -> None:
    # Of 20 pixels one per cent is no frequency beside the mean: the mean alone moves.
    made = midss(progress=0.8)
    x, u = made.data.labelled.weak, made.data.unlabelled.weak
    moved = (made.styled - x).flatten(1)
    assert moved.std(dim=1).max() < 1e-5
    share = moved.mean(dim=1) / (u - x).flatten(1).mean(dim=1)
    assert ((share > 0) & (share < 0.8)).all()
    assert len(set(share.tolist())) == 3


def test_midss_exchanges_targets_and_trust_with_the_pixels() -> None:
    made = midss(teacher=Constant())
    y, inside = made.data.labelled.label, made.inside
    sure = torch.zeros_like(y, dtype=torch.float32)
    sure[:, :, : y.shape[2] // 2] = 1.0
    pseudo, full = torch.full_like(y, 2), torch.ones_like(sure)
    assert (inside & (sure == 0)).any()
    assert (~inside & (sure == 0)).any()

    one, other = made.views["labelled_in_box"], made.views["unlabelled_in_box"]
    assert torch.equal(one.target, torch.where(inside, y, pseudo))
    assert torch.equal(one.weight, torch.where(inside, full, sure))
    assert torch.equal(other.target, torch.where(inside, pseudo, y))
    assert torch.equal(other.weight, torch.where(inside, sure, full))
    assert {one.origin, other.origin} == {"mixed"}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_symmetric_term_counts_only_where_both_labels_agree(shape) -> None:
    threshold = 0.6
    made = midss(shape, progress=0.7, threshold=threshold)
    x, u = (s.weak.double().numpy() for s in (made.data.labelled, made.data.unlabelled))
    inside = made.inside.numpy()
    label, sure = decide(relative_probability(u), threshold)
    # Each weak mixture holds the unlabelled image on one side of the box.
    u_outside = relative_probability(np.where(inside, x, u))
    u_inside = relative_probability(np.where(inside, u, x))
    merged, merged_sure = decide(np.where(inside, u_inside, u_outside), threshold)
    agreed = sure & merged_sure & (label == merged)

    view = made.views["symmetric"]
    assert torch.equal(view.image, made.data.unlabelled.strong)
    assert view.origin == "unlabelled"
    np.testing.assert_array_equal(view.target.numpy(), merged)
    np.testing.assert_array_equal(view.weight.numpy(), agreed)
    assert 0 < agreed.mean() < sure.mean()  # the mixtures did change some answers
    assert float(made.numbers["coverage"]) == pytest.approx(sure.mean())
    assert float(made.numbers["agreement"]) == pytest.approx(agreed.mean())


def test_a_pixel_on_which_the_labels_differ_is_not_trusted_however_sure_both_are() -> None:
    class Fickle(nn.Module):
        """Sure of class 0 on the first part of its batch, the plain images, and of 1 after."""

        def forward(self, image: Tensor) -> Tensor:
            logits = torch.zeros(len(image), 2, *image.shape[2:])
            plain = len(image) // 4
            logits[:plain, 0], logits[plain:, 1] = 50.0, 50.0
            return logits

    view = midss(teacher=Fickle()).views["symmetric"]
    assert (view.target == 1).all()
    assert not view.weight.any()


@pytest.mark.parametrize(("labelled", "unlabelled"), [(2, 4), (4, 2)])
def test_midss_refuses_images_without_a_partner(labelled, unlabelled) -> None:
    with pytest.raises(ConfigError, match=f"{labelled} labelled and {unlabelled} unlabelled"):
        pose(MiDSS(), batch(labelled=labelled, unlabelled=unlabelled), Relative())
