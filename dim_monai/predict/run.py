"""All cases of a run, in order: a bad one is told and the next one goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.utils import convert_to_numpy
from torch import Tensor

from dim_monai.data.kinds import VOLUME
from dim_monai.data.output import UNCERTAINTY, MirroredLayout
from dim_monai.files import absolute
from dim_monai.predict.cases import Case, Found
from dim_monai.predict.dicom_seg import SegmentationMaker
from dim_monai.predict.maps import insert_slices, write_map
from dim_monai.predict.measure import Measured, cup_to_disc, measure, uncertainty, voxel_ml
from dim_monai.predict.overlap import one_by_one, overlapping
from dim_monai.predict.segmenter import Prediction, Segmenter

SEG_SUFFIX = ".dcm"


@dataclass
class Outcome:
    """What became of one case.

    Attributes:
        name: of the case.
        seconds: that were spent on it, from its reading to its last file.
        structures: what was measured, by name.
        cup_to_disc: vertical ratio, of a photograph with a disc.
        missing_slices: indices of the slices that have no file, see `VolumeSeries`.
        files: what was written, each by its kind, from the output folder.
        error: why there is no mask.
    """

    name: str
    seconds: float = 0.0
    structures: dict[str, Measured] = field(default_factory=dict)
    cup_to_disc: float | None = None
    missing_slices: tuple[int, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    error: Exception | None = None


@dataclass(frozen=True)
class Extras:
    """What is written beside the masks.

    Attributes:
        uncertainty: whether a map of it.
        dicom_seg: makes a DICOM SEG of each DICOM series; None for none.
    """

    uncertainty: bool = False
    dicom_seg: SegmentationMaker | None = None


@dataclass
class _Job:
    """A case on its way: what one stage leaves to the next."""

    case: Case
    outcome: Outcome
    batch: dict[str, Any] | None = None
    logits: Tensor | None = None


def predict(
    found: Found,
    segmenter: Segmenter,
    out: Path,
    extras: Extras,
    done: Callable[[Outcome], None],
    *,
    overlap: bool = False,
) -> None:
    """Segment every case, and tell ``done`` of each in their order.

    A case of which one file cannot be made has none of them, not even those of an earlier run.

    Args:
        found: the cases, and what could not be one, which is an outcome, too.
        segmenter: the bundle.
        out: the output folder, made where needed.
        extras: what is written beside the masks.
        done: is told each outcome, in the calling thread.
        overlap: whether to read and write other cases while the network is at one.
    """
    files = _Files(found.root, out, segmenter)
    for refused in found.refused:
        error: Exception = refused.error
        if refused.image is not None:
            try:
                files.remove(refused.image)
            except OSError as left:  # worse than why it was refused: an old mask remains
                error = left
        done(Outcome(refused.name, error=error))
    stages = _Stages(segmenter, files, extras)

    def tell(job: _Job) -> None:
        done(job.outcome)
        _let_go(job.outcome.error)

    run = overlapping if overlap else one_by_one
    run([_job(case) for case in found.cases], stages.read, stages.infer, stages.write, tell)


def _job(case: Case) -> _Job:
    missing = case.series.missing if case.series else ()
    return _Job(case, Outcome(case.name, missing_slices=missing))


def _let_go(error: BaseException | None) -> None:
    """Drop the frames an error came through: they hold the arrays of its case."""
    seen: set[int] = set()  # errors may be each other's cause
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class _Files:
    """Where the files of a case go."""

    def __init__(self, root: Path, out: Path, segmenter: Segmenter) -> None:
        self.out = absolute(out)
        kind = segmenter.kind.name
        self.masks = MirroredLayout(str(self.out), str(root), kind=kind)
        self.maps = MirroredLayout(str(self.out), str(root), UNCERTAINTY, kind=kind)
        self.suffix = segmenter.kind.mask_suffix

    def of(self, image: Path) -> dict[str, Path]:
        mask = self.masks.place(image)
        return {
            "mask": mask,
            UNCERTAINTY: self.maps.place(image),
            "dicom_seg": mask.with_name(mask.name.removesuffix(self.suffix) + SEG_SUFFIX),
        }

    def remove(self, image: Path) -> None:
        if self.out.is_dir():
            for file in self.of(image).values():
                file.unlink(missing_ok=True)

    def relative(self, file: Path) -> str:
        return file.relative_to(self.out).as_posix()


@dataclass(frozen=True)
class _Stages:
    """What becomes of a case, in three stages. An error is kept with its case and ends it."""

    segmenter: Segmenter
    files: _Files
    extras: Extras

    def read(self, job: _Job) -> None:
        with self._stage(job):
            self.files.remove(job.case.image)
            job.batch = self.segmenter.read(job.case)

    def infer(self, job: _Job) -> None:
        if job.batch is not None:
            with self._stage(job):
                job.logits = self.segmenter.infer(job.batch)

    def write(self, job: _Job) -> None:
        if job.batch is not None and job.logits is not None:
            with self._stage(job):
                prediction = self.segmenter.finish(job.case, job.batch, job.logits)
                self._write(job.case, prediction, job.outcome)
        job.batch = job.logits = None

    @contextmanager
    def _stage(self, job: _Job) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        except BaseException as error:
            # What stopped the case may stop this, too, and is what is told.
            with suppress(OSError):
                self.files.remove(job.case.image)
            if not isinstance(error, Exception):  # Ctrl-C
                raise
            job.outcome.error = error  # whatever it is, the next case may be sound
            job.outcome.structures, job.outcome.files = {}, {}
            job.batch = job.logits = None
        finally:
            job.outcome.seconds += time.perf_counter() - start

    def _write(self, case: Case, prediction: Prediction, outcome: Outcome) -> None:
        """Write the files of a case, the mask last, so that it says that all are there."""
        segmenter, files, extras = self.segmenter, self.files, self.extras
        places = files.of(case.image)
        places["mask"].parent.mkdir(parents=True, exist_ok=True)
        item, probabilities = prediction.item, convert_to_numpy(prediction.probabilities)
        labels = convert_to_numpy(item["pred"])[0]
        photograph = segmenter.kind is not VOLUME
        voxel = 1.0 if photograph else voxel_ml(_affine(item["pred"]))
        outcome.structures = measure(labels, probabilities, segmenter.structures, voxel)
        outcome.cup_to_disc = cup_to_disc(labels, segmenter.structures) if photograph else None
        if extras.uncertainty:
            doubt = insert_slices(uncertainty(probabilities), outcome.missing_slices)
            write_map(places[UNCERTAINTY], doubt, _affine(item["pred"]), case.image, photograph)
            outcome.files[UNCERTAINTY] = files.relative(places[UNCERTAINTY])
        if extras.dicom_seg is not None and case.series is not None:
            extras.dicom_seg.write(places["dicom_seg"], labels, case.series)
            outcome.files["dicom_seg"] = files.relative(places["dicom_seg"])
        item["pred"] = _with_missing(item["pred"], outcome.missing_slices)
        segmenter.write_mask(item)
        outcome.files["mask"] = files.relative(places["mask"])


def _affine(mask: MetaTensor) -> Any:
    return convert_to_numpy(mask.affine).astype(np.float64)


def _with_missing(mask: MetaTensor, missing: Sequence[int]) -> MetaTensor:
    """Return the mask (1, X, Y, Z) with empty slices where files are missing."""
    if not missing:
        return mask
    whole = insert_slices(convert_to_numpy(mask)[0], missing)[None]
    return MetaTensor(whole, meta=mask.meta)
