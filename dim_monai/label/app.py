"""MONAI Label's own app for bundles, with one more way to choose the next case.

A folder becomes this app by a ``main.py`` that imports `DimApp`. Bundles work in the stock app
too; what they miss there is the choice by disagreement.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.others.class_utils import get_class_of_subclass_from_file

from dim_monai.label.strategy import Disagreement, DisagreementScoring

STOCK = Path(sys.prefix, "monailabel", "sample-apps", "monaibundle", "main.py")
"""MONAI Label ships its apps as files beside the packages, not as modules."""

_StockApp: Any = get_class_of_subclass_from_file("monaibundle", str(STOCK), "MONAILabelApp")


class TrainTask(BundleTrainTask):  # type: ignore[misc]  # MONAI Label has no types
    """MONAI Label's training of a bundle, which can also begin with new weights."""

    def _load_checkpoint(self, model: str, pretrained: bool, handlers: list[Any]) -> None:
        if pretrained:  # the original asks whether the file None exists
            super()._load_checkpoint(model, pretrained, handlers)


# MONAI Label looks for a class whose bases name MONAILabelApp itself.
class DimApp(_StockApp, MONAILabelApp):  # type: ignore[misc]  # MONAI Label has no types
    """Serves bundles, trains them and scores the cases without a label by disagreement."""

    def init_trainers(self) -> dict[str, TrainTask]:
        """Return one for each bundle."""
        return {bundle: TrainTask(folder, self.conf) for bundle, folder in self.models.items()}

    def init_strategies(self) -> dict[str, Strategy]:
        """Return the stock strategies and one for each bundle."""
        ours = {_name(bundle): Disagreement(_name(bundle)) for bundle in self.models}
        return {**super().init_strategies(), **ours}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Return the stock scoring methods and one for each bundle."""
        ours = {
            _name(bundle): DisagreementScoring(_name(bundle), Path(folder))
            for bundle, folder in self.models.items()
        }
        return {**super().init_scoring_methods(), **ours}


def _name(bundle: str) -> str:
    return f"disagreement_{bundle}"
