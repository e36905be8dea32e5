"""Settings that no run can use: refused before anything is read or written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from numbers import Integral, Real
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver

from dim_monai.bundle.callers import running_parser
from dim_monai.bundle.device import usable_device
from dim_monai.errors import ConfigError


@dataclass(frozen=True)
class Rule:
    """What a setting may be: in words, and as a condition."""

    expected: str
    holds: Callable[[Any], bool]


def _whole(lowest: int) -> Rule:
    return Rule(f"a whole number from {lowest}", lambda v: _is(v, Integral) and v >= lowest)


def _number(expected: str, within: Callable[[float], bool]) -> Rule:
    return Rule(expected, lambda v: _is(v, Real) and within(v))


def _word(*words: str) -> Rule:
    return Rule(f"one of {', '.join(words)}", lambda v: isinstance(v, str) and v in words)


def _or_null(rule: Rule) -> Rule:
    return Rule(f"{rule.expected}, or null", lambda v: v is None or rule.holds(v))


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


_COUNT = _whole(1)
_POSITIVE = _number("a number above 0", lambda v: 0 < v < math.inf)
_FROM_ZERO = _number("a number from 0", lambda v: 0 <= v < math.inf)
_SHARE = _number("a share, from 0 to 1", lambda v: 0 <= v <= 1)
_SWITCH = Rule("true or false", lambda v: isinstance(v, bool))
_EMPTY = ("not scored", 1)

RULES = {
    "seed": _whole(0),
    "max_epochs": _COUNT,
    "steps_per_epoch": _COUNT,
    "labelled_batch": _COUNT,
    "unlabelled_batch": _COUNT,
    "learning_rate": _POSITIVE,
    "weight_decay": _FROM_ZERO,
    "max_gradient_norm": _or_null(_POSITIVE),
    "precision": _word("float32", "bfloat16", "float16"),
    "validation_fraction": _number("a share between 0 and 1", lambda v: 0 < v < 1),
    "val_interval": _COUNT,
    "resume": Rule("true, false or auto", lambda v: isinstance(v, bool) or v == "auto"),
    "checkpoint_interval": _whole(0),
    "cache_memory_gb": _number("a number from 0", lambda v: v >= 0),
    "working_size": _COUNT,
    "near_label": _SHARE,
    # What prepares, crops and segments a volume takes its slices along the last axis.
    "slice_axis": _or_null(Rule("2", lambda v: _is(v, Integral) and v == 2)),
    "largest_component": _SWITCH,
    "surface_tolerance": _FROM_ZERO,
    "both_empty": Rule("'not scored' or 1", lambda v: not isinstance(v, bool) and v in _EMPTY),
    "paper_protocol": _SWITCH,
    "use_unlabelled": _SWITCH,
    "ramp_length": _SHARE,
    "pseudo_label_threshold": _SHARE,
    "trust_empty": _SWITCH,
    "use_sharpness": _SWITCH,
    "sharpness_rule": _word("sam", "asam", "looksam", "msam", "esam"),
    "rho": _FROM_ZERO,
    "sharpness_start": _SHARE,
    "not_perturbed": Rule(
        "a list of names of terms",
        lambda v: isinstance(v, list | tuple) and all(isinstance(term, str) for term in v),
    ),
    "use_divergence": _SWITCH,
    "divergence": _word(
        "kl", "reverse_kl", "js", "tv", "pearson", "neyman", "squared_hellinger", "alpha"
    ),
    "divergence_alpha": _or_null(_number("a number from -1 to 2", lambda v: -1 <= v <= 2)),
    "divergence_compare": _word("proportion", "prediction", "class_prediction", "features"),
    "divergence_estimator": _word("closed_form", "variational"),
    "divergence_weight": _FROM_ZERO,
    "teacher_decay": _number("a share from 0 to below 1", lambda v: 0 <= v < 1),
}
"""Settings of the bundles, wherever a config has them at its top."""

PATHS = ("dataset_dir", "output_dir", "model_file", "cache_dir", "start_from")
"""Settings that are files or folders."""

_METHODS = "dim_monai.methods."
_PAIRING = f"{_METHODS}MiDSS"

TERMS = {
    f"{_METHODS}Supervised": ("supervised",),
    f"{_METHODS}MeanTeacher": ("supervised", "consistency"),
    _PAIRING: ("supervised", "labelled_in_box", "unlabelled_in_box", "symmetric"),
}
"""Of the loss, by each method of this package; the f-divergence comes to any of them."""

_F_DIVERGENCE = "f_divergence"

_ON_THE_COMMAND_LINE = {"true": "True", "false": "False", "null": "None"}


def check_settings() -> None:
    """Refuse values that no run can use; to be called in a config's ``initialize``.

    A class sees its arguments only when it is made: most of them when the cases are prepared, those
    of the evaluation when the training is over. Here each setting among `RULES` is held against its
    rule, the paths in `PATHS` against what MONAI makes of #, the terms that are not perturbed and
    the sizes of the two batches against a method of this package, ``roi_size`` against the strides
    of the network (`network_def` or what that refers to; one without strides is not judged), and
    ``device`` against the machine. A setting that the config does not have is not missed, and
    neither is the batch of unlabelled images where none are used.

    Raises:
        ConfigError: some values cannot be used (each is named, with what it may be), there is no
            such device, or no config is being evaluated.
    """
    parser = running_parser()
    problems = [
        *_out_of_range(parser),
        *_misread_paths(parser),
        *_unknown_terms(parser),
        *_unpaired(parser),
        *_unfit_size(parser),
    ]
    if problems:
        raise ConfigError("; ".join(map(str, problems)))
    if "device" in parser:
        usable_device(parser.get_parsed_content("device"))


def _out_of_range(parser: ConfigParser) -> Iterator[ConfigError]:
    for name, rule in RULES.items():
        if name in parser and not (name == "unlabelled_batch" and _supervised(parser)):
            value = parser.get_parsed_content(name)
            if not rule.holds(value):
                yield _problem(name, value, rule.expected)


def _misread_paths(parser: ConfigParser) -> Iterator[ConfigError]:
    """Tell of paths in which MONAI has read # as its separator of ids, which is written :: too."""
    for name in PATHS:
        value = parser.get(name)
        if isinstance(value, str) and "::" in value and value[0] not in "$@%":
            yield _problem(name, value, "a path without #, which MONAI turns into ::")


