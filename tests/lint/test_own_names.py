"""Of dim_monai a config may name classes for workflows and what the bundles call, no more."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from torch import nn

import dim_monai
from dim_monai.data.cache import CaseCache
from dim_monai.data.output import MirroredLayout, WholeNiftiWriter, WholePngWriter
from dim_monai.data.reader import CaseReader
from dim_monai.errors import DimError
from dim_monai.handlers import (
    CaseScores,
    DeployBest,
    KeepNetworks,
    LoadModel,
    RunCheckpoint,
    TrainingLog,
)
from dim_monai.lint.allowed import DIM_MONAI_PACKAGES, OBJECTS
from dim_monai.lint.config import check_config, modules_of
from dim_monai.lint.names import is_class, refusal, refusal_of_target
from dim_monai.lint.published import defined_at
from tests.lint.test_expressions import codes, nodes

BUNDLES = Path(dim_monai.__file__).parents[1] / "bundles"
SHIPPED = ("dim_fundus", "dim_prostate")
OURS = sorted(name for name in OBJECTS if name.startswith("dim_monai."))

HOSTILE = [
    # (module to import, expression): each wrote, replaced, moved or removed files when it was run
    ("model_files", "model_files.save_model('precious/thesis.docx', dict())"),
    ("files", "files.remove('precious/thesis.docx')"),
    ("checkpoints", "checkpoints.Checkpoints('precious').clear()"),
    ("data.photograph", "photograph.write_mask('precious/thesis.docx', @mask, 1)"),
    ("data.remembered", "remembered.make_private('precious')"),
    ("data.datalist_json", "datalist_json.save_datalist('precious/thesis.docx', @list)"),
    ("data.prepare", "prepare.prepare('patients', 'elsewhere', copy=True)"),
    ("data.demo", "demo.make_demo('precious')"),
    ("report.scores", "scores.write_scores_csv('precious/thesis.docx', [])"),
    ("report.page", "page.write_report('precious/thesis.docx', @report)"),
    ("predict.run", "run.Output('precious')"),
    ("label.serve", "serve.start('precious')"),
    ("cli", "cli.app()"),
    ("bundle", "bundle.bundle_command('x')"),
    ("bundle.callers", "callers.frames()"),
    ("handlers", "[handlers.RunCheckpoint][0]('precious')._checkpoints.sweep()"),
    ("handlers.run_checkpoint", "run_checkpoint.Checkpoints('precious').clear()"),
    ("handlers", "handlers.RunCheckpoint('precious')._checkpoints.clear()"),
    ("data.output", "output.WholeNiftiWriter().write('precious/thesis.docx')"),
    ("data.source", "source.make_demo('precious')"),
]


@pytest.mark.parametrize(("module", "text"), HOSTILE)
def test_what_replaces_files_may_not_be_named(module: str, text: str) -> None:
    name = module.rpartition(".")[2]
    found = codes(f"${text}", imports=[f"$import dim_monai.{module} as {name}"])
    assert "L023" in found


@pytest.mark.parametrize(
    "target",
    [
        "dim_monai.model_files.save_model",
        "dim_monai.checkpoints.Checkpoints",
        "dim_monai.data.prepare.prepare",
        "dim_monai.data.remembered.Remembered",
        "dim_monai.report.page.Report",
        "dim_monai.label.app.App",
        "dim_monai.handlers.run_checkpoint.random_state",
        "dim_monai.networks.windows.paste",
    ],
)
def test_neither_may_a_target(target: str) -> None:
    assert codes({"_target_": target}) == ["L010"]


def named_by(bundle: str) -> set[str]:
    """The names of ours in the configs of a bundle, found in their text without the check."""
    files = (BUNDLES / bundle / "configs").rglob("*.yaml")
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    text = "\n".join(line.partition(" #")[0] for line in lines)
    names = set(re.findall(r"_target_: (dim_monai[\w.]+)", text))
    for module, name in set(re.findall(r"\$import (dim_monai[\w.]*) as (\w+)", text)):
        names |= {f"{module}.{used}" for used in re.findall(rf"\b(?<!@){name}\.(\w+)\(", text)}
    return names


@pytest.mark.parametrize("bundle", SHIPPED)
def test_what_our_configs_name_is_allowed(bundle: str) -> None:
    names = named_by(bundle)
    assert len(names) > 35
    assert {name: refusal(name) for name in names if refusal(name)} == {}


def test_nothing_is_listed_that_no_config_needs() -> None:
    passed_on = {f"dim_monai.data.output.Whole{kind}Writer" for kind in ("Nifti", "Png")}
    assert set(OURS) <= set().union(passed_on, *map(named_by, SHIPPED))


@pytest.mark.parametrize("name", OURS)
def test_what_is_listed_of_ours_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert attribute in defined_at(module)
    assert callable(getattr(importlib.import_module(module), attribute))


@pytest.mark.parametrize("package", DIM_MONAI_PACKAGES)
def test_of_a_package_its_classes_may_be_named_and_no_function(package: str) -> None:
    own = defined_at(package)
    assert {name for name in own if refusal(f"{package}.{name}") is None} == {
        name for name in own if is_class(name)
    }


def test_a_misspelt_name_of_ours_gets_the_closest_that_may_be_named() -> None:
    assert "did you mean with_split?" in str(refusal("dim_monai.data.source.with_splits"))
    assert "did you mean CaseScores?" in str(refusal_of_target("dim_monai.handlers.CaseScore"))
    assert "did you mean" not in str(refusal("dim_monai.data.source.make_demos"))


def test_a_writer_that_is_not_called_may_be_passed_on() -> None:
    tree = nodes(
        {
            "imports": ["$import dim_monai.data.output as output"],
            "x": {"_target_": "SaveImaged", "writer": "$output.WholePngWriter"},
        }
    )
    assert list(check_config(tree, modules_of([tree], []))) == []


CONSTRUCTIONS: list[Callable[[str], object]] = [
    lambda path: CaseCache(path, 0),
    lambda path: CaseReader(),
    lambda path: CaseScores(path, {"a": [1]}),
    lambda path: DeployBest(path, path, {}, None),  # type: ignore[arg-type]
    lambda path: KeepNetworks(path, {}),
    lambda path: LoadModel(path, nn.Linear(1, 1)),
    lambda path: MirroredLayout(path, path + "x"),
    lambda path: RunCheckpoint(path, resume=False),
    lambda path: TrainingLog(path),
    lambda path: WholeNiftiWriter(),
    lambda path: WholePngWriter(),
]


@pytest.mark.parametrize("construct", CONSTRUCTIONS)
@pytest.mark.parametrize("name", ["", "thesis.docx", "step_000000001.pt", "metrics.csv"])
def test_to_construct_what_may_be_named_changes_no_file(
    tmp_path: Path, construct: Callable[[str], object], name: str
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o755)
    for file in (
        "thesis.docx",
        "step_000000001.pt",
        "a.sha256",
        "metrics.csv",
        "metrics_paper.csv",
    ):
        (precious / file).write_text("years of work", encoding="utf-8")

    def seen() -> dict[Path, tuple[int, int, str]]:
        return {
            p: (p.stat().st_mode, p.stat().st_mtime_ns, p.read_text("utf-8") if p.is_file() else "")
            for p in sorted(tmp_path.rglob("*"))
        }

    before = seen()
    with suppress(DimError):  # what refuses it changes nothing either
        construct(str(precious / name))
    assert seen() == before
