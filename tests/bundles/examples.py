"""What tests of the bundles share: copies of them, small data sets, settings of a second."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

from dim_monai.data.demo import DEMO_SETS, make_demo

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


@dataclass(frozen=True)
class Task:
    """What a bundle can be trained for.

    Attributes:
        scored: names of what the evaluation scores.
        overlays: files that turn the bundle to it.
        settings: what they need to stay tiny.
    """

    scored: list[str]
    overlays: list[str] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """A bundle under test.

    Attributes:
        name: of the bundle.
        kind: of its cases.
        image: suffix of an image of the demo's labelled domain.
        mask: suffix of a mask.
        network: settings of a network that is tiny, in training and inference.
        tasks: name to what it can be trained for; the first needs no overlay.
    """

    name: str
    kind: str
    image: str
    mask: str
    network: dict[str, Any]
    tasks: dict[str, Task]

    @property
    def folder(self) -> Path:
        return BUNDLES / self.name

    @property
    def tiny(self) -> dict[str, Any]:
        """Settings of a training that takes a second."""
        return {
            **self.network,
            "max_epochs": 1,
            "steps_per_epoch": 2,
            "val_interval": 1,
            "labelled_batch": 2,
            "unlabelled_batch": 2,
        }

    @property
    def scored(self) -> list[str]:
        return next(iter(self.tasks.values())).scored

    @property
    def methods(self) -> list[str]:
        """The overlays that are methods, from the configs."""
        configs = self.folder / "configs"
        return sorted(path.relative_to(configs).as_posix() for path in configs.glob("methods/*"))

    @property
    def overlays(self) -> list[str]:
        """The overlays that are tasks."""
        return sorted({file for task in self.tasks.values() for file in task.overlays})


_PATCH = {"roi_size": [32, 32, 8]}  # of the overlay whose network is 3-D
PROSTATE = Example(
    name="dim_prostate",
    kind="volume",
    image=".nii.gz",
    mask=".nii.gz",
    network={
        "roi_size": [32, 32],
        "network_def#channels": [4, 8],
        "network_def#strides": [2],
    },
    tasks={
        "slices": Task(["prostate"]),
        "zones": Task(["peripheral_zone", "central_gland"], ["zones.yaml"]),
        "volumes": Task(["prostate"], ["volumes.yaml"], _PATCH),
        "volumes of zones": Task(
            ["peripheral_zone", "central_gland"], ["volumes.yaml", "zones.yaml"], _PATCH
        ),
    },
)
FUNDUS = Example(
    name="dim_fundus",
    kind="photograph",
    image=".png",
    mask=".png",
    network={
        "roi_size": [32, 32],
        "working_size": 96,
        "unet#channels": [4, 8],
        "unet#strides": [2],
    },
    tasks={
        "regions": Task(["disc", "cup"]),
        "photographs": Task(["disc", "cup"], ["photographs.yaml"]),
        "disc": Task(["disc"], ["disc.yaml"]),
        "disc in photographs": Task(["disc"], ["photographs.yaml", "disc.yaml"]),
        "vessel": Task(["vessel"], ["vessel.yaml"]),
    },
)
EXAMPLES = (PROSTATE, FUNDUS)

# Of the demo's photographs: drawing all of them takes longer than the tests of a bundle.
_FEW = {
    "labeled": {"camera_a": 3},
    "unlabeled": {"camera_a": 1, "camera_b": 1, "camera_c": 1},
    "validation": {"camera_a": 2},
    "test": {"camera_a": 1, "camera_c": 1, "camera_d": 1},
}


def copy_bundle(folder: Path, example: Example = PROSTATE) -> Path:
    """Copy a bundle without weights and results: tests never write into the repository."""
    unwanted = shutil.ignore_patterns("eval", "*.pt", "*.ts", "*.safetensors", "*.sha256")
    return Path(shutil.copytree(example.folder, folder, ignore=unwanted))


def demo_set(tmp_path_factory: pytest.TempPathFactory, kind: str = "volume") -> Path:
    """Return the demo set, of photographs a part of it, made once a session."""
    folder = tmp_path_factory.getbasetemp() / f"demo_{kind}"
    with pytest.MonkeyPatch.context() as patch:
        photographs = replace(DEMO_SETS["photograph"], split=_FEW)
        patch.setitem(DEMO_SETS, "photograph", photographs)
        return make_demo(folder, kind=kind)


def small_set(folder: Path, demo: Path, **counts: int) -> Path:
    """Write a data list of so many cases of each list of the demo set, spread over its domains."""
    lists = json.loads((demo / "datalist.json").read_text())
    chosen = {}
    for name, count in counts.items():
        entries = lists[name][:: max(1, len(lists[name]) // max(1, count))][:count]
        paths = [{k: str(demo / e[k]) for k in ("image", "label") if k in e} for e in entries]
        chosen[name] = [{**e, **p} for e, p in zip(entries, paths, strict=True)]
    folder.mkdir(parents=True)
    (folder / "datalist.json").write_text(json.dumps(chosen))
    return folder


def start(bundle: Path, *configs: str, kind: str = "train", **overrides: Any) -> ConfigWorkflow:
    """Return the initialised workflow of config files named from the bundle's ``configs``."""
    hook = sys.excepthook
    try:
        workflow = ConfigWorkflow(
            config_file=[str(bundle / "configs" / name) for name in configs],
            logging_file=False,  # logging belongs to pytest
            workflow_type=kind,
            **overrides,
        )
        workflow.initialize()
    finally:
        sys.excepthook = hook
    return workflow


def tree(root: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def last_terms(workflow: ConfigWorkflow) -> dict[str, float]:
    """Return the unweighted terms of the last training step."""
    (output,) = workflow.parser.get_parsed_content("train#trainer").state.output
    return {name: float(value) for name, value in output["terms"].items()}
