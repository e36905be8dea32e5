"""One cell of ``evidence.py``: train, score, and measure what explains the scores."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from cells import Trained, train_and_evaluate
from evidence_data import Entry
from evidence_plan import Cell, Setting, Variant
from monai.bundle import ConfigParser
from monai.transforms import ResizeWithPadOrCrop
from torch import Tensor, nn

import dim_monai
from dim_monai.data.trained import RUN_FILE
from dim_monai.objectives import pseudo_label, segmentation_loss
from dim_monai.report.run import LOG_FILE, read_training_log
from dim_monai.sharpness import sharpness

NAMES = ("part", "setting", "digest", "seed")
"""Columns that tell a cell from all others."""

SCORES = (
    *NAMES, "variant", "domain", "case", "patient", "dice", "hd95_mm", "assd_mm", "hd95_px",
    "assd_px", "sharpness_sam", "sharpness_asam", "minutes", "peak_gb",
)  # fmt: skip
LOGGED = ("teacher_trust", "unlabelled_weight", "coverage", "agreement", "f_divergence")
DIAGNOSIS = (
    *NAMES, "variant", "domain", "cases", "labelled_slices", "empty_slices", "pseudo_coverage",
    "pseudo_precision", "pseudo_recall", "pseudo_dice", *(f"logged_{name}" for name in LOGGED),
    "skipped_steps", "machine", "versions",
)  # fmt: skip

DIAGNOSED = 8
"""Unlabelled cases of each domain whose pseudo-labels are looked at."""


def run_cell(
    cell: Cell, setting: Setting, variant: Variant, data: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Train, evaluate and measure; return the rows of `SCORES` and of `DIAGNOSIS` without `NAMES`.

    Args:
        cell: its part, seed and names.
        setting: of the cell.
        variant: of the cell.
        data: folder of the cases.
    """
    split = setting.source.split(data, cell.part, setting.labels, variant.share, cell.seed)
    configs = setting.configs("dim")[0].parent
    overrides = {**setting.settings, **variant.settings}
    patients = {(entry["domain"], entry["case"]): entry["patient"] for entry in split.lists["test"]}
    with train_and_evaluate(
        configs, variant.method, setting.tasks, split.lists, **overrides, seed=cell.seed
    ) as trained:
        network = Deployed(setting, variant, trained)
        of_cell = {**network.sharpness(split.lists["test"]), **trained.cost}
        of_training = {**network.slices(split.lists["labeled"]), **_logged(trained.output)}
        diagnosis = [
            {"variant": cell.variant, "domain": domain, **quality, **of_training}
            for domain, quality in network.pseudo_labels(split.hidden).items()
        ]
        scores = [
            {
                "variant": cell.variant,
                **{name: row[name] for name in SCORES if name in row},
                "patient": patients[row["domain"], row["case"]],
                **of_cell,
            }
            for row in trained.scores
        ]
    return scores, diagnosis


