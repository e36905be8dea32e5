"""The demo of ``make demo``: a user's whole way, with a user's commands, on synthetic images.

    python -m dim_monai.demo                       prostates in MRI, some minutes
    python -m dim_monai.demo --bundle dim_fundus   discs and cups in photographs, some minutes
    python -m dim_monai.demo --quick               two steps a training: does everything run?

The demo set is trained on twice, from its labelled cases alone and by DiM, and both networks are
scored on the test cases of all domains. DiM's network then segments a folder with everything that a
user may have: NIfTI files and DICOM series, or close-ups of the disc and whole photographs in three
file formats. The last lines compare the two as they turned out.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dim_monai.bundle import bundle_command
from dim_monai.data.datalist import DATALIST_NAME, load_saved_datalist
from dim_monai.data.demo import make_demo
from dim_monai.errors import ConfigError, DimError
from dim_monai.metrics import Summary, summarise
from dim_monai.report.scores import read_scores_csv

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BundleDemo:
    """What the demo of one bundle has of its own.

    Attributes:
        kind: of its cases, see :func:`dim_monai.data.demo.make_demo`.
        grid: settings of the network's grid, which every command is given.
    """

    kind: str
    grid: Mapping[str, object]


BUNDLES = {
    "dim_prostate": BundleDemo("volume", {}),
    # Half the bundle's grid: a quarter of the time, and still fifty pixels for a disc.
    "dim_fundus": BundleDemo("photograph", {"roi_size": [128, 128], "working_size": 384}),
}
"""The first is the default."""

LENGTH = {"max_epochs": 14, "steps_per_epoch": 50, "teacher_decay": 0.97}
"""Settings of both trainings: with them a whole demo takes some six minutes on two cores.

500 steps are too few for the unlabelled images, which wait for the teacher, to count: seen on demo
sets of other seeds.

The teacher averages over 33 steps, for 100 would be a fifth of such a short training."""

QUICK = {"max_epochs": 2, "steps_per_epoch": 1}
"""One validation, which the bundles make every second epoch, is in it."""

METHODS: dict[str, tuple[str, ...]] = {"supervised": ("methods/supervised.yaml",), "DiM": ()}
"""Name in the table -> overlays of ``train.yaml``."""

SEGMENTED_BY = "DiM"


def find_bundle(name: str) -> Path:
    """Return the folder of a bundle of this checkout.

    Raises:
        ConfigError: there is no demo of that name, or the package is installed apart from its
            repository, which holds the bundles.
    """
    if name not in BUNDLES:
        raise ConfigError("no demo of this bundle", got=name, expected=f"one of {list(BUNDLES)}")
    bundle = Path(__file__).resolve().parents[1] / "bundles" / name
    if not (bundle / "configs" / "train.yaml").is_file():
        raise ConfigError(
            f"the demo needs the {name} bundle",
            file=bundle,
            got="no such bundle",
            do="run it in a checkout of the repository, after pip install -e .",
        )
    return bundle


def run_demo(bundle: Path, results: Path, length: Mapping[str, float]) -> str:
    """Train, evaluate and segment; return the comparison and where everything lies.

    Args:
        bundle: folder of one of the `BUNDLES`, which its name tells.
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
    own = BUNDLES[bundle.name]
    data = make_demo(results / "data", kind=own.kind)
    for method, overlays in METHODS.items():
        train = [configs / "train.yaml", *(configs / overlay for overlay in overlays)]
        folder = _folder(results, method)
        settings = {
            "dataset_dir": data,
            "output_dir": folder,
            "model_file": folder / "model.pt",
            **own.grid,
            **length,
        }
        _run("training", train, settings)
        _run("", [*train, configs / "evaluate.yaml"], settings)
    segment = {
        "dataset_dir": data / "test_images",
        "output_dir": results / "predictions",
        "model_file": _folder(results, SEGMENTED_BY) / "model.pt",
        **own.grid,
    }
    _run("", [configs / "inference.yaml"], segment)
    return _summary(results)


def _folder(results: Path, method: str) -> Path:
    return results / method.lower()


def _run(run_id: str, configs: Sequence[Path], settings: Mapping[str, object]) -> None:
    """Run one command of MONAI in a process of its own, shown as a user would type it."""
    command = bundle_command(run_id, configs, settings)
    # A list of files holds quotes of its own: in double quotes it stays readable.
    shown = (f'"{word}"' if word.startswith("[") else shlex.quote(word) for word in command[1:])
    logger.info("\n$ python %s", " ".join(shown))
    done = subprocess.run(command, check=False)  # noqa: S603 - our command
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
        *_tables(results),
        "",
        "One seed and synthetic images: this shows that everything runs, not which is better.",
        "",
        *(f"{name:<22}{path}" for name, path in places),
    ]
    return "\n".join(lines) + "\n"


def _tables(results: Path) -> list[str]:
    """Return a table of every region that was scored; each mean says of how many of how many."""
    means: dict[str, dict[str, dict[str, Summary]]] = {}
    for method in METHODS:
        rows = read_scores_csv(_folder(results, method) / "metrics.csv")
        for mean in summarise(row for row in rows if row.split == "test"):
            by_domain = means.setdefault(mean.class_name, {})
            by_domain.setdefault(mean.domain, {})[method] = mean
    datalist = load_saved_datalist(results / "data" / DATALIST_NAME)
    labelled = Counter(entry["domain"] for entry in datalist.labeled)
    tested = Counter(entry["domain"] for entry in datalist.test)
    lines = []
    for region, by_domain in means.items():
        lines += ["", f"Mean Dice of the {region} on the test cases (scored/all)", ""]
        lines.append(_row("", "labelled", "tested", *METHODS))
        for domain, values in by_domain.items():
            # The mean of the domains comes last and is of no domain of its own.
            counts = (labelled[domain], tested[domain]) if domain in tested else ("", "")
            lines.append(_row(domain, *counts, *(_dice(values[method]) for method in METHODS)))
    return lines


def _dice(mean: Summary) -> str:
    dice = mean.mean["dice"]
    return f"{'-' if dice is None else f'{dice:.3f}'} ({mean.n_scored}/{mean.n_total})"


def _row(name: str, labelled: object, tested: object, *values: str) -> str:
    return f"{name:<17}{labelled!s:>10}{tested!s:>8}" + "".join(f"{v:>16}" for v in values)


def main(argv: Sequence[str]) -> int:
    """Run the demo and write its summary to standard output, after everything else.

    Args:
        argv: ``--bundle NAME`` and ``--quick``, or one or none of them.

    Returns:
        Exit status: 0, 2 for a wrong option or a missing bundle, 1 for any other failure.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        name, quick = _parse(argv)
        bundle = find_bundle(name)
        if quick:
            summary = run_demo(bundle, bundle / "eval" / "demo_quick", QUICK)
        else:
            summary = run_demo(bundle, bundle / "eval" / "demo", LENGTH)
    except DimError as error:
        sys.stderr.write(f"\n{type(error).__name__}: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    sys.stdout.write(summary)
    return 0


def _parse(argv: Sequence[str]) -> tuple[str, bool]:
    """Return the bundle's name and whether to be quick."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--bundle", default=next(iter(BUNDLES)))
    parser.add_argument("--quick", action="store_true")
    try:
        given, unknown = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:  # --bundle without a name
        raise ConfigError("unknown options", got=error) from error
    if unknown:
        expected = "--bundle NAME, --quick, or none"
        raise ConfigError("unknown options", got=shlex.join(unknown), expected=expected)
    return given.bundle, given.quick


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
