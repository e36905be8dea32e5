"""Scores and pictures of every case that an evaluator segments, on the case's own grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.transforms import Orientation
from torch import Tensor

from dim_monai.metrics import ClassScore, ScoreRow, score_case
from dim_monai.report.figures import overlay_png
from dim_monai.report.run import write_run_report
from dim_monai.report.scores import write_scores_csv

PREDICTION, TRUTH, IMAGE = "pred", "native_label", "native_image"


class CaseScores:
    """Score every case as a whole and write ``metrics.csv`` and ``report.html`` at the end.

    Expects decollated batches of ``native_image`` and ``native_label`` (1, X, Y, Z), the case as
    it was loaded, with the entries ``case``, ``domain`` and ``split``, and outputs with ``pred``
    (1, X, Y, Z), class indices on the same grid.

    Args:
        output_dir: folder of the two files.
        regions: name of what is scored to the class indices that form it.
        pictures: at most so many overlay pictures a domain.
    """

    def __init__(
        self, output_dir: str, regions: Mapping[str, Sequence[int]], pictures: int = 4
    ) -> None:
        self.output_dir = Path(output_dir)
        self.regions = {name: list(values) for name, values in regions.items()}
        self.pictures = pictures
        self.rows: list[ScoreRow] = []
        self._drawn: list[tuple[str, bytes]] = []
        self._per_domain: dict[str, int] = {}

    def attach(self, engine: Engine) -> None:
        """Score after every case, write after the last."""
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score_batch)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _clear(self) -> None:
        self.rows, self._drawn, self._per_domain = [], [], {}

    def _score_batch(self, engine: Engine) -> None:
        items: Any = engine.state.batch
        outputs: Any = engine.state.output
        for item, output in zip(items, outputs, strict=True):
            self._score(item, output[PREDICTION])

    def _score(self, item: Mapping[str, Any], prediction: MetaTensor) -> None:
        # A label may be stored with other axes than its image: only their voxels have to agree.
        image, truth = _to_ras(item[IMAGE]), _array(_to_ras(item[TRUTH]))
        # The prediction lies on the image's grid; its metadata went through an inversion.
        predicted = _array(_to_ras(prediction, affine=item[IMAGE].affine))
        spacing_mm = [float(mm) for mm in image.pixdim]
        scores = score_case(predicted, truth, spacing_mm, self.regions)
        case, domain = str(item["case"]), str(item["domain"])
        self.rows += [ScoreRow(case, domain, str(item["split"]), score) for score in scores]
        drawn = self._per_domain.get(domain, 0)
        if drawn < self.pictures:
            self._per_domain[domain] = drawn + 1
            caption = f"{domain} / {case}: {', '.join(map(_in_words, scores))}"
            array = image[0].cpu().numpy().astype(np.float64)
            picture = overlay_png(array, predicted, truth, spacing_mm, caption)
            self._drawn.append((caption, picture))

    def _write(self) -> None:
        self.output_dir.mkdir(parents=True, exist_ok=True)
        write_scores_csv(self.output_dir / "metrics.csv", self.rows)
        write_run_report(self.output_dir, self.rows, self._drawn)


def _array(labels: MetaTensor) -> np.ndarray[Any, Any]:
    return labels[0].round().cpu().numpy().astype(np.int16)


def _in_words(score: ClassScore) -> str:
    return score.note if score.dice is None else f"{score.class_name} Dice {score.dice:.3f}"


def _to_ras(volume: MetaTensor, affine: Tensor | None = None) -> MetaTensor:
    """Turn a volume (1, X, Y, Z) to RAS axes by its own affine, or by the one that is given."""
    placed = MetaTensor(volume.as_tensor(), affine=volume.affine if affine is None else affine)
    turned: MetaTensor = Orientation("RAS", labels=None)(placed)  # type: ignore[assignment]
    return turned