def _unknown_terms(parser: ConfigParser) -> Iterator[ConfigError]:
    """Tell of terms that no method here has, and of a list that leaves the second pass none.

    Those of another method are its own.
    """
    if "not_perturbed" not in parser or not _method(parser).startswith(_METHODS):
        return
    named = parser.get_parsed_content("not_perturbed")
    if not RULES["not_perturbed"].holds(named):
        return  # told already
    known = list(dict.fromkeys([*chain.from_iterable(TERMS.values()), _F_DIVERGENCE]))
    unknown = [term for term in named if term not in known]
    if unknown:
        yield _problem("not_perturbed", unknown, f"terms among {', '.join(known)}")
    terms = _terms(parser)
    if _switched(parser, "use_sharpness", True) and terms and terms <= set(named):
        # The trainer would say so in the first step with a second pass, late in the training.
        expected = f"a list without one of {', '.join(sorted(terms))}, for the second pass"
        yield _problem("not_perturbed", named, expected)


def _terms(parser: ConfigParser) -> set[str]:
    """Return the terms of the training; none of a method that is not of this package."""
    if _supervised(parser):
        return {"supervised"}
    method = TERMS.get(_method(parser))
    compared = [_F_DIVERGENCE] if _switched(parser, "use_divergence", True) else []
    return {*method, *compared} if method else set()


def _unpaired(parser: ConfigParser) -> Iterator[ConfigError]:
    """Tell of batches that a method cannot pair: it would say so in the first step."""
    if _method(parser) != _PAIRING or _supervised(parser):
        return
    if "labelled_batch" not in parser or "unlabelled_batch" not in parser:
        return
    labelled = parser.get_parsed_content("labelled_batch")
    unlabelled = parser.get_parsed_content("unlabelled_batch")
    if labelled != unlabelled:
        expected = f"{labelled}, as labelled_batch: MiDSS pairs labelled and unlabelled images"
        yield _problem("unlabelled_batch", unlabelled, expected)


def _method(parser: ConfigParser) -> str:
    method = parser.get("method")
    return str(method.get("_target_")) if isinstance(method, dict) else ""


def _supervised(parser: ConfigParser) -> bool:
    return _switched(parser, "use_unlabelled", False)


def _switched(parser: ConfigParser, name: str, value: bool) -> bool:
    """Whether the config has a switch, and in this position."""
    return name in parser and parser.get_parsed_content(name) is value


def _unfit_size(parser: ConfigParser) -> Iterator[ConfigError]:
    factors = _downsampling(parser)
    if factors is None or "roi_size" not in parser:
        return
    size = parser.get_parsed_content("roi_size")
    if (
        not isinstance(size, list | tuple)
        or len(size) != len(factors)
        or not all(_COUNT.holds(n) and n % f == 0 for n, f in zip(size, factors, strict=True))
        # Of a single pixel on the coarsest level instance norm has no variance.
        or list(size) == factors
    ):
        multiples = " x ".join(map(str, factors))
        expected = f"a list of {len(factors)} lengths, multiples of {multiples} and more than that"
        yield _problem("roi_size", size, f"{expected}, for the strides of the network")


def _downsampling(parser: ConfigParser) -> list[int] | None:
    """Return the product of the network's strides along each axis, None if it has no strides."""
    waiting, seen = ["network_def"], set()
    for id_ in waiting:
        config = parser.get(id_)
        if isinstance(config, dict) and {"spatial_dims", "strides"} <= config.keys():
            dims = parser.get_parsed_content(f"{id_}::spatial_dims")
            strides = parser.get_parsed_content(f"{id_}::strides")
            each = [s if isinstance(s, list | tuple) else [s] * dims for s in strides]
            return [math.prod(axis) for axis in zip(*each, strict=True)]
        seen.add(id_)
        waiting += ReferenceResolver.find_refs_in_config(config, id_).keys() - seen
    return None


def _problem(name: str, value: Any, expected: str) -> ConfigError:
    what = f"unusable setting '{name}'"
    return ConfigError(what, got=repr(value), expected=expected, do=_advice(value))


def _advice(value: Any) -> str | None:
    """Say how to write a value that was taken for a text, if it looks like one."""
    if not isinstance(value, str):
        return None
    if value in _ON_THE_COMMAND_LINE:
        return f"write {_ON_THE_COMMAND_LINE[value]} on the command line"
    try:
        float(value)
    except ValueError:
        return None
    return "write it without quotes, with an exponent as in 1.0e-3"
