"""Settings that no run can use are refused, all at once, and usable ones never are."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.networks.nets import UNet

from dim_monai.bundle import check_settings
from dim_monai.bundle.settings import PATHS, RULES, TERMS
from dim_monai.divergence import DIVERGENCES
from dim_monai.engine import PRECISIONS
from dim_monai.errors import ConfigError
from dim_monai.handlers.f_divergence import COMPARE, ESTIMATORS, NAME
from dim_monai.methods import Batch, MeanTeacher, MiDSS, Stream, Supervised
from dim_monai.metrics.case import BothEmpty
from dim_monai.sharpness import RULES as SHARPNESS_RULES

CHECK = {"imports": ["$import dim_monai.bundle as bundle"], "check": "$bundle.check_settings()"}


def refusal(config: dict[str, Any]) -> str:
    """Return why a config is refused, "" if it is not."""
    try:
        ConfigParser({**CHECK, **config}).get_parsed_content("check")
    except RuntimeError as error:
        if isinstance(error.__cause__, ConfigError):
            return str(error.__cause__)
        raise
    return ""


# --- numbers, words and switches

COUNTS = (
    "max_epochs",
    "steps_per_epoch",
    "labelled_batch",
    "unlabelled_batch",
    "val_interval",
    "working_size",
)
POSITIVE = ("learning_rate", "max_gradient_norm")
FROM_ZERO = ("weight_decay", "surface_tolerance", "rho", "divergence_weight", "cache_memory_gb")
SHARES = ("ramp_length", "pseudo_label_threshold", "sharpness_start", "near_label")
SWITCHES = (
    "use_unlabelled",
    "use_sharpness",
    "use_divergence",
    "trust_empty",
    "largest_component",
    "paper_protocol",
)


@settings(max_examples=60)
@given(name=st.sampled_from(COUNTS), value=st.integers(-5, 5) | st.integers())
def test_a_count_is_at_least_one(name: str, value: int) -> None:
    assert (refusal({name: value}) == "") == (value >= 1)


@settings(max_examples=60)
@given(name=st.sampled_from(("seed", "checkpoint_interval")), value=st.integers())
def test_a_seed_or_interval_may_be_zero(name: str, value: int) -> None:
    assert (refusal({name: value}) == "") == (value >= 0)


@settings(max_examples=100)
@given(
    name=st.sampled_from((*POSITIVE, *FROM_ZERO, *SHARES)),
    value=st.floats() | st.floats(-1, 2) | st.integers(-2, 2),
)
def test_a_number_is_in_its_range(name: str, value: float) -> None:
    if name in SHARES:
        usable = 0 <= value <= 1
    else:
        finite = value < math.inf or name == "cache_memory_gb"  # which may be without a limit
        usable = finite and (value > 0 or (name in FROM_ZERO and value == 0))
    assert (refusal({name: value}) == "") == usable


@pytest.mark.parametrize(
    ("name", "usable", "unusable"),
    [
        ("teacher_decay", [0, 0.5, 0.999], [1, 1.0, -0.1]),
        ("validation_fraction", [0.01, 0.99], [0, 0.0, 1, 1.5]),
        ("slice_axis", [2, None], [0, 1, 3, -1, 2.0, True]),
        ("max_gradient_norm", [None, 1], [0]),
        ("resume", [True, False, "auto"], ["false", "maybe", None, 1]),
        ("divergence_alpha", [None, -1, 0.5, 2], [-1.1, 2.5, math.nan, "0.5"]),
        ("not_perturbed", [[], ["supervised"]], ["supervised", None, [1]]),
        ("both_empty", [1, "not scored"], [0, True, "scored"]),
        *((name, [True, False], ["false", "true", 0, 1, None]) for name in SWITCHES),
        *((name, [], [2.0, 1.5, True, "4", None, [4]]) for name in COUNTS),
    ],
)
def test_what_else_a_setting_may_be(name: str, usable: list[Any], unusable: list[Any]) -> None:
    assert [value for value in usable if refusal({name: value})] == []
    for value in unusable:
        assert refusal({name: value}).startswith(f"unusable setting '{name}'; got {value!r}; ")


@pytest.mark.parametrize("name", sorted(RULES))
def test_text_is_never_a_number_or_a_switch(name: str) -> None:
    message = refusal({name: "abc"})
    assert f"'{name}'" in message
    assert "got 'abc'" in message
    assert RULES[name].expected in message


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("use_sharpness", "false", "write False on the command line"),
        ("resume", "true", "write True on the command line"),
        ("max_gradient_norm", "null", "write None on the command line"),
        ("learning_rate", "1e-3", "without quotes, with an exponent as in 1.0e-3"),
        ("learning_rate", "fast", None),
    ],
)
def test_text_that_means_a_value_is_told_how_to_become_one(
    name: str, value: str, advice: str | None
) -> None:
    message = refusal({name: value})
    assert message.endswith(advice or RULES[name].expected)


def test_the_words_for_two_empty_masks_are_those_of_the_metrics() -> None:
    assert all(RULES["both_empty"].holds(word) for word in get_args(BothEmpty))


WORDS = {
    "precision": PRECISIONS,
    "sharpness_rule": SHARPNESS_RULES,
    "divergence": DIVERGENCES,
    "divergence_compare": COMPARE,
    "divergence_estimator": ESTIMATORS,
}


@pytest.mark.parametrize("name", WORDS)
def test_a_word_is_one_that_the_code_knows(name: str) -> None:
    assert [word for word in WORDS[name] if refusal({name: word})] == []
    for word in WORDS[name]:
        assert word in RULES[name].expected
        assert refusal({name: f"{word}x"})
    assert RULES[name].expected.count(",") == len(WORDS[name]) - 1


@pytest.mark.parametrize("name", PATHS)
def test_a_path_keeps_every_sign_but_the_one_that_monai_reads(name: str) -> None:
    assert refusal({name: "/data/run #2"}).startswith(
        f"unusable setting '{name}'; got '/data/run ::2'"
    )
    for path in ("/data/a b/ä @1 %2 100", "C:/data", None):
        assert refusal({name: path}) == ""


# --- what a method makes of them


def method(name: str) -> dict[str, Any]:
    return {"method": {"_target_": name}}


METHODS = {
    "Supervised": Supervised(),
    "MeanTeacher": MeanTeacher(0.9, 0.3),
    "MiDSS": MiDSS(),
}


@pytest.mark.parametrize("name", METHODS)
def test_terms_are_those_that_a_method_has(name: str) -> None:
    images = torch.rand(2, 1, 8, 8)
    batch = Batch(Stream(images, images, (images > 0.5).long()), Stream(images, images))
    views, _ = METHODS[name].views(
        batch, lambda x: torch.zeros(len(x), 2, 8, 8), 0.5, torch.Generator()
    )
    terms = [*(view.term for view in views), NAME]
    assert terms == [*TERMS[f"dim_monai.methods.{name}"], NAME]
    config = method(f"dim_monai.methods.{name}")
    assert refusal({**config, "not_perturbed": terms}) == ""
    for term in terms:
        misspelt = f"{term}s"
        message = refusal({**config, "not_perturbed": [term, misspelt]})
        assert f"got ['{misspelt}']" in message
        assert term in message


@pytest.mark.parametrize("name", METHODS)
def test_a_term_is_left_for_the_second_pass(name: str) -> None:
    """The trainer refuses it too, but in the first step with a second pass."""
    of_method = list(TERMS[f"dim_monai.methods.{name}"])
    config = {**method(f"dim_monai.methods.{name}"), "use_sharpness": True}
    for use_divergence, terms in ((False, of_method), (True, [*of_method, NAME])):
        config["use_divergence"] = use_divergence
        assert "for the second pass" in refusal({**config, "not_perturbed": terms})
        for term in terms:
            others = [other for other in terms if other != term]
            assert refusal({**config, "not_perturbed": others}) == ""
        assert refusal({**config, "not_perturbed": terms, "use_sharpness": False}) == ""
    only = {**config, "use_unlabelled": False, "not_perturbed": ["supervised"]}
    assert "for the second pass" in refusal(only)


def test_the_terms_of_a_method_of_others_are_its_own() -> None:
    assert refusal({**method("monai.losses.DiceLoss"), "not_perturbed": ["theirs"]}) == ""


@pytest.mark.parametrize(("labelled", "unlabelled"), [(4, 4), (2, 4), (4, 1)])
def test_batches_differ_only_where_no_images_are_paired(labelled: int, unlabelled: int) -> None:
    sizes = {"labelled_batch": labelled, "unlabelled_batch": unlabelled}
    message = refusal({**method("dim_monai.methods.MiDSS"), **sizes})
    assert ("unlabelled_batch" in message) == (labelled != unlabelled)
    assert refusal({**method("dim_monai.methods.MeanTeacher"), **sizes}) == ""
    alone = {**method("dim_monai.methods.MiDSS"), **sizes, "use_unlabelled": False}
    assert refusal(alone) == ""


def test_a_setting_counts_by_what_it_becomes() -> None:
    assert refusal({"steps": 8, "steps_per_epoch": "$@steps // 4"}) == ""
    assert "got 0" in refusal({"steps": 3, "steps_per_epoch": "$@steps // 4"})


def test_the_unlabelled_batch_counts_where_unlabelled_images_do() -> None:
    assert refusal({"use_unlabelled": True, "unlabelled_batch": 0})
    assert not refusal({"use_unlabelled": False, "unlabelled_batch": 0})


def test_all_problems_are_told_at_once() -> None:
    message = refusal({"max_epochs": 0, "seed": -1, "rho": 0.1, **unet([2, 2], [[2, 2]], [9, 8])})
    assert [name in message for name in ("max_epochs", "seed", "roi_size", "rho")] == [
        *[True] * 3,
        False,
    ]


def test_outside_a_config_the_check_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no config is being evaluated"):
        check_settings()


# --- the size of what the network sees


def unet(axes: list[int], strides: list[Any], roi_size: Any) -> dict[str, Any]:
    network = {
        "_target_": "UNet",
        "spatial_dims": len(axes),
        "in_channels": 1,
        "out_channels": 2,
        "channels": [2] * (len(strides) + 1),
        "strides": strides,
        "norm": "INSTANCE",
    }
    return {"network_def": network, "roi_size": roi_size}


def runs(config: dict[str, Any]) -> bool:
    """Whether MONAI's own network, in training, has an output for each pixel of the size."""
    arguments = {key: value for key, value in config["network_def"].items() if key[0] != "_"}
    network = UNet(**arguments)
    try:
        with torch.no_grad():
            logits = network(torch.zeros(1, 1, *config["roi_size"]))
    except (RuntimeError, ValueError):
        return False
    return list(logits.shape[2:]) == config["roi_size"]


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    axes = [0] * draw(st.integers(2, 3))
    step = st.integers(1, 3)
    stride = step | st.lists(step, min_size=len(axes), max_size=len(axes))
    strides = draw(st.lists(stride, min_size=1, max_size=2))
    size = [draw(st.integers(1, 12)) for _ in axes]
    return unet(axes, strides, size)


