"""A bundle's inference, opened so that it segments one case at a time.

What runs is the bundle's own ``inference.yaml``: its reading, its network, its inferer and its
postprocessing. Only where they meet is here, because a report needs the probabilities that the
config turns into classes, and because one bad case must not end the run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ReferenceResolver
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from monai.transforms import AsDiscreted, Compose, LoadImaged, SaveImaged
from monai.transforms.utils import reset_ops_id
from torch import Tensor, nn

from dim_monai.bundle import usable_device
from dim_monai.data.kinds import Kind, get_kind
from dim_monai.data.weights import load_model, pretrained_note
from dim_monai.errors import ConfigError, DataError, DimError, NumericError
from dim_monai.inference import MostLikelyClassd
from dim_monai.predict.cases import Case
from dim_monai.predict.measure import Structure, structures_from_config
from dim_monai.predict.reader import SeriesReader
from dim_monai.predict.rules import SeriesRules
from dim_monai.predict.series import VolumeSeries
from dim_monai.shipped import INFERENCE

FLIPS = "displayable_configs#test_time_flips"
LARGEST = "largest_component"


@dataclass(frozen=True)
class Settings:
    """What a user may choose about the network.

    Attributes:
        model_file: its weights; None for those of the bundle.
        overlays: config files that are merged into ``inference.yaml``; a later one wins.
        device: as PyTorch calls it; None for the bundle's choice.
        flips: whether mirror images are segmented, too, and averaged.
        keep_all_components: whether pieces beside the largest one stay in the mask.
    """

    model_file: Path | None = None
    overlays: tuple[Path, ...] = ()
    device: str | None = None
    flips: bool = False
    keep_all_components: bool = False


@dataclass(frozen=True)
class Prediction:
    """What the network says of one case.

    Attributes:
        item: the case as the postprocessing sees it: ``pred`` is the mask (1, *S) of class indices,
            a `MetaTensor` on the grid of the input.
        probabilities: of each class on that grid, (K, *S).
    """

    item: dict[str, Any]
    probabilities: MetaTensor


@dataclass
class Segmenter:
    """The parts of a bundle's inference, with the weights loaded.

    Attributes:
        bundle: its folder.
        version: of the bundle.
        kind: of its cases.
        structures: what it segments.
        rules: which DICOM series it segments.
        model_file: where the weights come from.
        pretrained: what must be known of weights that came with the bundle; None of others.
        device: what it computes on.
        largest_component: whether only the largest piece of a mask stays.
        flips: whether mirror images are averaged.
        series: the DICOM series among the cases, by the path of the case; filled by `open_series`.
    """

    bundle: Path
    version: str
    kind: Kind
    structures: tuple[Structure, ...]
    rules: SeriesRules
    model_file: Path
    pretrained: str | None
    device: torch.device
    largest_component: bool
    flips: bool
    network: nn.Module = field(repr=False)
    inferer: Inferer = field(repr=False)
    preprocessing: Compose = field(repr=False)
    to_probabilities: Compose = field(repr=False)
    to_mask: Compose = field(repr=False)
    save: SaveImaged = field(repr=False)
    series: dict[Path, VolumeSeries] = field(repr=False)

    def read(self, case: Case) -> dict[str, Any]:
        """Read and preprocess one case.

        Returns:
            A batch of one, what `infer` and `finish` take.

        Raises:
            DataError: the case cannot be read.
        """
        if case.series is not None:
            self.series[case.image] = case.series
        with _plain_errors(), torch.no_grad():
            item = reset_ops_id(self.preprocessing({"image": str(case.image)}))
            batch: dict[str, Any] = list_data_collate([item])
            return batch

    def infer(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the logits of the network (1, K, *S), on the grid of the preprocessed image."""
        with _plain_errors(), torch.no_grad(), eval_mode(self.network):
            logits: Tensor = self.inferer(batch["image"].to(self.device), self.network)
            return logits

    def finish(self, case: Case, batch: Mapping[str, Any], logits: Tensor) -> Prediction:
        """Return what the network says on the grid of the case.

        Raises:
            NumericError: the network returned numbers that are not finite.
        """
        with _plain_errors(), torch.no_grad():
            if not torch.isfinite(logits).all():
                raise NumericError(
                    "the network returned numbers that are not finite",
                    file=case.image,
                    do="check the weights, and the image for values without meaning",
                )
            (item,) = decollate_batch({**batch, "pred": logits})
            item = self.to_probabilities(item)
            probabilities = item["pred"]
            return Prediction(dict(self.to_mask(item)), probabilities)

    def write_mask(self, item: Mapping[str, Any]) -> None:
        """Write the mask of a case as the bundle does, whole or not at all.

        Raises:
            DataError: it cannot be written; why, MONAI keeps in the text of its own error alone.
        """
        try:
            with _plain_errors():
                self.save(dict(item))
        except RuntimeError as error:
            raise DataError(
                "mask cannot be written", do="is there room on the disk? --traceback tells more"
            ) from error


