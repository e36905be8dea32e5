"""One run of ``dim-monai predict``, from what the user asked for to its report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dim_monai.data.output import require_apart
from dim_monai.data.prepare.publish import sha256_of
from dim_monai.files import absolute, require_writable
from dim_monai.predict.cases import Found, find_cases, root_of
from dim_monai.predict.dicom_seg import SegmentationMaker
from dim_monai.predict.quiet import quiet_headers
from dim_monai.predict.report import as_document
from dim_monai.predict.run import Extras, Outcome, predict
from dim_monai.predict.segmenter import Segmenter, Settings, open_bundle
from dim_monai.shipped import find_bundle


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        given: the input: a file or a folder.
        out: the output folder.
        bundle: its folder or its name.
        settings: of the network.
        uncertainty: whether to write a map of it beside each mask.
        dicom_seg: whether to write a DICOM SEG of each DICOM series.
        allow_missing_slices: whether a DICOM series may have gaps.
        batch: whether cases overlap, see `dim_monai.predict.run.predict`.
    """

    given: Path
    out: Path
    bundle: str
    settings: Settings = field(default_factory=Settings)
    uncertainty: bool = False
    dicom_seg: bool = False
    allow_missing_slices: bool = False
    batch: bool = False


class Session:
    """A run: the bundle is open and the cases are found, then they are segmented.

    Args:
        request: of the user.

    Attributes:
        segmenter: the bundle.
        found: the cases, and what is none.
        outcomes: of the cases so far.

    Raises:
        CheckpointError: no usable weights.
        ConfigError: no such bundle, a setting that cannot be used, or an output folder that is the
            input folder.
        DataError: there is nothing at the input path, or the output folder cannot be written.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()
        with quiet_headers():
            root = root_of(request.given)
            require_apart(request.out, root)
            require_writable(request.out)
            bundle = find_bundle(request.bundle)
            self.segmenter: Segmenter = open_bundle(bundle, root, request.out, request.settings)
            self._model_sha256 = sha256_of([self.segmenter.model_file])
            self._extras = Extras(
                uncertainty=request.uncertainty,
                dicom_seg=self._maker() if request.dicom_seg else None,
            )
            self.found: Found = find_cases(
                request.given,
                self.segmenter.kind,
                self.segmenter.rules,
                leave_out=request.out,
                allow_missing_slices=request.allow_missing_slices,
            )
            images = {case.image for case in self.found.cases}
            if root in images | {refused.image for refused in self.found.refused}:
                require_apart(request.out, root.parent)  # a series: its mask lies beside its folder
        self.outcomes: list[Outcome] = []

    def run(self, done: Callable[[Outcome], None]) -> None:
        """Segment the cases, and tell ``done`` of each; see `dim_monai.predict.run.predict`."""

        def keep(outcome: Outcome) -> None:
            self.outcomes.append(outcome)
            done(outcome)

        with quiet_headers():
            predict(
                self.found,
                self.segmenter,
                self.request.out,
                self._extras,
                keep,
                overlap=self.request.batch,
            )

    def document(self) -> dict[str, Any]:
        """Return the report, see `dim_monai.predict.report.as_document`."""
        return as_document(
            self.found,
            self.outcomes,
            self.segmenter,
            self.request.settings,
            model_sha256=self._model_sha256,
            options={
                "uncertainty": self.request.uncertainty,
                "dicom_seg": self.request.dicom_seg,
                "allow_missing_slices": self.request.allow_missing_slices,
            },
            out=absolute(self.request.out),
            started=self._started.isoformat(timespec="seconds"),
            seconds=time.perf_counter() - self._clock,
        )

    def _maker(self) -> SegmentationMaker:
        return SegmentationMaker(
            self.segmenter.structures,
            self.segmenter.bundle.name,
            self.segmenter.version,
            self._model_sha256,
        )
