"""What a bundle exports gives what its network gives, on images of the demo and on real ones.

The commands are those of the bundle's README, word by word.
"""

from __future__ import annotations

import json
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from torch import Tensor, nn

from dim_monai.data.demo import DEMO_SETS
from dim_monai.data.demo.photographs import WHOLE
from dim_monai.errors import ConfigError
from dim_monai.lint.metadata import REQUIRED
from dim_monai.networks import CoarseToFine
from dim_monai.networks.windows import look, window_around
from tests.bundles.examples import FUNDUS, Example

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")

DEMO_CASE = {"volume": ("site_a", 0), "photograph": ("camera_a", WHOLE["camera_a"])}
REAL_CASE = {
    "volume": "prostate_t2/rumc_320/Case06_t2.nii.gz",
    "photograph": "fundus_disc/image/IDRiD_03.jpg",
}
STEPS = {"volume": 60, "photograph": 30}

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Fitted:
    """A bundle whose weights know one case of the demo, so that it has something to find.

    Attributes:
        example: the bundle.
        folder: a copy of it, with these weights.
        network: with them, in PyTorch.
        size: of what the network sees, pixels.
        image: of the case as the network is given it, (B, C, W, H).
        label: of the case, (B, 1, W, H).
    """

    example: Example
    folder: Path
    network: nn.Module
    size: int
    image: Tensor
    label: Tensor

    def tolerance(self, format_: str) -> float:
        metadata = json.loads((self.folder / "configs" / "metadata.json").read_text())
        return float(metadata["exports"][format_]["largest_logit_difference"])

    def looks(self, batch: Tensor) -> list[Tensor]:
        """Return what of it a network of one size sees: (1, C, size, size)."""
        if self.example.kind == "volume":
            return list(batch.split(1))
        whole = (0, 0, *batch.shape[2:])
        first = look(batch, whole, self.size)
        _, window = self.network.search(batch, self.network.network(first))
        return [first, look(batch, window, self.size)]


def as_batch(example: Example, array: MetaTensor) -> Tensor:
    """Return the slices of a volume, or the one photograph, (B, C, W, H)."""
    array = array.as_tensor().float()
    return array.movedim(-1, 0) if example.kind == "volume" else array[None]


def lesson(fitted: Fitted) -> tuple[Tensor, Tensor]:
    """Return what a network of one size learns the case from: images and labels."""
    image, label = fitted.image, fitted.label
    if fitted.example.kind == "volume":
        chosen = [0, int(label.sum(dim=(1, 2, 3)).argmax()), -1]
        return image[chosen], label[chosen]
    whole = (0, 0, *image.shape[2:])
    classes = torch.cat([(label == k).float() for k in range(3)], dim=1)
    disc = look(1 - classes[:, :1], whole, fitted.size)[0, 0] > 0.5
    windows = [whole, window_around(disc, whole, 2.5, *image.shape[2:])]
    images, labels = (
        torch.cat([look(x, window, fitted.size) for window in windows]) for x in (image, classes)
    )
    return images, labels.argmax(dim=1, keepdim=True)


