"""Scores and pictures of every case that an evaluator segments, on the case's own grid."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import Orientation
from torch import Tensor

from dim_monai.cup_to_disc import vertical_cup_to_disc_ratio
from dim_monai.engine import bare
from dim_monai.errors import ConfigError
from dim_monai.metrics import (
    CUP,
    DISC,
    SCORE_NAMES,
    BothEmpty,
    ClassScore,
    ScoreRow,
    Unit,
    paper_scores,
    score_case,
)
from dim_monai.model_files import weights_digest
from dim_monai.report.figures import overlay_png
from dim_monai.report.photographs import photograph_png
from dim_monai.report.run import NOT_TOLD, Scored, all_notes, beside_tables, write_run_report
from dim_monai.report.scores import write_paper_csv, write_scores_csv
from dim_monai.report.tables import printed_summary, selection_mark

logger = logging.getLogger(__name__)

SCORES_FILE, PAPER_FILE = "metrics.csv", "metrics_paper.csv"
PREDICTION, TRUTH, IMAGE = "pred", "native_label", "native_image"

Labels = np.ndarray[Any, Any]


class CaseScores:
    """Score every case as a whole and write ``metrics.csv`` and ``report.html`` at the end.

    The means are also logged, with how many of how many cases they are of, the split, the digest of
    the cases and the rule by which the network was chosen.

    Expects decollated batches of ``native_image`` and ``native_label`` (1, X, Y, Z), the case as
    it was loaded, with the entries ``case``, ``domain`` and ``split``, and outputs with ``pred``
    (1, X, Y, Z), class indices on the same grid. Of photographs the image is (3, W, H), 0 to 255,
    and label and prediction are (1, W, H).

    Args:
        output_dir: folder of the files.
        regions: name of what is scored to the class indices that form it; regions may overlap.
            Photographs with a ``disc`` and a ``cup`` get their vertical cup-to-disc ratio.
        pictures: at most so many overlay pictures a domain.
        unit: of distances: "mm" for volumes, "px" for photographs.
        tolerance: of surface Dice, in `unit`; None for the default of `score_case`.
        both_empty: what a region that is in neither mask scores, see `score_case`.
        paper_protocol: also write ``metrics_paper.csv``, the scores of every slice as the reference
            code defines them (`paper_scores`), and their means in the report.
        source: how the lists that are scored were obtained, in words.
        notes: of these lists. What they, or the notes of the list that trained the network, say of
            the selection is said with every score.

    Raises:
        ConfigError: there is no such unit.
    """

    def __init__(
        self,
        output_dir: str,
        regions: Mapping[str, Sequence[int]],
        pictures: int = 4,
        unit: Unit = "mm",
        *,
        tolerance: float | None = None,
        both_empty: BothEmpty = "not scored",
        paper_protocol: bool = False,
        source: str = NOT_TOLD.source,
        notes: Sequence[str] = (),
    ) -> None:
        if unit not in SCORE_NAMES:
            raise ConfigError("unknown unit", got=repr(unit), expected=" or ".join(SCORE_NAMES))
        self.output_dir = Path(output_dir)
        self.regions = {name: list(values) for name, values in regions.items()}
        self.pictures = pictures
        self.unit = unit
        self.tolerance = tolerance
        self.both_empty = both_empty
        self.paper_protocol = paper_protocol
        self.scored = Scored(source, tuple(notes))
        self.selection = ""
        self.rows: list[ScoreRow] = []
        self._drawn: list[tuple[str, bytes]] = []
        self._per_domain: dict[str, int] = {}

    def attach(self, engine: Engine) -> None:
        """Score after every case, write after the last."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score_batch)
        engine.add_event_handler(Events.COMPLETED, self._complete)

    def _begin(self) -> None:
        self.rows, self._drawn, self._per_domain = [], [], {}
        self.selection = selection_mark(all_notes(self.output_dir, self.scored))

    def _complete(self, engine: Engine) -> None:
        # MONAI's evaluators have it; another engine may not say what it evaluates.
        network = getattr(engine, "network", None)
        if network is not None:
            digest = weights_digest(bare(network).state_dict())
            self.scored = replace(self.scored, weights_sha256=digest)
        self._write()

    def _score_batch(self, engine: Engine) -> None:
        items: Any = engine.state.batch
        outputs: Any = engine.state.output
        for item, output in zip(items, outputs, strict=True):
            self._score(item, output[PREDICTION])

    def _score(self, item: Mapping[str, Any], prediction: MetaTensor) -> None:
        names = str(item["case"]), str(item["domain"])
        case = (_photograph if self.unit == "px" else _volume)(item, prediction)
        scores = score_case(
            case.predicted,
            case.truth,
            case.spacing_mm,
            self.regions,
            tolerance=self.tolerance,
            both_empty=self.both_empty,
        )
        split, sha256 = str(item["split"]), _digest(case, names)
        vcdr, vcdr_truth = self._ratio(case.predicted), self._ratio(case.truth)
        for score in scores:
            labels = self.regions[score.class_name]
            paper = paper_scores(case.predicted, case.truth, labels) if self.paper_protocol else ()
            row = ScoreRow(*names, split, score, vcdr, vcdr_truth, self.selection, sha256, paper)
            self.rows.append(row)
        self._draw(case, *names, scores)

    def _ratio(self, labels: Labels) -> float | None:
        if self.unit == "mm" or not {DISC, CUP} <= self.regions.keys():
            return None
        return vertical_cup_to_disc_ratio(labels, self.regions[DISC], self.regions[CUP])

    def _draw(self, shown: _Case, case: str, domain: str, scores: Sequence[ClassScore]) -> None:
        drawn = self._per_domain.get(domain, 0)
        if drawn >= self.pictures:
            return
        self._per_domain[domain] = drawn + 1
        caption = f"{domain} / {case}: {', '.join(map(_in_words, scores))}"
        caption += f" ({self.selection})" if self.selection else ""
        image, predicted, truth, spacing_mm = shown
        if spacing_mm is None:
            pixels = image.to(torch.uint8).permute(1, 2, 0).cpu().numpy()
            picture = photograph_png(pixels, predicted, truth, self.regions, caption)
        else:
            voxels = image[0].cpu().numpy().astype(np.float64)
            picture = overlay_png(voxels, predicted, truth, spacing_mm, caption)
        self._drawn.append((caption, picture))

    def _write(self) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_scores_csv(self.output_dir / SCORES_FILE, self.rows)
        if self.paper_protocol:
            write_paper_csv(self.output_dir / PAPER_FILE, self.rows)
        else:
            (self.output_dir / PAPER_FILE).unlink(missing_ok=True)  # of an earlier evaluation
        write_run_report(self.output_dir, self.rows, self._drawn, self.scored)
        for line in printed_summary(self.rows, beside_tables(self.output_dir, self.scored)):
            logger.info(line)


