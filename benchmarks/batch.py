"""What ``predict --batch`` costs beyond the network: 20 images over 20 times the network alone.

    DIM_TEST_DATA=... python benchmarks/batch.py

The images are those of the folder, in turn, each a file of its own. The network alone, on inputs
that are in memory, and the runs without and with --batch take turns in one process that is confined
to two cores; OMP_NUM_THREADS sets the threads of the network, the same in all three. The smallest
time of each counts, because whatever else runs on the machine only adds to it. Memory is the peak
of the command for several numbers of images. The weights are drawn, not trained: their masks are
noise, which takes longer to write than an organ does.

No run on two cores can be shorter than half of its core seconds, which other processes change less.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from cells import ROOT, call, test_data
from monai.bundle import ConfigParser

from dim_monai.predict.segmenter import Settings
from dim_monai.predict.session import Request, Session

IMAGES = {
    "dim_prostate": ("prostate_t2", "*/*_t2.nii.gz"),
    "dim_fundus": ("fundus_disc", "**/*.jpg"),
}
CORES = 2
COUNT = 20
COUNTS = (5, 20, 60)
ROUNDS = 5


def copies(images: Sequence[Path], count: int, target: Path) -> Path:
    """Fill a folder with so many files, copies of some images in turn."""
    target.mkdir()
    for n in range(count):
        image = images[n % len(images)]
        shutil.copyfile(image, target / f"{n:03d}_{image.name}")
    return target


def weights(bundle: Path, file: Path) -> Path:
    """Write the first weights of a bundle's network."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.yaml"))
    parser["bundle_root"] = str(bundle)
    torch.manual_seed(0)
    torch.save(parser.get_parsed_content("network_def").state_dict(), file)
    return file


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return how long a call takes, and how long it keeps cores busy, all of them added up."""
    start, start_core = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - start_core


def times(bundle: Path, images: Path, model: Path, out: Path) -> dict[str, tuple[float, float]]:
    """Return `seconds` of the network alone and of both runs, each the least of some."""

    def session(*, batch: bool) -> Session:
        settings = Settings(model_file=model, device="cpu")
        return Session(Request(images, out, str(bundle), settings, batch=batch))

    segmenter = session(batch=False).segmenter
    batches = [segmenter.read(case) for case in session(batch=False).found.cases]

    def network() -> None:
        for batch in batches:
            segmenter.infer(batch)

    def run(*, batch: bool) -> Callable[[], None]:
        opened = session(batch=batch)
        return lambda: opened.run(_nothing)

    least: dict[str, tuple[float, float]] = {}
    for _ in range(ROUNDS):
        works = {
            "network alone": network,
            "one by one": run(batch=False),
            "--batch": run(batch=True),
        }
        for name, work in works.items():
            one, other = least.get(name, (math.inf, math.inf)), seconds(work)
            least[name] = min(one[0], other[0]), min(one[1], other[1])
    return least


def _nothing(_: object) -> None:
    pass


def peak_gb(bundle: Path, images: Path, model: Path, out: Path, *words: str) -> float:
    """Return the peak memory of a command."""
    command = [sys.executable, "-m", "dim_monai.cli", "predict", str(images), str(out)]
    command += ["--bundle", str(bundle), "--model", str(model), "--quiet", "--device", "cpu"]
    return call([*command, *words])


def main() -> None:
    """Measure and print."""
    data = test_data(sys.exit)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(min(torch.get_num_threads(), CORES))
    write = sys.stdout.write
    write(f"{COUNT} images, {CORES} cores, {torch.get_num_threads()} threads of the network\n")
    for name, (folder, pattern) in IMAGES.items():
        bundle = ROOT / "bundles" / name
        with tempfile.TemporaryDirectory() as temporary:
            place = Path(temporary)
            model = weights(bundle, place / "model.pt")
            found = sorted((data / folder).glob(pattern))
            least = times(bundle, copies(found, COUNT, place / "in"), model, place / "out")
            write(f"\n{name}\n\n| | s | x network | core s |\n|---|---|---|---|\n")
            alone, _ = least["network alone"]
            for what, (passed, core) in least.items():
                write(f"| {what} | {passed:.2f} | {passed / alone:.2f} | {core:.2f} |\n")
            sys.stdout.flush()
            write("\n| images | peak, GB | with --batch |\n|---|---|---|\n")
            for count in COUNTS:
                # The same few whatever the number, or it might be a larger one that takes more.
                images = copies(found[: COUNTS[0]], count, place / f"in{count}")
                peaks = (
                    peak_gb(bundle, images, model, place / "out", *words)
                    for words in ((), ("--batch",))
                )
                write("| {} | {:.2f} | {:.2f} |\n".format(count, *peaks))


if __name__ == "__main__":
    main()
