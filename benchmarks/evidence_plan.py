"""What ``evidence.py`` compares, in which order, and when two cells have the same settings."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from cells import ROOT, config_files
from evidence_data import DEMO, PROSTATE, VESSELS, Source
from monai.bundle import ConfigParser

from dim_monai.bundle.digest import OF_A_START, digest_of
from dim_monai.divergence import DIVERGENCES

BUNDLES = ROOT / "bundles"


@dataclass(frozen=True)
class Setting:
    """A bundle, its data, and how much of them is labelled.

    Attributes:
        title: in words.
        bundle: name of its folder.
        source: of the cases.
        folder: of the source in that of the real images; "" for the synthetic ones.
        labels: labelled patients.
        tasks: names of overlays of ``train.yaml``.
        settings: overrides.
    """

    title: str
    bundle: str
    source: Source
    folder: str
    labels: int
    tasks: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)

    def configs(self, method: str, bundles: Path = BUNDLES) -> list[Path]:
        """Return the config files of a training."""
        return config_files(bundles / self.bundle / "configs", method, self.tasks)


@dataclass(frozen=True)
class Variant:
    """A method with some of its settings changed.

    Attributes:
        title: in words.
        method: one of the `ABLATION`.
        settings: overrides.
        share: of the unlabelled cases that are used.
    """

    title: str
    method: str = "dim"
    settings: Mapping[str, object] = field(default_factory=dict)
    share: float = 1.0


@dataclass(frozen=True)
class Group:
    """A question: the same variants in some settings.

    Attributes:
        title: the question.
        settings: names, in the order in which they are run.
        variants: names, in the order in which they are run.
        baseline: the variant from which all others are subtracted.
    """

    title: str
    settings: tuple[str, ...]
    variants: tuple[str, ...]
    baseline: str


# Of a question about a part of DiM: half the steps that a training has by default, and empty images
# are trusted, as by the authors of MiDSS. The ablation is of what ships.
HALF = "half_"
_HALF = {"max_epochs": 20, "trust_empty": True}
# A quarter of the patches that a training of the bundle sees. With 200 steps, the two cells that
# were run scored below 0.7 on every photograph.
_SHORT = {"max_epochs": 10, "labelled_batch": 2, "unlabelled_batch": 2}
_TINY = {
    "max_epochs": 1, "steps_per_epoch": 3, "sharpness_start": 0.3,
    "labelled_batch": 2, "unlabelled_batch": 2,
    "spacing": [5.0, 5.0, -1], "roi_size": [32, 32],
}  # fmt: skip


def _prostate(labels: int) -> Setting:
    plural = "s" if labels > 1 else ""
    title = f"prostate, {labels} labelled volume{plural} of rumc_320"
    return Setting(title, "dim_prostate", PROSTATE, "prostate_t2", labels)


SETTINGS = {
    **{f"R{labels}": _prostate(labels) for labels in (1, 2, 4, 8)},
    "vessels": Setting(
        "vessels, a photograph each of 2 people of chase_db1 labelled, 1000 steps of 2 + 2 patches",
        "dim_fundus", VESSELS, "retina_vessels", 2, ("vessel",), _SHORT,
    ),
    "quick": Setting("synthetic prostates, 3 steps", "dim_prostate", DEMO, "", 1, (), _TINY),
}  # fmt: skip

ABLATION = {
    "supervised": "supervised",
    "mean_teacher": "mean teacher",
    "midss": "MiDSS",
    "no_divergence": "MiDSS + SAM",
    "no_sharpness": "MiDSS + f-divergence",
    "dim": "DiM",
}
_MIXED = ["labelled_in_box", "unlabelled_in_box", "symmetric"]
_RADII = {"sam": ("SAM", (0.05, 0.1, 0.2, 0.5)), "asam": ("ASAM", (0.5, 2.0))}
_RULES = {
    "sam": ("SAM", 0.05),
    "asam": ("ASAM", 0.5),
    "looksam": ("LookSAM", 0.05),
    "esam": ("ESAM", 0.05),
    # Its authors climb by about ten times as much as with SAM.
    "msam": ("momentum SAM", 0.5),
}


def _divergences() -> Iterator[tuple[str, Variant]]:
    for name in DIVERGENCES:
        # Between KL and Pearson: the orders 0, 1/2 and 1 are there by name.
        order = {"divergence_alpha": 1.5} if name == "alpha" else {}
        for estimator in ("closed_form", "variational"):
            of_f = {"divergence": name, **order, "divergence_estimator": estimator}
            title = f"{name.replace('_', ' ')}, {estimator.replace('_', ' ')}"
            yield f"{name}_{estimator}", Variant(title, settings=of_f)
    for compare in ("prediction", "class_prediction", "features", "proportion"):
        title = f"compares {compare.replace('_', ' ')}"
        yield f"compare_{compare}", Variant(title, settings={"divergence_compare": compare})


def _mixtures() -> Iterator[tuple[str, Variant]]:
    """What of an image of another domain is mixed in, and which pseudo-labels are trusted."""
    for width in (0.01, 0.1):
        settings = {"method#amplitude_width": width}
        yield f"width_{width}", Variant(f"amplitude window, half width {width}", settings=settings)
    for threshold in (0.75, 0.95):
        sure = {"pseudo_label_threshold": threshold}
        yield f"threshold_{threshold}", Variant(f"threshold {threshold}", settings=sure)


def _climbs() -> Iterator[tuple[str, Variant]]:
    stay = {"labels": [*_MIXED, "f_divergence"], "images": ["f_divergence"], "all": []}
    titles = ("labelled images", "labelled and unlabelled images", "f-divergence, too")
    for (name, terms), title in zip(stay.items(), titles, strict=True):
        settings = {"not_perturbed": terms}
        yield f"climb_{name}", Variant(f"climbs in {title}", settings=settings)
    for start in (0.0, 0.6, 0.8):
        yield f"start_{start}", Variant(f"SAM from {start}", settings={"sharpness_start": start})
    for rule, (title, radii) in _RADII.items():
        for rho in radii:
            radius = {"sharpness_rule": rule, "rho": rho}
            yield f"{rule}_{rho}", Variant(f"{title}, rho {rho}", settings=radius)


def _always() -> Iterator[tuple[str, Variant]]:
    """Each rule in every step, on all terms that have a target."""
    for rule, (title, rho) in _RULES.items():
        settings = {"sharpness_rule": rule, "rho": rho, "sharpness_start": 0.0}
        # It has one pass, in which every term is perturbed.
        aside: list[str] = [] if rule == "msam" else ["f_divergence"]
        full = {**settings, "not_perturbed": aside}
        yield f"always_{rule}", Variant(f"{title} in every step, rho {rho}", settings=full)


def _halves() -> Iterator[tuple[str, Variant]]:
    for method, title in ABLATION.items():
        yield f"{HALF}{method}", Variant(f"{title}, 2000 steps", method)


def _halved(variants: Iterator[tuple[str, Variant]]) -> dict[str, Variant]:
    return {
        name: replace(variant, settings={**_HALF, **variant.settings}) for name, variant in variants
    }


def _defaults() -> Iterator[tuple[str, Variant]]:
    """What the defaults of the prostate were chosen among, besides the halves."""
    wary = {**_HALF, "trust_empty": False}
    title = f"{ABLATION['midss']}, 2000 steps, empty images left out"
    yield f"{HALF}midss_wary", Variant(title, "midss", wary)
    trusting = {"trust_empty": True}
    yield "dim_trusting", Variant("DiM, empty images trusted", settings=trusting)


def _shares() -> Iterator[tuple[str, Variant]]:
    for share in (0.25, 0.5):
        yield f"share_{share}", Variant(f"DiM, {share:.0%} of the unlabelled", share=share)


_OF_HALF, _OF_F = _halved(_halves()), _halved(_divergences())
_OF_MIXTURE = _halved(_mixtures())
_OF_CLIMB, _OF_RULE = _halved(_climbs()), _halved(_always())
_OF_DEFAULT, _OF_SHARE = dict(_defaults()), dict(_shares())
VARIANTS = {
    **{name: Variant(title, method=name) for name, title in ABLATION.items()},
    **_OF_HALF,
    **_OF_F,
    **_OF_MIXTURE,
    **_OF_CLIMB,
    **_OF_RULE,
    **_OF_DEFAULT,
    **_OF_SHARE,
}

GROUPS = {
    "ablation": Group("Ablation", ("R1", "R2", "vessels"), tuple(ABLATION), "supervised"),
    "half": Group(
        "Ablation of half the steps, empty images trusted",
        ("R1",),
        tuple(_OF_HALF),
        "half_supervised",
    ),
    "divergence": Group("Which f, and what is compared", ("R1",), ("half_dim", *_OF_F), "half_dim"),
    "mixing": Group(
        "How much of another domain is mixed in, and which pseudo-labels are trusted",
        ("R1",),
        ("half_dim", *_OF_MIXTURE),
        "half_dim",
    ),
    "sharpness": Group(
        "What is perturbed, and how far", ("R1",), ("half_dim", *_OF_CLIMB), "half_dim"
    ),
    "rules": Group(
        "What the second pass costs and brings",
        ("R1",),
        ("half_no_sharpness", "half_dim", *_OF_RULE),
        "always_sam",
    ),
    "defaults": Group(
        "Length of the training, and images in which the teacher finds nothing",
        ("R1",),
        ("half_supervised", "half_midss", "half_dim", "supervised", *_OF_DEFAULT, "dim"),
        "supervised",
    ),
    "labels": Group(
        "Number of labels", ("R1", "R2", "R4", "R8"), ("supervised", "dim"), "supervised"
    ),
    "unlabelled": Group(
        "Share of the unlabelled data", ("R1",), ("supervised", *_OF_SHARE, "dim"), "supervised"
    ),
    "quick": Group("Does everything run?", ("quick",), tuple(ABLATION), "supervised"),
}
"""In the order in which they are run; the last one by ``--quick`` alone."""

_NOT_OF_A_TRAINING = (
    *OF_A_START, "seed", "imports", "bundle_root", "run_identity", "initialize", "run", "training",
    "finalize",
    "validate#key_metric", "validate#additional_metrics", "validate#postprocessing",
    "validate#handlers", "validate#evaluator", "evaluate#handlers", "evaluate#evaluator",
)  # fmt: skip
_WRITERS = (
    "TrainingLog", "ValidationHandler", "DeployBest", "KeepNetworks", "RunCheckpoint",
    "TensorBoardStatsHandler",
)  # fmt: skip


def digest(setting: Setting, variant: Variant, bundles: Path = BUNDLES) -> str:
    """Return what is the same for all cells of the same settings, whatever their seed: 12 digits.

    Settings count as :func:`dim_monai.bundle.digest.config_digest` counts them. Those that say
    where a run reads and writes, and handlers that only write, do not: no cell has validation
    cases, and the scores are defined by what remains. The code does not count.
    """
    parser = ConfigParser()
    parser.read_config([str(file) for file in setting.configs(variant.method, bundles)])
    for name, value in {**setting.settings, **variant.settings}.items():
        parser[name] = value
    config = copy.deepcopy(parser.get())
    for id_ in _NOT_OF_A_TRAINING:
        section, _, key = id_.rpartition("#")
        (config[section] if section else config).pop(key, None)
    config["train"]["handlers"] = [h for h in config["train"]["handlers"] if not _writes(h)]
    return digest_of({**config, "unlabelled_share": variant.share})[:12]


@cache
def present(setting: str, variant: str) -> str:
    """Return the digest of a setting and a variant by name, as the files were when first asked."""
    return digest(SETTINGS[setting], VARIANTS[variant])


def _writes(handler: Mapping[str, Any]) -> bool:
    return str(handler["_target_"]).rpartition(".")[2] in _WRITERS


@dataclass(frozen=True)
class Cell:
    """One training and its evaluation, by names."""

    part: str
    setting: str
    variant: str
    seed: int


def plan(
    part: str,
    seeds: Sequence[int],
    *,
    groups: Iterable[str] | None = None,
    settings: Iterable[str] | None = None,
    variants: Iterable[str] | None = None,
) -> list[Cell]:
    """Return the cells of a part, each once, in the order in which they are run.

    Group by group, setting by setting, and all variants of a seed before the next seed, so that
    what is there at any time can be compared in pairs.

    Args:
        part: one of ``evidence_data.PARTS``.
        seeds: of each cell.
        groups: names; None for all but "quick".
        settings: names; None for those of the groups.
        variants: names; None for those of the groups.
    """
    cells = [
        Cell(part, setting, variant, seed)
        for name, group in GROUPS.items()
        if name in (GROUPS.keys() - {"quick"} if groups is None else set(groups))
        for setting in group.settings
        if settings is None or setting in set(settings)
        for seed in seeds
        for variant in group.variants
        if variants is None or variant in set(variants)
    ]
    return list(dict.fromkeys(cells))