class Deployed:
    """The network that a cell leaves, with the transforms of its training.

    Without validation cases it is the last teacher.
    """

    def __init__(self, setting: Setting, variant: Variant, trained: Trained) -> None:
        parser = ConfigParser()
        files = setting.configs(variant.method)
        parser.read_config([str(file) for file in files])
        parser["bundle_root"] = str(files[0].parents[1])
        for name, value in {**setting.settings, **variant.settings}.items():
            parser[name] = value
        self.roi_size = list(parser["roi_size"])
        self.threshold = float(parser["pseudo_label_threshold"])
        self.transform = parser.get_parsed_content("validate::preprocessing")
        self.inferer = parser.get_parsed_content("plain_inferer")
        self.network: nn.Module = parser.get_parsed_content("network_def").eval()
        weights = torch.load(trained.model, map_location="cpu", weights_only=True)
        self.network.load_state_dict(weights)

    def sharpness(self, cases: Sequence[Entry]) -> dict[str, float]:
        """Return L(w + eps) - L(w) on the centres of scored images, by SAM's and ASAM's definition.

        Evaluation mode, one batch of every slice that shows the structure; rho 0.05 for SAM and
        0.5 for ASAM, the customary values (Foret et al., 2021; Kwon et al., 2021).
        """
        crop = ResizeWithPadOrCrop(self.roi_size[:2])
        images, labels = [], []
        for case in cases:
            item = self.transform(dict(case))
            for image, label in zip(_slices(item["image"]), _slices(item["label"]), strict=True):
                image, label = crop(image), crop(label)
                if label.any():
                    images.append(image)
                    labels.append(label.long())
        image, label = torch.stack(images), torch.stack(labels)
        weights = list(self.network.parameters())

        def loss() -> Tensor:
            return segmentation_loss(self.network(image), label).mean()

        return {
            "sharpness_sam": round(sharpness(loss, weights, rule="sam", rho=0.05), 5),
            "sharpness_asam": round(sharpness(loss, weights, rule="asam", rho=0.5), 5),
        }

    def slices(self, cases: Sequence[Entry]) -> dict[str, int]:
        """Return how many labelled slices (or photographs) there are, and how many show nothing."""
        labels = [label for case in cases for label in _slices(self.transform(dict(case))["label"])]
        empty = sum(not label.any() for label in labels)
        return {"labelled_slices": len(labels), "empty_slices": empty}

    @torch.no_grad()
    def pseudo_labels(self, cases: Sequence[Entry]) -> dict[str, dict[str, object]]:
        """Hold pseudo-labels of unlabelled training images against the truth, domain by domain.

        Of at most `DIAGNOSED` cases a domain, on the network's grid, each case a batch of its own:
        the share of pixels that are trusted, of trusted foreground that is right, of the foreground
        that is trusted and right, and the Dice of all foreground, trusted or not.
        """
        by_domain: dict[str, list[Entry]] = {}
        for case in cases:
            by_domain.setdefault(case["domain"], []).append(case)
        return {
            domain: self._quality(list(islice(entries, DIAGNOSED)))
            for domain, entries in by_domain.items()
        }

    def _quality(self, cases: Sequence[Entry]) -> dict[str, object]:
        counts = Counter[str]()
        for case in cases:
            item = self.transform(dict(case))
            logits = self.inferer(item["image"].as_tensor()[None], self.network)
            label, sure = pseudo_label(torch.softmax(logits, dim=1), self.threshold)
            truth, trusted = item["label"].as_tensor()[None].long(), sure.bool()
            called, right = label > 0, (label == truth) & (label > 0)
            masks = {
                "pixels": torch.ones_like(called),
                "foreground": truth > 0,
                "called": called,
                "right": right,
                "trusted": trusted,
                "trusted called": trusted & called,
                "trusted right": trusted & right,
            }
            counts.update({name: int(mask.sum()) for name, mask in masks.items()})
        return {
            "cases": len(cases),
            "pseudo_coverage": _ratio(counts["trusted"], counts["pixels"]),
            "pseudo_precision": _ratio(counts["trusted right"], counts["trusted called"]),
            "pseudo_recall": _ratio(counts["trusted right"], counts["foreground"]),
            "pseudo_dice": _ratio(2 * counts["right"], counts["called"] + counts["foreground"]),
        }


def _ratio(part: int, whole: int) -> float | str:
    """Return a share, and nothing where there is nothing to share."""
    return round(part / whole, 5) if whole else ""


def _slices(volume: Any) -> Tensor:
    """Return (B, C, H, W): the slices of a volume (C, X, Y, Z), or a photograph (C, X, Y) alone."""
    tensor: Tensor = volume.as_tensor()
    return tensor.movedim(-1, 0) if tensor.ndim == 4 else tensor[None]


def _logged(output: Path) -> dict[str, object]:
    """Return the means of the last tenth of the training log, and how many steps were skipped."""
    log = read_training_log(output / LOG_FILE)
    means: dict[str, object] = {}
    for name in LOGGED:
        values = [value for _, value in log.get(name, ())]
        last = values[-max(1, len(values) // 10) :]
        means[f"logged_{name}"] = round(float(np.mean(last)), 5) if last else ""
    run = json.loads((output / RUN_FILE).read_text(encoding="utf-8"))
    return {**means, "skipped_steps": run["skipped_steps"], **_place()}


def _place() -> dict[str, str]:
    """Return on what the cell was run."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = {"dim_monai": dim_monai, "MONAI": monai, "PyTorch": torch, "NumPy": np}
    told = [f"{name} {module.__version__}" for name, module in versions.items()]
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, {device}",
        "versions": f"Python {platform.python_version()}, {', '.join(told)}",
    }
