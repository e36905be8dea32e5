"""The demo of ``make demo``: a user's whole way, with a user's commands, on synthetic images.

    python -m dim_monai.demo            some minutes
    python -m dim_monai.demo --quick    two steps a training: does everything run?

The demo set is trained on twice, from its labelled cases alone and by DiM, and both networks are
scored on the test cases of all three sites. DiM's network then segments a folder in which NIfTI
files and DICOM series lie side by side. The last lines compare the two as they turned out.
"""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from dim_monai.data.datalist import DATALIST_NAME, load_saved_datalist
from dim_monai.data.demo import make_demo
from dim_monai.errors import ConfigError, DimError
from dim_monai.metrics import summarise
from dim_monai.report.scores import read_scores_csv

logger = logging.getLogger(__name__)

LENGTH = {"max_epochs": 10, "steps_per_epoch": 50}
"""Settings of both trainings: with them the whole demo takes under six minutes on two cores."""

QUICK = {"max_epochs": 2, "steps_per_epoch": 1}
"""One validation, which the bundle makes every second epoch, is in it."""

METHODS: dict[str, tuple[str, ...]] = {"supervised": ("methods/supervised.yaml",), "DiM": ()}
"""Name in the table -> overlays of ``train.yaml``."""

SEGMENTED_BY = "DiM"


def find_bundle() -> Path:
    """Return the folder of the dim_prostate bundle of this checkout.

    Raises:
        ConfigError: the package is installed apart from its repository, which holds the bundle.
    """
    bundle = Path(__file__).resolve().parents[1] / "bundles" / "dim_prostate"
    if not (bundle / "configs" / "train.yaml").is_file():
        raise ConfigError(
            "the demo needs the dim_prostate bundle",
            file=bundle,
            got="no such bundle",
            do="run it in a checkout of the repository, after pip install -e .",
        )
    return bundle


def run_demo(bundle: Path, results: Path, length: Mapping[str, int]) -> str:
    """Train, evaluate and segment; return the comparison and where everything lies.

    Args:
        bundle: folder of the dim_prostate bundle.
        results: folder for the data, one folder per method, and ``predictions``. What an earlier
            demo left there is replaced, but for its data, which are the same.
        length: settings of ``train.yaml`` that limit the trainings.

    Returns:
        Lines of text, the last one ended.

    Raises:
        DataError: ``results/data`` holds something else than the demo set.
        DimError: a command failed; what it wrote says why.
    """
    configs = bundle / "configs"
    data = make_demo(results / "data")
    for method, overlays in METHODS.items():
        train = [configs / "train.yaml", *(configs / overlay for overlay in overlays)]
        folder = _folder(results, method)
        settings = {
            "dataset_dir": data,
            "output_dir": folder,
            "model_file": folder / "model.pt",
            **length,
        }
        _run_bundle(["training"], train, settings)
        _run_bundle([], [*train, configs / "evaluate.yaml"], settings)
    segment = {
        "dataset_dir": data / "test_images",
        "output_dir": results / "predictions",
        "model_file": _folder(results, SEGMENTED_BY) / "model.pt",
    }
    _run_bundle([], [configs / "inference.yaml"], segment)
    return _summary(results)


def _folder(results: Path, method: str) -> Path:
    return results / method.lower()


def _run_bundle(
    ids: Sequence[str], configs: Sequence[Path], settings: Mapping[str, object]
) -> None:
    """Run one command of MONAI in a process of its own, shown as a user would type it."""
    files = [str(config) for config in configs]
    command = ["python", "-m", "monai.bundle", "run", *ids]
    command += ["--config_file", files[0] if len(files) == 1 else str(files)]
    for key, value in settings.items():
        command += [f"--{key}", str(value)]
    # A list of files holds quotes of its own: in double quotes it stays readable.
    shown = (f'"{word}"' if word.startswith("[") else shlex.quote(word) for word in command)
    logger.info("\n$ %s", " ".join(shown))
    done = subprocess.run([sys.executable, *command[1:]], check=False)  # noqa: S603 - our command
    if done.returncode:
        raise DimError(
            "a command of the demo failed",
            got=f"exit status {done.returncode}",
            do="the lines above say why",
        )


def _summary(results: Path) -> str:
    reports = [(f"report of {m}", _folder(results, m) / "report.html") for m in METHODS]
    places = [*reports, (f"masks by {SEGMENTED_BY}", results / "predictions")]
    lines = [
        "",
        "Mean Dice of the prostate on the test cases",
        "",
        *_table(results),
        "",
        "One seed and synthetic images: this shows that everything runs, not which is better.",
        "",
        *(f"{name:<22}{path}" for name, path in places),
    ]
    return "\n".join(lines) + "\n"


def _table(results: Path) -> list[str]:
    """Return the mean Dice per site, one column a method, beside what the site gave to learn."""
    dice: dict[str, dict[str, float | None]] = {}
    for method in METHODS:
        rows = read_scores_csv(_folder(results, method) / "metrics.csv")
        test = [row for row in rows if row.split == "test"]
        dice[method] = {s.domain: s.mean["dice"] for s in summarise(test, by=["domain"])}
    datalist = load_saved_datalist(results / "data" / DATALIST_NAME)
    labelled = Counter(entry["domain"] for entry in datalist.labeled)
    tested = Counter(entry["domain"] for entry in datalist.test)
    lines = [f"{'':<17}{'labelled':>10}{'tested':>8}" + "".join(f"{m:>12}" for m in METHODS)]
    for domain in dice[SEGMENTED_BY]:
        # The mean of the domains comes last and is of no domain of its own.
        counts = f"{labelled[domain]:>10}{tested[domain]:>8}" if domain in tested else f"{'':>18}"
        values = (dice[method][domain] for method in METHODS)
        cells = (f"{'-' if value is None else format(value, '.3f'):>12}" for value in values)
        lines.append(f"{domain:<17}{counts}{''.join(cells)}")
    return lines


def main(argv: Sequence[str]) -> int:
    """Run the demo and write its summary to standard output, after everything else.

    Args:
        argv: nothing, or ``--quick``.

    Returns:
        Exit status: 0, 2 for a wrong option or a missing bundle, 1 for any other failure.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if list(argv) not in ([], ["--quick"]):
            raise ConfigError("unknown options", got=shlex.join(argv), expected="none, or --quick")
        bundle = find_bundle()
        if argv:
            summary = run_demo(bundle, bundle / "eval" / "demo_quick", QUICK)
        else:
            summary = run_demo(bundle, bundle / "eval" / "demo", LENGTH)
    except DimError as error:
        sys.stderr.write(f"\n{type(error).__name__}: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    sys.stdout.write(summary)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