def open_bundle(bundle: Path, given: Path, out: Path, settings: Settings) -> Segmenter:
    """Return the inference of a bundle with its weights, ready for cases.

    Args:
        bundle: its folder.
        given: the input folder or file; masks mirror the tree below it.
        out: where masks go.
        settings: of the user.

    Raises:
        CheckpointError: the weights are missing, damaged, of another network or other classes.
        ConfigError: the bundle or a setting is not usable.
    """
    series: dict[Path, VolumeSeries] = {}
    with _plain_errors(), _quiet_monai():
        workflow = _workflow(bundle, given, out, settings, SeriesReader(series))
        workflow.initialize()
        parser = workflow.parser
        inferer = parser.get_parsed_content("inferer")
        # A copy: the inverse in the postprocessing switches off, for a moment, what its transforms
        # note of the images that go through them, and the next case may be on its way.
        preprocessing = deepcopy(parser.get_parsed_content("preprocessing"), {id(series): series})
        network = parser.get_parsed_content("network")
        post = list(parser.get_parsed_content("postprocessing").transforms)
        model_file = Path(parser.get_parsed_content("model_file"))
        kind = get_kind(parser.get("case_kind", "volume"))
        classes = list(parser.get_parsed_content("label_classes"))
    load_model(str(model_file), network, classes)
    discrete = _place(post, AsDiscreted, MostLikelyClassd)
    save = _place(post, SaveImaged)
    return Segmenter(
        bundle=bundle,
        version=str(parser.get("_meta_#version", "unknown")),
        kind=kind,
        structures=structures_from_config(parser.get("structures"), len(classes)),
        rules=SeriesRules.from_config(parser.get("series")),
        model_file=model_file,
        pretrained=pretrained_note(str(model_file), network),
        device=torch.device(parser.get_parsed_content("device")),
        largest_component=bool(parser.get_parsed_content(LARGEST)),
        flips=bool(parser.get_parsed_content(FLIPS)),
        network=network,
        inferer=inferer,
        preprocessing=preprocessing,
        to_probabilities=Compose(post[:discrete]),
        to_mask=Compose(post[discrete:save]),
        save=post[save],
        series=series,
    )


def _workflow(
    bundle: Path, given: Path, out: Path, settings: Settings, reader: SeriesReader
) -> ConfigWorkflow:
    for file in settings.overlays:
        if not file.is_file():
            raise ConfigError("no such overlay", file=file)
    workflow = ConfigWorkflow(
        config_file=[str(file) for file in (bundle / INFERENCE, *settings.overlays)],
        logging_file=False,
        workflow_type="inference",
        bundle_root=str(bundle),
        dataset_dir=str(given),
        output_dir=str(out),
        initialize=["$bundle.check_overrides()"],  # whether the cases are sound is asked of each
    )
    parser = workflow.parser
    needed = ("preprocessing#transforms", "inferer", "network", "postprocessing", FLIPS, LARGEST)
    for name in (*needed, "label_classes", "model_file"):
        if name not in parser:
            raise ConfigError(
                "not an inference of this package", file=bundle / INFERENCE, got=f"no {name}"
            )
    loads = list(_loaders(parser, "preprocessing#transforms"))
    if len(loads) != 1:
        raise ConfigError("preprocessing does not load one image", file=bundle / INFERENCE)
    overrides: dict[str, Any] = {f"{loads[0]}#reader": reader}
    if settings.model_file is not None:
        overrides["model_file"] = str(settings.model_file)
    if settings.device is not None:
        overrides["device"] = usable_device(settings.device)
    if settings.flips:
        overrides[FLIPS] = True
    if settings.keep_all_components:
        overrides[LARGEST] = False
    parser.update(overrides)
    return workflow


def _loaders(parser: ConfigParser, id_: str) -> Iterator[str]:
    """Yield the ids of the transforms that load an image: below ``id_``, or where it refers to."""
    value = parser.get(id_)
    if isinstance(value, str):
        for referred in ReferenceResolver.match_refs_pattern(value):
            yield from _loaders(parser, referred)
    elif isinstance(value, list):
        for place in range(len(value)):
            yield from _loaders(parser, f"{id_}#{place}")
    elif isinstance(value, dict) and _target(value) == LoadImaged.__name__:
        yield id_


def _target(component: Mapping[str, Any]) -> str:
    """Return the name of the class, whatever module it is taken from."""
    return str(component.get("_target_")).rpartition(".")[2]


def _place(transforms: Sequence[object], *kinds: type) -> int:
    found = [n for n, transform in enumerate(transforms) if isinstance(transform, kinds)]
    if len(found) != 1:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError("postprocessing", got=f"{len(found)} {names}", expected="one")
    return found[0]


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise the error of this package, or of the system, that MONAI wrapped."""
    try:
        yield
    except Exception as error:
        known = _first_known(error)
        if known is None or known is error:
            raise
        raise known from None


def _first_known(error: BaseException | None) -> Exception | None:
    while error is not None and not isinstance(error, DimError | OSError):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def _quiet_monai() -> Iterator[None]:
    """Let MONAI not tell that the log is not its own."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
