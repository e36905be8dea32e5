"""Laws of the climb and the return, against hand computations on quadratics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dim_monai.errors import ConfigError
from dim_monai.sharpness import (
    RULES,
    asam,
    get_rule,
    global_norm,
    kept_buffers,
    most_sensitive,
    orthogonal_direction,
    perturbed,
    random_share,
    sam,
    sharpness,
)

every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)


def random_tensors(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def flat(tensors: list[Tensor]) -> np.ndarray:
    return np.concatenate([tensor.detach().double().numpy().ravel() for tensor in tensors])


def bits(tensor: Tensor) -> list[int]:
    return tensor.detach().clone().view(torch.int32).ravel().tolist()


def spd_matrix(size: int, seed: int = 0) -> np.ndarray:
    root = np.random.default_rng(seed).normal(size=(size, size))
    return root @ root.T / size + np.eye(size)


def test_sam_on_a_quadratic_is_the_hand_computation() -> None:
    # L = |w|^2 / 2 at w = (3, 4): the gradient is w, its norm 5, the step 0.5 long.
    weights = [torch.tensor([3.0]), torch.tensor([[4.0]])]
    step = sam(weights, [w.clone() for w in weights], 0.5)
    assert [e.shape for e in step] == [(1,), (1, 1)]
    assert flat(step) == pytest.approx([0.3, 0.4])


def test_asam_on_a_quadratic_is_the_hand_computation() -> None:
    # T = (3, 4) without eta: T g = (9, 16), T^2 g = (27, 64), |T g| = sqrt(337).
    weights = [torch.tensor([-3.0]), torch.tensor([4.0])]
    step = asam(weights, [w.clone() for w in weights], 2.0, eta=0.0)
    assert flat(step) == pytest.approx(2.0 * np.array([-27.0, 64.0]) / np.sqrt(337.0))


def test_asam_follows_its_formula_with_eta() -> None:
    weights = random_tensors(0, (4, 3), (4,))
    gradients = random_tensors(1, (4, 3), (4,))
    size = np.abs(flat(weights)) + 0.2
    expected = 0.7 * size**2 * flat(gradients) / np.linalg.norm(size * flat(gradients))
    assert flat(asam(weights, gradients, 0.7, eta=0.2)) == pytest.approx(expected, rel=1e-5)


@every_rule
def test_radius_zero_does_not_move(rule) -> None:
    weights, gradients = random_tensors(0, (3, 2), (5,)), random_tensors(1, (3, 2), (5,))
    assert not flat(rule(weights, gradients, 0.0)).any()


@every_rule
def test_a_zero_gradient_does_not_move(rule) -> None:
    weights = random_tensors(0, (3, 2), (5,))
    assert not flat(rule(weights, [torch.zeros_like(w) for w in weights], 0.05)).any()


@every_rule
@pytest.mark.parametrize("scale", [2.0**-16, 3.7, 2.0**16])
def test_the_climb_does_not_see_the_scale_of_the_gradient(rule, scale) -> None:
    weights, gradients = random_tensors(0, (3, 2), (5,)), random_tensors(1, (3, 2), (5,))
    scaled = [scale * gradient for gradient in gradients]
    expected = flat(rule(weights, gradients, 0.05))
    assert flat(rule(weights, scaled, 0.05)) == pytest.approx(expected, rel=1e-5)


@every_rule
def test_the_climb_carries_no_graph(rule) -> None:
    weights = [w.requires_grad_() for w in random_tensors(0, (3, 2), (5,))]
    step = rule(weights, random_tensors(1, (3, 2), (5,)), 0.05)
    assert not any(e.requires_grad for e in step)


def test_what_the_climbed_gradient_has_and_the_plain_one_lacks_by_hand() -> None:
    # (3, 4, 0) less its part along (1, 0, 0) is (0, 4, 0).
    climbed = [torch.tensor([3.0]), torch.tensor([4.0, 0.0])]
    plain = [torch.tensor([2.0]), torch.zeros(2)]
    assert flat(orthogonal_direction(climbed, plain)) == pytest.approx([0.0, 1.0, 0.0])


@pytest.mark.parametrize("scale", [2.0**-20, 1.0, 2.0**30])
def test_the_remembered_direction_is_a_unit_vector_across_the_plain_gradient(scale) -> None:
    climbed, plain = random_tensors(0, (4, 3), (5,)), random_tensors(1, (4, 3), (5,))
    direction = orthogonal_direction([scale * c for c in climbed], [scale * p for p in plain])
    assert np.linalg.norm(flat(direction)) == pytest.approx(1.0, rel=1e-5)
    assert flat(direction) @ flat(plain) == pytest.approx(0.0, abs=1e-5)
    assert flat(direction) == pytest.approx(flat(orthogonal_direction(climbed, plain)), abs=1e-5)


def test_between_parallel_gradients_there_is_no_direction() -> None:
    plain = random_tensors(1, (4, 3), (5,))
    assert not flat(orthogonal_direction([3.7 * p for p in plain], plain)).any()


def drawn(share: float, seed: int, count: int = 10) -> list[int]:
    """Places that are drawn of ``count`` weight tensors."""
    weights = [torch.tensor(float(place)) for place in range(count)]
    return [int(w) for w in random_share(weights, share, torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize(("share", "count"), [(1.0, 10), (0.5, 5), (0.26, 3), (0.01, 1)])
def test_a_share_of_the_weights_is_drawn_each_once_and_in_order(share, count) -> None:
    places = drawn(share, seed=0)
    assert len(places) == count
    assert places == sorted(set(places))


def test_what_is_drawn_is_a_function_of_the_seed_and_fair() -> None:
    assert drawn(0.5, seed=7) == drawn(0.5, seed=7)
    often = np.bincount(np.concatenate([drawn(0.3, seed) for seed in range(1000)]), minlength=10)
    # 300 expected of each; the standard deviation is sqrt(1000 * 0.3 * 0.7) = 14.5.
    assert np.abs(often - 300).max() < 5 * 14.5


def test_the_most_sensitive_samples_are_those_whose_loss_rose_most_by_hand() -> None:
    before = torch.tensor([9.0, 1.0, 2.0, 3.0])
    after = torch.tensor([8.0, 4.0, 2.5, 5.0])  # rises: -1, 3, 0.5, 2
    assert [most_sensitive(before, after, share).tolist() for share in (0.01, 0.5, 0.75, 1.0)] == [
        [1],
        [1, 3],
        [1, 2, 3],
        [0, 1, 2, 3],
    ]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_no_sample_that_is_left_out_rose_more_than_one_that_is_not(share) -> None:
    before, after = random_tensors(0, (11,), (11,))
    chosen = most_sensitive(before, after, share).tolist()
    rise = flat([after]) - flat([before])
    left = sorted(set(range(11)) - set(chosen))
    assert len(chosen) == round(11 * share)
    assert rise[chosen].min() >= rise[left].max()


def rescaled_step(rule, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Climb on |w2 relu(w1 x)|^2 / 2 with w1 * factor and w2 / factor; return the climbed layers
    brought back to factor 1."""
    first, second, x = random_tensors(3, (4, 3), (1, 4), (3, 6))
    layers = [(first * factor).requires_grad_(), (second / factor).requires_grad_()]
    loss = (layers[1] @ torch.relu(layers[0] @ x)).square().mean() / 2
    step = rule(layers, torch.autograd.grad(loss, layers), 0.5)
    climbed = [(layer + e).detach().numpy() for layer, e in zip(layers, step, strict=True)]
    return climbed[0] / factor, climbed[1] * factor


