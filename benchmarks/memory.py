"""What a large photograph takes in memory: the peak of the inference command of dim_fundus.

    python benchmarks/memory.py

The photograph has 4288 x 2848 pixels, those of IDRiD's camera: a bright disc on a retina with
noise. The network has weights that were never trained; memory does not depend on them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from cells import ROOT, call
from monai.bundle import ConfigParser
from PIL import Image

from dim_monai.bundle import bundle_command

CONFIG = ROOT / "bundles" / "dim_fundus" / "configs" / "inference.yaml"
WIDTH, HEIGHT = 4288, 2848
RETINA, DISC = 1700, 320  # radii, pixels


def photograph() -> Image.Image:
    """Return a disc on a retina on black, with noise."""
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    retina = np.hypot(x - WIDTH / 2, y - HEIGHT / 2) < RETINA
    disc = np.hypot(x - WIDTH / 3, y - HEIGHT / 2) < DISC
    noise = np.random.default_rng(0).normal(0, 8, (HEIGHT, WIDTH, 3))
    pixels = noise + retina[..., None] * [150, 80, 40] + disc[..., None] * [80, 100, 80]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def main() -> None:
    """Measure and print."""
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    parser["bundle_root"] = str(CONFIG.parents[1])
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        photograph().save(folder / "in" / "eye.jpg", quality=90)
        torch.save(network.state_dict(), folder / "model.pt")
        places = {"dataset_dir": "in", "output_dir": "out", "model_file": "model.pt"}
        settings = {key: folder / place for key, place in places.items()}
        peak_gb = call(bundle_command("", [CONFIG], settings))
        with Image.open(folder / "out" / "eye_seg.png") as mask:
            if mask.size != (WIDTH, HEIGHT):
                raise RuntimeError(f"a mask of {mask.size} pixels")
    sys.stdout.write(f"{WIDTH} x {HEIGHT} pixels, read to written: peak {peak_gb:.2f} GB\n")


if __name__ == "__main__":
    main()
