"""A config knows its place, refuses settings that nothing reads and fails in plain words."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow
from monai.bundle.scripts import verify_net_in_out

from dim_monai.bundle import (
    bundle_root,
    check_overrides,
    resolve_dataset_dir,
    show_cause_last,
)
from dim_monai.errors import ConfigError, DataError, DimError

REPOSITORY = Path(__file__).resolve().parents[1]
PROSTATE = REPOSITORY / "bundles" / "dim_prostate" / "configs"

METADATA = """{"version": "0.1.0", "network_data_format": {
    "inputs": {"image": {"num_channels": 1, "spatial_shape": [4, 4], "dtype": "float32"}},
    "outputs": {"pred": {"num_channels": 2, "dtype": "float32"}}}}"""

TRAIN = """
imports: ["$import dim_monai.bundle as bundle"]
bundle_root: $bundle.bundle_root()
dataset_dir: data
epochs: 2
class_names: {1: gland}
device: $torch.device('cpu')
network_def: {_target_: torch.nn.Conv2d, in_channels: 1, out_channels: 2, kernel_size: 1}
network_here: $@network_def.to('cpu' if @bundle_root == bundle.bundle_root() else None)
options: "%preset"
preset: {speed: 1}
train:
  steps: 3
  classes: $list(@class_names)
  dataset: {_target_: Dataset, data: [{image: a}]}
  dataloader: {_target_: DataLoader, dataset: "@train#dataset"}
  trainer: {max_epochs: "@epochs"}
validate: {interval: 1}
initialize:
  - $bundle.show_cause_last()
  - $bundle.check_overrides(ignore=['for_another_program'])
run: ["$print('ROOT', @bundle_root)"]
training: "%run"
"""

OVERLAY = """only_in_overlay: 1
options: {fast: 1}
train::teacher: {decay: 0.9}
+validate: {start: 3}
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "mini")


def make_bundle(root: Path) -> Path:
    methods = root / "configs" / "methods"
    methods.mkdir(parents=True)
    (root / "configs" / "metadata.json").write_text(METADATA)
    (root / "configs" / "train.yaml").write_text(TRAIN)
    (methods / "overlay.yaml").write_text(OVERLAY)
    return root


@pytest.fixture(autouse=True)
def _hook_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)  # MONAI says that the miniature has no logging.conf
    yield
    logging.disable(logging.NOTSET)


def start(bundle: Path, *more: str | Path, **overrides: Any) -> ConfigWorkflow:
    files = [str(bundle / "configs" / "train.yaml"), *map(str, more)]
    workflow = ConfigWorkflow(config_file=files, **overrides)
    workflow.initialize()
    return workflow


def refusal(bundle: Path, *more: str | Path, **overrides: Any) -> str:
    """Start the bundle, which must fail, and return the text of our error."""
    with pytest.raises(RuntimeError, match="check_overrides") as caught:
        start(bundle, *more, **overrides)
    assert isinstance(caught.value.__cause__, ConfigError)
    return str(caught.value.__cause__)