def test_asam_is_the_same_for_two_scalings_of_one_network() -> None:
    def without_eta(weights, gradients, rho):
        return asam(weights, gradients, rho, eta=0.0)

    plain, rescaled = rescaled_step(without_eta, 1.0), rescaled_step(without_eta, 8.0)
    for one, other in zip(plain, rescaled, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
    # SAM has no such property: what is compared above does depend on the rule.
    assert not np.allclose(rescaled_step(sam, 8.0)[0], rescaled_step(sam, 1.0)[0], rtol=1e-2)


def test_the_norm_is_that_of_all_tensors_together() -> None:
    tensors = random_tensors(0, (3, 2), (5,), (1,))
    assert float(global_norm(tensors)) == pytest.approx(np.linalg.norm(flat(tensors)))


def test_the_norm_of_half_precision_does_not_overflow() -> None:
    # 1000 * sqrt(10000) = 1e5 lies beyond float16, whose largest number is 65504.
    norm = global_norm([torch.full((10_000,), 1000.0, dtype=torch.float16)])
    assert norm.dtype == torch.float32
    assert float(norm) == pytest.approx(1e5, rel=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_norm_shows_a_single_number_that_is_not_finite(value) -> None:
    assert not global_norm([torch.ones(9), torch.tensor([0.0, value])]).isfinite()


def network_weights() -> list[nn.Parameter]:
    """Weights of all sizes, with a negative zero, which x + e - e would lose."""
    values = [torch.tensor([-0.0, 1e-30, 0.1, -3e7]), torch.linspace(-1, 1, 12).view(3, 4)]
    return [nn.Parameter(value) for value in values]


def test_the_block_sees_the_sum_and_afterwards_the_same_bits_in_the_same_place() -> None:
    weights = network_weights()
    before = [(bits(w), w.data_ptr()) for w in weights]
    step = [torch.full_like(w, 0.3) for w in weights]
    expected = [(w + e).detach() for w, e in zip(weights, step, strict=True)]
    with perturbed(weights, step):
        assert all(map(torch.equal, weights, expected))
        assert [w.data_ptr() for w in weights] == [place for _, place in before]
    assert [(bits(w), w.data_ptr()) for w in weights] == before


@pytest.mark.parametrize("size", [1e30, float("nan"), float("inf")])
def test_the_weights_return_when_the_block_raises(size) -> None:
    weights = network_weights()
    before = [(bits(w), w.data_ptr()) for w in weights]
    with (
        pytest.raises(KeyboardInterrupt),
        perturbed(weights, [torch.full_like(w, size) for w in weights]),
    ):
        raise KeyboardInterrupt
    assert [(bits(w), w.data_ptr()) for w in weights] == before


def test_the_weights_return_when_the_perturbation_does_not_fit() -> None:
    weights = network_weights()
    before = [bits(w) for w in weights]
    with pytest.raises(RuntimeError), perturbed(weights, [torch.ones(4), torch.ones(5, 5)]):
        pytest.fail("the block began")
    assert [bits(w) for w in weights] == before


def test_the_gradient_of_the_block_is_that_of_the_climbed_point() -> None:
    matrix = spd_matrix(3)
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    here = weight.detach().numpy().copy()
    gradient = matrix @ here
    climbed = here + 0.1 * gradient / np.linalg.norm(gradient)
    with perturbed([weight], sam([weight], [torch.from_numpy(gradient)], 0.1)):
        (weight @ torch.from_numpy(matrix) @ weight / 2).backward()
    np.testing.assert_allclose(weight.grad.numpy(), matrix @ climbed, rtol=1e-9)
    np.testing.assert_array_equal(weight.detach().numpy(), here)


@pytest.mark.parametrize("fails", [False, True])
def test_running_statistics_do_not_see_the_block(fails) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    network(torch.randn(2, 1, 8, 8))
    before = {name: (b.clone(), b.data_ptr()) for name, b in network.named_buffers()}
    try:
        with kept_buffers(network):
            network(5 + torch.randn(2, 1, 8, 8))
            assert not torch.equal(network[1].running_mean, before["1.running_mean"][0])
            assert int(network[1].num_batches_tracked) == 2
            if fails:
                raise InterruptedError
    except InterruptedError:
        assert fails
    assert before  # a batch norm has buffers
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, before[name][0])
        assert buffer.data_ptr() == before[name][1]


@pytest.mark.parametrize("rho", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("rule", ["sam", "asam"])
def test_sharpness_of_a_quadratic_is_its_closed_form(rule, rho) -> None:
    # L = w'Aw / 2, hence L(w + e) - L(w) = g'e + e'Ae / 2 with g = Aw.
    matrix, point = spd_matrix(5), np.linspace(-1.0, 2.0, 5)
    gradient = matrix @ point
    size = np.ones(5) if rule == "sam" else np.abs(point) + 0.01
    step = rho * size**2 * gradient / np.linalg.norm(size * gradient)
    expected = gradient @ step + step @ matrix @ step / 2

    weight = nn.Parameter(torch.from_numpy(point.copy()))
    value = sharpness(
        lambda: weight @ torch.from_numpy(matrix) @ weight / 2, [weight], rule=rule, rho=rho
    )
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert weight.grad is None
    np.testing.assert_array_equal(weight.detach().numpy(), point)


def test_sharpness_of_a_plane_is_the_radius_times_its_slope() -> None:
    weights = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1))]
    assert sharpness(
        lambda: (3 * weights[0] + 4 * weights[1]).sum(), weights, rho=0.1
    ) == pytest.approx(0.5)


def test_an_unknown_rule_is_refused_with_the_known_ones() -> None:
    assert {name: get_rule(name) for name in RULES} == RULES
    with pytest.raises(ConfigError, match=r"'samm'.*asam.*sam"):
        get_rule("samm")
    weight = nn.Parameter(torch.ones(1))
    with pytest.raises(ConfigError, match="unknown sharpness rule"):
        sharpness(lambda: weight.sum(), [weight], rule="samm")
