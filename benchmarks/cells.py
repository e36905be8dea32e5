"""What the measurements of trainings share: cells of one training each, and tables of them.

A cell is one training and one evaluation by a bundle's own commands. Its rows are added to a CSV
file when it is done, and a cell that has rows there is not run again.
"""

from __future__ import annotations

import csv
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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from dim_monai.bundle import bundle_command
from dim_monai.errors import DimError
from dim_monai.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MODEL = "model.pt"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Of every cell: more threads add in another order, and after thousands of steps on one labelled
volume the same seed ends elsewhere."""
_ADDING = Lock()


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
    """Run a command to its end and return its peak memory in GB."""
    with tempfile.TemporaryDirectory() as folder:
        peak, log = Path(folder, "peak"), Path(folder, "log")
        with log.open("w") as output:
            # A process begins with the peak of the one that starts it: here of a small one.
            done = subprocess.run(  # noqa: S603
                [sys.executable, "-c", _MEASURED, str(peak), *command],
                env={**os.environ, **ONE_THREAD},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{log.read_text()[-4000:]}")
        return int(peak.read_text()) / 2**20


_MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
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


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, none if there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


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


def add_rows(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to a CSV file, which is begun if there is none; threads may do so at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _ADDING, path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if not path.stat().st_size:
            writer.writeheader()
        writer.writerows(rows)


def write_table(path: Path, rows: Sequence[Any]) -> None:
    """Write dataclasses of one kind as the rows of a CSV file, which is begun anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        names = [field.name for field in fields(rows[0])]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def show(table: Sequence[str], path: Path | None) -> None:
    """Print the lines of a table and, if there is a path, write them there."""
    content = "\n".join([*table, ""])
    sys.stdout.write(content)
    if path:
        path.write_text(content, encoding="utf-8")


def write_between(file: Path, begin: str, end: str, lines: Sequence[str]) -> None:
    """Put lines between two marks of a text file.

    Raises:
        ValueError: the marks are not there once each.
    """
    text = file.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{file} needs one {begin} and one {end}")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    with atomic_write(file, "w") as whole:
        whole.write("\n".join([before + begin, *lines, end + after]))


def dice_of(rows: Iterable[dict[str, str]], unit: str = "case") -> dict[tuple[int, str], float]:
    """Return the mean Dice of each seed and case, or whatever else column ``unit`` names."""
    found: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        key = int(row["seed"]), f"{row['domain']}/{row[unit]}"
        found.setdefault(key, []).append(float(row["dice"]))
    return {key: float(np.mean(values)) for key, values in found.items()}


def mean_and_spread(rows: Sequence[dict[str, str]]) -> str:
    """Return the mean Dice and, of several seeds, the standard deviation of theirs; "-" of none."""
    if not rows:
        return "-"
    seeds = sorted({row["seed"] for row in rows})
    means = [np.mean([float(r["dice"]) for r in rows if r["seed"] == seed]) for seed in seeds]
    spread = f" ± {np.std(means, ddof=1):.3f}" if len(seeds) > 1 else ""
    return f"{np.mean(means):.3f}{spread}"


def difference(
    rows: Sequence[dict[str, str]], baseline: Sequence[dict[str, str]], unit: str = "case"
) -> str:
    """Return the mean difference in Dice with its interval; nothing where nothing is common."""
    a, b = dice_of(rows, unit), dice_of(baseline, unit)
    return with_interval(*paired_interval(a, b)) if a.keys() & b.keys() else ""


def with_interval(mean: float, low: float, high: float) -> str:
    """Return a difference as it stands in a table."""
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


def paired_interval(a: dict[Any, float], b: dict[Any, float]) -> tuple[float, float, float]:
    """Return the mean of a - b over common (seed, case) and its 95 % bootstrap interval.

    Seeds and cases are resampled independently, since a case is hard or easy for every seed and a
    labelled case good or bad for every other.
    """
    common = sorted(a.keys() & b.keys())
    seeds = sorted({seed for seed, _ in common})
    differences = {
        seed: np.array([a[pair] - b[pair] for pair in common if pair[0] == seed]) for seed in seeds
    }
    generator = np.random.default_rng(0)
    means = []
    for _ in range(4000):
        drawn = generator.choice(seeds, len(seeds))
        place = generator.random(max(len(values) for values in differences.values()))
        of_seed = [differences[seed] for seed in drawn]
        means.append(np.mean([values[(place * len(values)).astype(int)] for values in of_seed]))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.mean([a[k] - b[k] for k in common])), float(low), float(high)