def run_command(config: Path | str, cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training"]
    return subprocess.run(
        [*command, "--config_file", str(config), *options],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# --- where the bundle stands


def test_the_command_finds_the_bundle_from_inside_the_bundle(bundle: Path) -> None:
    done = run_command("configs/train.yaml", bundle)
    assert f"ROOT {bundle}\n" in done.stdout, done.stderr


def test_the_command_finds_the_bundle_from_another_bundle(bundle: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other")
    files = f"['../mini/configs/train.yaml', '{bundle}/configs/methods/overlay.yaml']"
    done = run_command(files, other)
    assert f"ROOT {bundle}\n" in done.stdout, done.stderr


@pytest.mark.parametrize("place", [".", "mini", "mini/configs", "mini/configs/methods"])
def test_every_way_to_write_the_path_leads_to_the_same_bundle(
    bundle: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / place)
    relative = os.path.relpath(bundle / "configs" / "train.yaml")
    workflow = ConfigWorkflow(config_file=relative)
    workflow.initialize()
    assert workflow.bundle_root == str(bundle)


def test_the_first_of_several_files_decides(bundle: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / "other")
    workflow = start(bundle, other / "configs" / "methods" / "overlay.yaml")
    assert workflow.bundle_root == str(bundle)


def test_a_config_in_a_subfolder_belongs_to_the_bundle(bundle: Path) -> None:
    config = bundle / "configs" / "methods" / "alone.yaml"
    config.write_text(TRAIN)
    workflow = ConfigWorkflow(config_file=str(config), meta_file=None)
    workflow.initialize()
    assert workflow.bundle_root == str(bundle)


@pytest.mark.parametrize("form", ["one", "list", "comma"])
def test_commands_that_parse_without_a_workflow_find_the_bundle(bundle: Path, form: str) -> None:
    train, overlay = (str(bundle / "configs" / n) for n in ("train.yaml", "methods/overlay.yaml"))
    files = {"one": train, "list": [train, overlay], "comma": f"{train},{overlay}"}[form]
    # network_here is a network only if bundle_root() answers, and always the same.
    verify_net_in_out(
        net_id="network_here",
        config_file=files,
        meta_file=str(bundle / "configs" / "metadata.json"),
        device="cpu",
    )


def test_an_override_of_bundle_root_wins(bundle: Path, tmp_path: Path) -> None:
    assert start(bundle, bundle_root=str(tmp_path)).bundle_root == str(tmp_path)


def test_without_a_running_config_the_current_bundle_counts(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle)
    assert bundle_root() == str(bundle)


def test_no_bundle_anywhere_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="--bundle_root") as caught:
        bundle_root()
    assert caught.value.file == str(tmp_path)


def test_a_config_outside_a_bundle_is_not_taken_for_the_current_one(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle)
    stray = tmp_path / "stray.yaml"
    stray.write_text(TRAIN)
    metadata = str(bundle / "configs" / "metadata.json")
    workflow = ConfigWorkflow(config_file=str(stray), meta_file=metadata)
    with pytest.raises(RuntimeError) as caught:
        workflow.initialize()
    assert isinstance(caught.value.__cause__, ConfigError)
    stated = ConfigWorkflow(config_file=str(stray), meta_file=metadata, bundle_root=str(bundle))
    stated.initialize()
    assert stated.bundle_root == str(bundle)


# --- settings that nothing reads


def test_a_bundle_as_it_is_passes_with_and_without_overlay(bundle: Path) -> None:
    start(bundle)
    start(bundle, bundle / "configs" / "methods" / "overlay.yaml")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("datset_dir", "unknown setting 'datset_dir'; did you mean 'dataset_dir'?"),
        ("validate#zz", "unknown setting 'validate::zz'; known in validate: interval, start"),
        ("train::step", "unknown setting 'train::step'; did you mean 'train::steps'?"),
        ("network_def#kernel", "'network_def::kernel'; did you mean 'network_def::kernel_size'?"),
        ("train#dataset#dta", "'train::dataset::dta'; did you mean 'train::dataset::data'?"),
    ],
)
def test_a_mistyped_override_names_itself_and_the_closest(
    bundle: Path, setting: str, message: str
) -> None:
    assert message in refusal(bundle, **{setting: 1})


