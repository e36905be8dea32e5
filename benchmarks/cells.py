"""What the measurements of trainings share: cells of one training each.

A cell is one training and one evaluation by a bundle's own commands. Its rows are added to a CSV
file when it is done, and a cell that has rows there is not run again.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from tables import add_rows, read_rows

from dim_monai.bundle import bundle_command
from dim_monai.errors import DimError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MODEL = "model.pt"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Of every cell: more threads add in another order, and after thousands of steps on one labelled
volume the same seed ends elsewhere."""


@dataclass(frozen=True)
class Trained:
    """What a cell leaves, as long as its folder is there.

    Attributes:
        output: folder of the run.
        scores: rows of the test cases in ``metrics.csv``.
        minutes: that the training took.
        peak_gb: memory of the training.
    """

    output: Path
    scores: list[dict[str, str]]
    minutes: float
    peak_gb: float

    @property
    def model(self) -> Path:
        """Weights of the deployed network."""
        return self.output / MODEL

    @property
    def cost(self) -> dict[str, float]:
        """The last two as columns of a table."""
        return {"minutes": round(self.minutes, 2), "peak_gb": round(self.peak_gb, 2)}


def draw(cases: Sequence[str], count: int, seed: int) -> tuple[list[str], list[str]]:
    """Return ``count`` cases drawn by ``seed`` and the others."""
    order = random.Random(seed).sample(list(cases), len(cases))  # noqa: S311
    return order[:count], order[count:]


@contextmanager
def train_and_evaluate(
    configs: Path, method: str, tasks: Sequence[str], lists: dict[str, Any], **settings: object
) -> Iterator[Trained]:
    """Train a method of a bundle on a data list, and score its test list.

    Args:
        configs: the bundle's folder of configs.
        method: name of an overlay, or "dim", which needs none.
        tasks: names of further overlays.
        lists: content of ``datalist.json``.
        settings: overrides, of the evaluation, too.
    """
    files = config_files(configs, method, tasks)
    with tempfile.TemporaryDirectory() as folder:
        dataset, output = Path(folder, "data"), Path(folder, "out")
        dataset.mkdir()
        (dataset / "datalist.json").write_text(json.dumps(lists), encoding="utf-8")
        places = {"dataset_dir": dataset, "output_dir": output, "model_file": output / MODEL}
        overrides = {**places, **settings}
        start = time.perf_counter()
        peak_gb = call(bundle_command("training", files, overrides))
        minutes = (time.perf_counter() - start) / 60
        call(bundle_command("", [*files, configs / "evaluate.yaml"], overrides))
        rows = read_rows(output / "metrics.csv")
        scores = [row for row in rows if row["split"] == "test"]
        yield Trained(output, scores, minutes, peak_gb)


def config_files(configs: Path, method: str, tasks: Sequence[str]) -> list[Path]:
    """Return the config files of a training, in the order in which they are merged."""
    files = [configs / f"{name}.yaml" for name in ("train", *tasks)]
    return files + ([configs / "methods" / f"{method}.yaml"] if method != "dim" else [])


def call(command: list[str]) -> float:
    """Run a command to its end and return its peak memory in GB; it does not outlive this process.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        peak, log = Path(folder, "peak"), Path(folder, "log")
        with (
            log.open("w") as output,
            # A process begins with the peak of the one that starts it: here of a small one.
            subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", _MEASURED, str(peak), *command],
                env={**os.environ, **ONE_THREAD},
                stdin=subprocess.PIPE,  # closes with this process, however it ends
                stdout=output,
                stderr=subprocess.STDOUT,
            ) as measured,
        ):
            code = measured.wait()
        if code:
            raise RuntimeError(f"{' '.join(command)}\n{log.read_text()[-4000:]}")
        return int(peak.read_text()) / 2**20


_MEASURED = """
import os, resource, subprocess, sys, threading
command = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)

def follow():
    os.read(0, 1)
    command.terminate()

threading.Thread(target=follow, daemon=True).start()
code = command.wait()
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


def test_data(error: Callable[[str], Any]) -> Path:
    """Return the folder of the real images, or call ``error`` with a sentence."""
    if "DIM_TEST_DATA" not in os.environ:
        error("DIM_TEST_DATA is not set: it names the folder of the real images")
    return Path(os.environ["DIM_TEST_DATA"]).resolve()


def photograph(folder: Path, case: str, *, label: bool, **names: str) -> dict[str, str]:
    """Return the entry of a data list for a case of a folder with ``image`` and ``mask``.

    Args:
        folder: of both.
        case: name of the files.
        label: whether the mask is shown to the training or the evaluation.
        names: further keys of the entry.
    """
    files = {"image": str(folder / "image" / f"{case}.jpg")}
    if label:
        files["label"] = str(folder / "mask" / f"{case}.png")
    return {**files, **names, "case": case}


def run_missing(
    path: Path,
    columns: Sequence[str],
    cells: Iterable[dict[str, object]],
    run: Callable[..., list[dict[str, Any]]],
    *,
    jobs: int = 1,
    budget_minutes: float = math.inf,
) -> None:
    """Run the cells that have no rows in a CSV file, and add theirs.

    A cell that fails keeps no other from running.

    Args:
        path: the file.
        columns: of the file, those that name a cell first.
        cells: names and values of those columns, as keywords of ``run``.
        run: returns the rows of a cell.
        jobs: cells that run at a time.
        budget_minutes: no cell begins later than this.

    Raises:
        RuntimeError: some cells failed; it says which, and why.
    """
    start, failed, writing = time.monotonic(), [], Lock()

    def run_one(cell: dict[str, object]) -> None:
        names = {name: str(value) for name, value in cell.items()}
        title = ", ".join(names.values())
        if time.monotonic() - start > 60 * budget_minutes:
            return
        with writing:
            if any(names.items() <= row.items() for row in read_rows(path)):
                return
        try:
            rows = [{**cell, **row} for row in run(**cell)]
        except (RuntimeError, DimError) as error:
            failed.append(f"{title}: {error}")
            return
        with writing:
            add_rows(path, columns, rows)
            sys.stdout.write(f"{title}: done\n")
            sys.stdout.flush()

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run_one, cells))
    if failed:
        raise RuntimeError("\n\n".join(failed))