def fit(network: nn.Module, images: Tensor, labels: Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    loss = DiceCELoss(softmax=True, to_onehot_y=True)
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss(network(images), labels).backward()
        optimizer.step()
    network.eval()


@pytest.fixture(scope="module")
def fitted(example: Example, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    place = tmp_path_factory.mktemp("case")
    domain, number = DEMO_CASE[example.kind]
    write = DEMO_SETS[example.kind].write_case
    image, label = write(domain, number, 0, images=place / "images", labels=place / "labels")
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.yaml"))
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    size = int(parser["roi_size"][0])
    prepare = parser.get_parsed_content("validate#preprocessing")
    case = prepare({"image": str(image), "label": str(label)})
    arrays = (as_batch(example, case[key]) for key in ("image", "label"))
    found = Fitted(example, bundle, network, size, *arrays)
    fit(network, *lesson(found), steps=STEPS[example.kind])
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    return found


def words(fitted: Fitted, name: str, files: dict[str, Path]) -> list[str]:
    """Return the words of the one such command of the README, with other places in it."""
    name_of, text = fitted.example.name, fitted.example.folder / "docs" / "README.md"
    lines = text.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    (line,) = [i for i in lines if i.startswith(f"    python -m monai.bundle {name} ")]
    places = {f"bundles/{name_of}": str(fitted.folder), **{k: str(v) for k, v in files.items()}}
    for old, new in places.items():
        line = line.replace(old, new)
    return shlex.split(line)[1:]


def call(command: list[str]) -> None:
    """Do in this process what Python does with these words: its imports take seconds."""
    module, arguments = command[1], command[2:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *arguments])
        runpy.run_module(module, run_name="__main__")


@pytest.fixture(scope="module")
def torchscript(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("torchscript")
    command = words(fitted, "ckpt_export", {"MODEL.ts": folder / "model.ts"})
    if fitted.example is FUNDUS:  # as it is typed; the more difficult of the exports
        subprocess.run([sys.executable, *command], cwd=folder, check=True, capture_output=True)
    else:
        call(command)
    module = torch.jit.load(str(folder / "model.ts")).eval()
    return lambda image: module(image)


@pytest.fixture(scope="module")
def onnx(fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Run:
    why = "it is not installed: no ONNX model to compare with"
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=why)
    runtime = pytest.importorskip("onnxruntime", reason=why)
    file = tmp_path_factory.mktemp("onnx") / "model.onnx"
    call(words(fitted, "onnx_export", {"MODEL.onnx": file}))
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda image: torch.from_numpy(session.run(None, {given.name: image.numpy()})[0])


@pytest.fixture(params=["demo", "real"])
def batch(request: pytest.FixtureRequest, fitted: Fitted) -> Tensor:
    """An image of the demo, or a real one."""
    if request.param == "demo":
        return fitted.image
    real = request.getfixturevalue("test_data") / REAL_CASE[fitted.example.kind]
    inference = ConfigParser()
    inference.read_config(str(fitted.folder / "configs" / "inference.yaml"))
    array = inference.get_parsed_content("preprocessing")({"image": str(real)})["image"]
    return as_batch(fitted.example, array)


def require_same(given: Tensor, expected: Tensor, tolerance: float) -> None:
    assert given.shape == expected.shape
    assert float((given - expected).abs().max()) <= tolerance
    assert torch.equal(given.argmax(dim=1), expected.argmax(dim=1))


@torch.no_grad()
def test_the_network_finds_something_to_compare(fitted: Fitted) -> None:
    found, truth = fitted.network(fitted.image).argmax(dim=1) > 0, fitted.label[:, 0] > 0
    assert 2 * (found & truth).sum() > 0.5 * (found.sum() + truth.sum())
    if fitted.example.kind == "photograph":  # it was searched for, and is small
        assert 0 < found.float().mean() < 0.1


@torch.no_grad()
def test_torchscript_segments_like_pytorch(fitted: Fitted, torchscript: Run, batch: Tensor) -> None:
    tolerance = fitted.tolerance("torchscript")
    for image in (batch, *fitted.looks(batch)[:2]):
        require_same(torchscript(image), fitted.network(image), tolerance)


@torch.no_grad()
def test_onnx_segments_like_pytorch(fitted: Fitted, onnx: Run, batch: Tensor) -> None:
    for image in fitted.looks(batch):
        require_same(onnx(image), fitted.network(image), fitted.tolerance("onnx"))


def test_onnx_refuses_an_image_of_another_size(fitted: Fitted, onnx: Run) -> None:
    channels = fitted.image.shape[1]
    with pytest.raises(Exception, match="invalid dimensions"):
        onnx(torch.zeros(1, channels, fitted.size, fitted.size + 16))


def test_the_network_is_as_the_metadata_say(fitted: Fitted) -> None:
    call(words(fitted, "verify_net_in_out", {}))
    wrong = words(fitted, "verify_net_in_out", {})
    with pytest.raises(ValueError, match="channel number"):
        call([*wrong, "--_meta_#network_data_format#outputs#pred#num_channels", "7"])


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    """Some of MONAI's schema: the command would download all of it."""
    file = tmp_path / "schema.json"
    file.write_text(json.dumps({"type": "object", "required": list(REQUIRED)}))
    return file


@pytest.mark.filterwarnings("ignore:No hash value")
def test_the_metadata_are_verified(fitted: Fitted, schema: Path, tmp_path: Path) -> None:
    command = words(fitted, "verify_metadata", {"SCHEMA.json": schema})
    call(command)
    metadata = json.loads((fitted.folder / "configs" / "metadata.json").read_text())
    del metadata["task"]
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    command[command.index("--meta_file") + 1] = str(tmp_path / "metadata.json")
    with pytest.raises(ValueError, match="Failed validating"):
        call(command)


@pytest.fixture
def search() -> CoarseToFine:
    network = UNet(2, 3, 3, channels=[4, 8], strides=[2])
    return CoarseToFine(network, (32, 32)).eval()


@pytest.mark.parametrize("size", [32, 48])
def test_the_search_for_the_disc_cannot_be_traced(search: CoarseToFine, size: int) -> None:
    with pytest.raises(ConfigError, match="cannot be traced"):
        torch.jit.trace(search, torch.rand(1, 3, size, size))


def test_torch_export_takes_the_network_of_one_look_alone(search: CoarseToFine) -> None:
    image = torch.rand(1, 3, 32, 32)
    exported: Any = torch.export.export(search, (image,), strict=False).module()
    assert torch.allclose(exported(image), search(image), atol=1e-5)
    with pytest.raises(ConfigError, match="cannot be traced"):
        torch.export.export(search, (torch.rand(1, 3, 48, 40),), strict=False)