@settings(max_examples=15)
@given(name=st.from_regex(r"zz[a-z]{1,8}", fullmatch=True))
def test_no_unknown_name_passes_on_any_level(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bundle = make_bundle(tmp_path_factory.mktemp("law") / "mini")
    for setting in (name, f"train#{name}", f"validate#{name}", f"network_def#{name}"):
        assert f"unknown setting '{setting.replace('#', '::')}'" in refusal(bundle, **{setting: 1})


@settings(max_examples=15)
@given(name=st.from_regex(r"zz[a-z]{1,8}", fullmatch=True))
def test_a_name_that_the_config_refers_to_passes(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    bundle = make_bundle(tmp_path_factory.mktemp("law") / "mini")
    workflow = start(bundle, **{name: 5, "epochs": f"$@{name} + 1"})
    assert workflow.parser.get_parsed_content("train::trainer::max_epochs") == 6


def test_all_mistakes_are_reported_at_once(bundle: Path) -> None:
    message = refusal(bundle, datset_dir="x", **{"train#step": 4})
    assert "'datset_dir'" in message
    assert "'train::step'" in message


@pytest.mark.parametrize(
    "override",
    [
        {"epochs": 7},
        {"train#steps": 7},
        {"train#dataset#data": [{"image": "b", "label": "c"}]},
        {"class_names#2": "zone"},  # read as a whole through @class_names
        {"options": {"more": 1}},  # a macro in the bundle: its names are not fixed
        {"only_in_overlay": 2},
        {"train#teacher": {"decay": 0.5}},
        {"train#dataloader#pin_memory": True},  # MONAI's loader takes any keyword
        {"experiment_name": "e", "run_name": "r", "tracking_uri": "t"},  # MONAI's tracking
        {"for_another_program": 1},
        {"_meta_#anything": 1},
    ],
    ids=lambda override: next(iter(override)),
)
def test_a_setting_with_effect_passes(bundle: Path, override: dict[str, Any]) -> None:
    start(bundle, **override)


def check_run(files: list[Path], **overrides: Any) -> ConfigWorkflow:
    """Start a run as MONAI's command does, but for the check alone."""
    return create_workflow(
        config_file=[str(file) for file in files],
        logging_file=False,
        init_id="check",
        check=["$bundle.check_overrides()"],
        **overrides,
    )


def run_refusal(files: list[Path], **overrides: Any) -> str:
    with pytest.raises(RuntimeError, match="check_overrides") as caught:
        check_run(files, **overrides)
    assert isinstance(caught.value.__cause__, ConfigError)
    return str(caught.value.__cause__)


def test_a_setting_that_only_a_config_outside_of_the_run_reads_is_refused(bundle: Path) -> None:
    train, overlay = (bundle / "configs" / n for n in ("train.yaml", "methods/overlay.yaml"))
    message = run_refusal([train], only_in_overlay=2, **{"validate#start": 2})
    reason = "nothing in this run reads it, only other configs of the bundle"
    names = ("only_in_overlay", "validate::start")
    assert set(message.split("; ")) == {f"unknown setting '{name}': {reason}" for name in names}
    check_run([train, overlay], only_in_overlay=2, **{"validate#start": 2})


def test_a_config_that_would_undo_its_overlays_is_refused(bundle: Path) -> None:
    train, overlay = (bundle / "configs" / name for name in ("train.yaml", "overlay.yaml"))
    overlay.write_text("only_here: 1\n")
    message = run_refusal([overlay, train])
    assert message.startswith("config files in the wrong order")
    assert "overlay.yaml, train.yaml" in message
    assert "train.yaml first" in message
    check_run([train, overlay])


def test_a_name_of_another_config_is_still_the_closest(bundle: Path) -> None:
    message = run_refusal([bundle / "configs" / "train.yaml"], only_in_overlai=2)
    assert message.endswith("did you mean 'only_in_overlay'?")


def test_the_files_of_a_run_are_found_in_a_file_of_arguments(bundle: Path, tmp_path: Path) -> None:
    train = bundle / "configs" / "train.yaml"
    arguments = tmp_path / "arguments.yaml"
    arguments.write_text(f"config_file: {train}\nonly_in_overlay: 2\n")
    with pytest.raises(RuntimeError) as caught:
        create_workflow(args_file=str(arguments))
    assert "unknown setting 'only_in_overlay'" in str(caught.value.__cause__)


def test_a_workflow_inside_of_a_run_does_not_take_the_runs_files_for_its_own(
    bundle: Path, tmp_path: Path
) -> None:
    outer = tmp_path / "outer.yaml"
    outer.write_text("initialize: ['$@inner.initialize()']\ninner: null\n")
    inner = ConfigWorkflow(config_file=str(bundle / "configs" / "train.yaml"))
    metadata = str(bundle / "configs" / "metadata.json")
    create_workflow(config_file=str(outer), meta_file=metadata, inner=inner)


@pytest.mark.parametrize(
    ("files", "override"),
    [(["train.yaml"], {"images_dir": "."}), (["inference.yaml"], {"seed": 5})],
    ids=["train", "inference"],
)
def test_the_prostate_bundle_refuses_what_another_of_its_configs_reads(
    files: list[str], override: dict[str, Any]
) -> None:
    (name,) = override
    assert f"unknown setting '{name}'" in run_refusal([PROSTATE / f for f in files], **override)


@pytest.mark.parametrize(
    "files",
    [["train.yaml", "zones.yaml"], ["inference.yaml", "zones.yaml"], ["train.yaml"]],
    ids="+".join,
)
def test_what_the_files_of_a_run_set_themselves_passes(files: list[str]) -> None:
    check_run([PROSTATE / file for file in files])


def test_a_typo_in_the_users_own_overlay_is_found(bundle: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("epocs: 5\n")
    assert "did you mean 'epochs'?" in refusal(bundle, mine)
    assert "did you mean 'epochs'?" in run_refusal([bundle / "configs" / "train.yaml", mine])


def test_an_overlays_own_task_can_be_run(bundle: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("my_task: ['$1 + 1']\n")
    assert start(bundle, mine, run_id="my_task").run() == [2]


def test_tracking_adds_nothing_that_is_refused(bundle: Path, tmp_path: Path) -> None:
    settings_file = {"handlers_id": {}, "configs": {"experiment_name": "e", "run_name": None}}
    start(bundle, tracking=settings_file, save_execute_config=False)


def test_outside_a_config_the_check_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no config is being evaluated"):
        check_overrides()


def test_a_parser_without_a_workflow_is_checked_too(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle)
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "train.yaml")
    parser["datset_dir"] = "x"
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content("initialize::1")
    assert "did you mean 'dataset_dir'?" in str(caught.value.__cause__)


# --- how a run fails


def test_the_last_line_of_a_failed_command_says_why(bundle: Path, tmp_path: Path) -> None:
    done = run_command(bundle / "configs" / "train.yaml", tmp_path, "--datset_dir", "x")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last == "ConfigError: unknown setting 'datset_dir'; did you mean 'dataset_dir'?"


def test_the_last_line_says_why_where_another_library_fails(bundle: Path, tmp_path: Path) -> None:
    config = bundle / "configs" / "train.yaml"
    done = run_command(config, tmp_path, "--training", "['$1 / 0']")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == "ZeroDivisionError: division by zero"


def caused_by(cause: Exception, error: Exception) -> Exception:
    """Return ``error`` as it is raised from ``cause``."""
    error.__cause__ = cause
    return error


def wrapped(error: Exception) -> Exception:
    return caused_by(error, RuntimeError("outer"))


def handled(first: Exception, error: Exception) -> Exception:
    """Return ``error`` as it is raised while ``first`` is handled."""
    error.__context__ = first
    return error


@pytest.mark.parametrize(
    ("error", "added"),
    [
        (wrapped(DimError("inner")), "DimError: inner"),
        (wrapped(wrapped(DimError("inner"))), "DimError: inner"),
        (wrapped(caused_by(KeyError("deeper"), DimError("inner"))), "DimError: inner"),
        (handled(DimError("inner"), ValueError("raised")), "DimError: inner"),
        (wrapped(wrapped(KeyError("foreign"))), "KeyError: 'foreign'"),
        (wrapped(ValueError("of\n  two lines")), "ValueError: of two lines"),
        (wrapped(AssertionError()), "AssertionError"),
        (DimError("alone"), None),
        (handled(KeyError("handled"), ValueError("raised")), None),
        (KeyboardInterrupt(), None),
    ],
)
def test_the_hook_ends_with_the_cause_which_is_ours_if_there_is_one(
    error: BaseException, added: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.excepthook(type(error), error, error.__traceback__)
    as_python_says_it = capsys.readouterr().err
    show_cause_last()
    show_cause_last()
    sys.excepthook(type(error), error, error.__traceback__)
    expected = as_python_says_it + (f"\n{added}\n" if added else "")
    assert capsys.readouterr().err == expected


# --- folders


def test_a_dataset_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given_ in ("images", "./images/", "~/images", tmp_path / "images"):
        assert resolve_dataset_dir(given_) == str(tmp_path / "images")


def test_a_missing_dataset_folder_names_its_nearest_neighbour(tmp_path: Path) -> None:
    for name in ("prostate_t2", "fundus"):
        (tmp_path / name).mkdir()
    (tmp_path / "prostate_t").touch()  # closer, but a file
    with pytest.raises(DataError, match=f"did you mean {tmp_path / 'prostate_t2'}"):
        resolve_dataset_dir(tmp_path / "prostat_t2")
    with pytest.raises(DataError, match="--dataset_dir"):
        resolve_dataset_dir(tmp_path / "nothing" / "alike")
    with pytest.raises(DataError, match="not a folder"):
        resolve_dataset_dir(tmp_path / "prostate_t")
