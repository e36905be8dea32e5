"""Which case to label next: the one on which student and teacher disagree most.

A scoring method writes a score into the datastore for every case without a label; the server runs
it after each training. The strategy of the same name serves the case with the highest.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.utils.others.generic import name_to_device

from dim_monai.label.disagreement import TEACHER, StudentAndTeacher

logger = logging.getLogger(__name__)


class DisagreementScoring(ScoringMethod):  # type: ignore[misc]  # MONAI Label has no types
    """Score every case without a label by the disagreement of the last training's two networks.

    A case that these networks have scored already is skipped; before the first training there is
    nothing to score with, which is logged.

    Args:
        name: key of the score in the datastore; the time of the networks stands under ``name_ts``.
        bundle: folder of the bundle.
    """

    def __init__(self, name: str, bundle: Path) -> None:
        super().__init__("Disagreement of student and teacher on the cases without a label")
        self.name = name
        self.bundle = bundle

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, int]:
        """Score; return how many cases have no label, and how many were skipped and scored."""
        images = list(datastore.get_unlabeled_images())
        if not (self.bundle / TEACHER).is_file():
            logger.warning("%s: nothing is scored before the first training", self.name)
            return {"total": len(images), "skipped": len(images), "executed": 0}
        trained = int((self.bundle / TEACHER).stat().st_mtime)
        stale = [
            image
            for image in images
            if datastore.get_image_info(image).get(f"{self.name}_ts") != trained
        ]
        if stale:
            pair = StudentAndTeacher(self.bundle, name_to_device(request.get("device", "cuda")))
        failed = 0
        for image in stale:
            try:
                score = pair.disagree_on(datastore.get_image_uri(image))
            except Exception as error:  # whatever it is, the next image may be sound
                logger.warning("%s: %s is not scored: %s", self.name, image, error)
                failed += 1
                continue
            logger.info("%s: %s has %.4f", self.name, image, score)
            datastore.update_image_info(image, {self.name: score, f"{self.name}_ts": trained})
        return {
            "total": len(images),
            "skipped": len(images) - len(stale) + failed,
            "executed": len(stale) - failed,
        }


class Disagreement(Strategy):  # type: ignore[misc]  # MONAI Label has no types
    """Serve the case without a label that has the highest score; without scores, the first.

    Args:
        name: key of the score in the datastore.
    """

    def __init__(self, name: str) -> None:
        super().__init__("The case on which student and teacher disagree most")
        self.name = name

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Return the id of the case and its score, None where every case has a label."""
        images = sorted(datastore.get_unlabeled_images())
        if not images:
            return None
        scores = {image: datastore.get_image_info(image).get(self.name) for image in images}
        known = {image: score for image, score in scores.items() if score is not None}
        if not known:
            logger.warning("%s: no case has a score yet, serving the first", self.name)
            return {"id": images[0], self.name: None}
        chosen = max(known, key=lambda image: float(known[image]))
        return {"id": chosen, self.name: known[chosen]}