class _Case(NamedTuple):
    """One case on one grid: image (C, ...), labels (...), and no spacing if a photograph."""

    image: Tensor
    predicted: Labels
    truth: Labels
    spacing_mm: list[float] | None


def _volume(item: Mapping[str, Any], prediction: MetaTensor) -> _Case:
    # A label may be stored with other axes than its image: only their voxels have to agree.
    image, truth = _to_ras(item[IMAGE]), _array(_to_ras(item[TRUTH]))
    # The prediction lies on the image's grid; its metadata went through an inversion.
    predicted = _array(_to_ras(prediction, affine=item[IMAGE].affine))
    return _Case(image.as_tensor(), predicted, truth, [float(mm) for mm in image.pixdim])


def _photograph(item: Mapping[str, Any], prediction: Tensor) -> _Case:
    return _Case(torch.as_tensor(item[IMAGE]), _array(prediction), _array(item[TRUTH]), None)


def _digest(case: _Case, names: tuple[str, str]) -> str:
    """Return the SHA-256 of a case as it is scored: of its names, voxels and truth."""
    digest = hashlib.sha256(json.dumps([*names, case.image.shape, case.spacing_mm]).encode())
    for array in (case.image.cpu().numpy(), case.truth):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _array(labels: Tensor) -> Labels:
    # Class indices are whole up to the rounding of an inversion, and small.
    return torch.as_tensor(labels)[0].round().to(torch.int16).cpu().numpy()


def _in_words(score: ClassScore) -> str:
    return score.note if score.dice is None else f"{score.class_name} Dice {score.dice:.3f}"


def _to_ras(volume: MetaTensor, affine: Tensor | None = None) -> MetaTensor:
    """Turn a volume (1, X, Y, Z) to RAS axes by its own affine, or by the one that is given."""
    placed = MetaTensor(volume.as_tensor(), affine=volume.affine if affine is None else affine)
    turned: MetaTensor = Orientation("RAS", labels=None)(placed)  # type: ignore[assignment]
    return turned
