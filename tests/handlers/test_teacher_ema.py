"""The teacher: the law of its average, and that it is a network of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dim_monai.errors import ConfigError
from dim_monai.handlers import TeacherEMA
from dim_monai.methods import MeanTeacher
from tests.handlers.tiny import (
    Record,
    equal,
    make_batch,
    make_network,
    make_trainer,
    state_of,
    storage_of,
)


def fill(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.fill_(value)


@pytest.mark.parametrize(
    ("decay", "left"),
    [
        (0.9, [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]),  # 1/(n + 1): still lengthening
        (
            0.6,
            [1.0, 1 / 2, 0.6 / 2, 0.6**2 / 2, 0.6**3 / 2],
        ),  # 1/2, then the limit: 1/2 < 0.6 < 2/3
        (0.0, [1.0, 0.0, 0.0, 0.0, 0.0]),  # always a copy
    ],
)
def test_what_is_left_of_the_first_student_follows_the_law(decay: float, left: list[float]) -> None:
    """The first update copies the student, whose later value is constant."""
    student = make_network(nn.BatchNorm2d)
    teacher = TeacherEMA(student, decay)
    for update, share in enumerate(left):
        fill(student, 5.0 if update == 0 else 1.0)
        teacher.update()
        expected = torch.full((4,), 1.0 + 4.0 * share)
        torch.testing.assert_close(teacher.network[0].bias, expected)
        torch.testing.assert_close(teacher.network[1].running_mean, expected)
        torch.testing.assert_close(teacher.network[1].running_var, expected)
        assert teacher.network[1].num_batches_tracked == (5 if update == 0 else 1)
    assert teacher.updates == len(left)


def test_the_first_update_is_a_copy_bit_for_bit() -> None:
    student = make_network(nn.BatchNorm2d)
    teacher = TeacherEMA(student)
    make_trainer(student, [make_batch(0)], teacher).run()
    assert not equal(state_of(student), state_of(make_network(nn.BatchNorm2d)))
    assert equal(state_of(teacher.network), state_of(student))


def test_weights_that_two_layers_share_are_averaged_once() -> None:
    student = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    student[1].weight = student[0].weight
    teacher = TeacherEMA(student, decay=0.5)
    fill(student, 3.0)
    teacher.update()
    fill(student, 1.0)
    teacher.update()
    assert teacher.network[1].weight is teacher.network[0].weight
    torch.testing.assert_close(teacher.network[0].weight, torch.full((2, 2), 2.0))


def test_teacher_and_student_share_no_storage() -> None:
    student = make_network(nn.BatchNorm2d)
    teacher = TeacherEMA(student)
    make_trainer(student, [make_batch(0)] * 3, teacher).run()
    assert not set(storage_of(student).values()) & set(storage_of(teacher.network).values())


def test_the_teacher_evaluates_and_learns_nothing_by_itself() -> None:
    student = make_network(nn.BatchNorm2d, dropout=0.5)
    teacher = TeacherEMA(student)
    before: list[dict[str, Tensor]] = []
    seen: list[tuple[bool, bool, bool]] = []

    def look(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen.append((module.training, output.requires_grad, equal(state_of(module), before[-1])))

    teacher.network.register_forward_pre_hook(lambda *_: before.append(state_of(teacher.network)))
    teacher.network.register_forward_hook(look)
    modes = Record(lambda engine: (student.training, teacher.network.training))
    method = MeanTeacher(threshold=0.5)
    make_trainer(student, [make_batch(0)] * 2, teacher, modes, method=method).run()
    # Not in training mode, no gradient, and a forward pass leaves the running statistics alone.
    assert seen == [(False, False, True)] * 2
    assert modes.seen == [(True, False)] * 2
    assert not any(weight.requires_grad for weight in teacher.network.parameters())


def test_a_restored_teacher_goes_on_as_if_nothing_had_happened() -> None:
    student = make_network(nn.BatchNorm2d)
    teacher, restored = TeacherEMA(student, 0.9), TeacherEMA(student, 0.9)
    for value in (5.0, 2.0, 3.0):
        fill(student, value)
        teacher.update()
    restored.load_state_dict(teacher.state_dict())
    assert equal(state_of(restored.network), state_of(teacher.network))
    fill(student, 1.0)
    teacher.update()
    restored.update()
    assert equal(state_of(restored.network), state_of(teacher.network))
    assert restored.updates == 4


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_averages_nothing_is_refused(decay: float) -> None:
    with pytest.raises(ConfigError, match="decay"):
        TeacherEMA(make_network(), decay)