@settings(max_examples=60)
@given(config=networks())
def test_a_size_is_refused_exactly_where_the_network_does_not_fit(config: dict[str, Any]) -> None:
    assert (refusal(config) == "") == runs(config)


@pytest.mark.parametrize(
    "size", [96, "96", [96], [96, 96, 96], [0, 96], [-16, 96], [96.0, 96], [True, 96], None]
)
def test_a_size_is_a_list_of_a_length_for_each_axis(size: Any) -> None:
    message = refusal(unet([0, 0], [2, 2, 2, 2], size))
    assert message.startswith(f"unusable setting 'roi_size'; got {size!r}; ")
    assert "a list of 2 lengths, multiples of 16 x 16" in message


def test_strides_of_each_axis_count_apart() -> None:
    strides = [[2, 2, 1], [2, 2, 2], 2, 2]
    assert refusal(unet([0] * 3, strides, [96, 96, 16])) == ""
    assert refusal(unet([0] * 3, strides, (96, 96, 8))) == ""
    assert "16 x 16 x 8" in refusal(unet([0] * 3, strides, [96, 96, 12]))


@pytest.mark.parametrize("around", ["@inner", {"_target_": "Around", "network": "@inner"}])
def test_the_strides_are_found_where_the_network_refers_to_another(around: Any) -> None:
    config = unet([0, 0], ["$@step", 2], [8, 6])
    inner = config.pop("network_def")
    config |= {"inner": inner, "network_def": around, "step": 2}
    assert "4 x 4" in refusal(config)
    assert refusal({**config, "roi_size": [8, 4]}) == ""


def test_a_network_without_strides_is_not_judged() -> None:
    network = {"_target_": "SegResNet", "spatial_dims": 2}
    for size in ([90, 90], [-1, 7], 96):
        assert refusal({"network_def": network, "roi_size": size}) == ""
    assert refusal({"network_def": network}) == refusal({"roi_size": 7}) == refusal({}) == ""


# --- the device


def test_a_device_that_is_not_there_is_refused() -> None:
    missing = f"cuda:{torch.cuda.device_count()}"
    for device in (missing, "abacus", f"$torch.device('{missing}')"):
        assert refusal({"device": device}).startswith("no such device; got ")
    for device in ("cpu", "$torch.device('cpu')"):
        assert refusal({"device": device}) == ""
