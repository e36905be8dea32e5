"""What ``benchmarks/evidence.py`` runs, keeps and says."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import evidence
import pytest
import torch
from cells import RESULTS
from evidence_cell import DIAGNOSIS, SCORES, Deployed
from evidence_data import DEMO, Source
from evidence_plan import (
    ABLATION,
    BUNDLES,
    GROUPS,
    SETTINGS,
    VARIANTS,
    Cell,
    digest,
    plan,
    present,
)
from evidence_report import forest
from evidence_tables import (
    Results,
    Row,
    claims_table,
    diagnosis_table,
    ends_table,
    evidence_markdown,
    group_tables,
    readme_lines,
)
from mean_step import PARTS, mean_steps
from monai.bundle import ConfigParser
from speed_ours import OURS
from tables import add_rows, read_rows

from dim_monai.divergence import DIVERGENCES

REPOSITORY = Path(__file__).resolve().parents[2]


def score(variant: str, seed: int, dice: float, **changed: str) -> dict[str, str]:
    """A row of the setting "quick", made with the present settings."""
    row = dict.fromkeys(SCORES, "")
    row |= {"part": "test", "setting": "quick", "seed": str(seed), "variant": variant}
    row |= {"digest": present("quick", variant), "dice": str(dice), "peak_gb": "0.5"}
    row |= {"sharpness_sam": "0.05", "sharpness_asam": "0.25"}
    row |= {"domain": "site_a", "case": "a", "patient": "a"}
    return {**row, **changed}


# --- the plan ----------------------------------------------------------------------------------


def test_the_ablation_comes_first_and_seeds_are_complete_before_the_next() -> None:
    cells = plan("folds", [0, 1, 2])
    ablation = ["supervised", "mean_teacher", "midss", "no_divergence", "no_sharpness", "dim"]
    expected = [
        Cell("folds", setting, variant, seed)
        for setting in ("R1", "R2", "vessels")
        for seed in (0, 1, 2)
        for variant in ablation
    ]
    assert cells[: len(expected)] == expected
    later = [cell.variant for cell in cells[len(expected) :]]
    firsts = [later.index(name) for name in ("kl_closed_form", "climb_images", "share_0.25")]
    assert firsts == sorted(firsts)
    assert [c.setting for c in cells].index("R4") > [c.variant for c in cells].index("sam_0.5")
    assert len(set(cells)) == len(cells)
    assert "quick" not in {cell.setting for cell in cells}


def test_a_selection_keeps_the_order() -> None:
    chosen = plan("test", [3], groups=["labels", "ablation"], settings=["R2"], variants=["dim"])
    assert chosen == [Cell("test", "R2", "dim", 3)]


def test_every_f_is_there_in_both_forms() -> None:
    found = {
        (s["divergence"], s["divergence_estimator"])
        for s in (VARIANTS[name].settings for name in GROUPS["divergence"].variants)
        if "divergence" in s
    }
    assert found == {(f, e) for f in DIVERGENCES for e in ("closed_form", "variational")}


@pytest.mark.parametrize("setting", ["R1", "vessels", "quick"])
def test_what_a_cell_overrides_is_a_setting(setting: str) -> None:
    known = ConfigParser()
    known.read_config([str(file) for file in SETTINGS[setting].configs("dim")])
    groups = [group for group in GROUPS.values() if setting in group.settings]
    names = {v for group in groups for v in group.variants}
    overridden = {key for name in names for key in VARIANTS[name].settings}
    assert all(key in known for key in {*overridden, *SETTINGS[setting].settings})
    assert "method#amplitude_witdh" not in known  # nested keys are looked up, too


# --- the digest --------------------------------------------------------------------------------


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """A copy of the configs of dim_prostate."""
    shutil.copytree(BUNDLES / "dim_prostate" / "configs", tmp_path / "dim_prostate" / "configs")
    return tmp_path


def edited(bundles: Path, old: str, new: str) -> str:
    file = bundles / "dim_prostate" / "configs" / "train.yaml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    return digest(SETTINGS["R1"], VARIANTS["dim"], bundles)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("\nlearning_rate: 0.001", "\nlearning_rate: 0.002", False),
        ("\n    power: 0.9", "\n    power: 0.8", False),
        ("    rho: '@rho'", "    rho: 0.3", False),
        ("keys: pred, largest: '@largest_component'", "keys: pred, largest: false", False),
        ("\nseed: 0 ", "\nseed: 7 ", True),
        ("\ncheckpoint_interval: 100", "\ncheckpoint_interval: 10", True),
        ("@output_dir + '/training_log.csv'", "@output_dir + '/log.csv'", True),
    ],
)
def test_the_digest_sees_what_trains_and_scores(
    bundles: Path, old: str, new: str, same: bool
) -> None:
    before = digest(SETTINGS["R1"], VARIANTS["dim"])
    assert (edited(bundles, old, new) == before) == same


def test_the_digest_tells_variants_apart_and_knows_one_by_two_names() -> None:
    digests = [present("quick", variant) for variant in ABLATION]
    assert len(set(digests)) == len(digests)
    default = ConfigParser.load_config_file(SETTINGS["R1"].configs("dim")[0])["divergence"]
    assert present("R1", f"{default}_closed_form") == present("R1", "half_dim")
    assert present("R1", "share_0.5") != present("R1", "dim")


# --- the lists ---------------------------------------------------------------------------------

PEOPLE = {d: {f"{d}{n}": [f"{d}{n}L", f"{d}{n}R"] for n in range(9)} for d in "ab"}


def entry(_: Path, domain: str, case: str, label: bool) -> dict[str, str]:
    return {"case": case, "domain": domain, **({"label": case} if label else {})}


SOURCE = Source({"a": 2, "b": 3}, lambda _, domain: PEOPLE[domain], entry)


def cases(entries: Sequence[dict[str, str]]) -> set[str]:
    return {entry["case"] for entry in entries}


def test_the_test_part_is_the_same_for_all_seeds_and_closed_to_folds() -> None:
    tests = [SOURCE.split(Path(), "test", 1, 1.0, seed).lists for seed in range(4)]
    assert len({frozenset(cases(lists["test"])) for lists in tests}) == 1
    closed = {case[:-1] for case in cases(tests[0]["test"])}
    assert len(closed) == 5
    folds = [SOURCE.split(Path(), "folds", 1, 1.0, seed).lists for seed in range(4)]
    assert len({frozenset(cases(lists["test"])) for lists in folds}) > 1
    for lists in folds:
        assert not closed & {case[:-1] for entries in lists.values() for case in cases(entries)}


@pytest.mark.parametrize("part", ["folds", "test"])
def test_a_case_is_in_one_list_and_a_scored_patient_in_no_other(part: str) -> None:
    split = SOURCE.split(Path(), part, 2, 1.0, 5)
    lists = split.lists
    trained = cases(lists["labeled"]) | cases(lists["unlabeled"])
    assert len(trained) == len(lists["labeled"]) + len(lists["unlabeled"])
    assert not {c[:-1] for c in trained} & {c[:-1] for c in cases(lists["test"])}
    assert len(lists["labeled"]) == 2
    assert {entry["domain"] for entry in lists["labeled"]} == {"a"}
    assert not any("label" in entry for entry in lists["unlabeled"])
    assert cases(split.hidden) == cases(lists["unlabeled"])
    assert all("label" in entry for entry in split.hidden)


def test_a_share_of_the_unlabelled_is_of_each_domain() -> None:
    whole, half = (SOURCE.split(Path(), "test", 1, share, 0).lists for share in (1.0, 0.5))
    assert half["labeled"] == whole["labeled"]
    for domain in "ab":
        counts = [sum(e["domain"] == domain for e in x["unlabeled"]) for x in (whole, half)]
        assert counts[1] == round(counts[0] / 2)


def test_setting_r_still_has_the_cases_of_its_first_cells(test_data: Path) -> None:
    """Five are scored, drawn by 20261121; seed 0 labels the first that 1000 draws of the rest."""
    files = sorted((test_data / "prostate_t2" / "rumc_320").glob("*_t2.nii.gz"))
    names = [file.name.removesuffix("_t2.nii.gz") for file in files]
    drawn = random.Random(20261121).sample(names, len(names))  # noqa: S311
    labelled = random.Random(1000).sample(drawn[5:], len(names) - 5)[0]  # noqa: S311
    lists = SETTINGS["R1"].source.split(test_data / "prostate_t2", "test", 1, 1.0, 0).lists
    assert [entry["case"] for entry in lists["labeled"]] == [labelled]
    scored = {entry["case"] for entry in lists["test"] if entry["domain"] == "rumc_320"}
    assert scored == set(drawn[:5])
    kept = [row for row in read_rows(RESULTS / "evidence.csv") if row["setting"] == "R1"]
    of_part = [r for r in kept if (r["part"], r["domain"]) == ("test", "rumc_320")]
    assert {row["case"] for row in of_part} == scored


# --- running -----------------------------------------------------------------------------------


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """The cells that were run, instead of trainings."""
    seen: list[Cell] = []

    def run_cell(cell: Cell, *_: object) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        seen.append(cell)
        if cell.variant == "midss":
            raise RuntimeError("out of memory")
        row = {"variant": cell.variant, "domain": "site_a"}
        return [row | {"case": "a", "patient": "a", "dice": 0.5}], [row | {"cases": 1}]

    monkeypatch.setattr(evidence, "run_cell", run_cell)
    return seen


def run(cells: Sequence[Cell], results: Path, **options: Any) -> None:
    evidence.run(cells, results, lambda _: Path(), **options)


def quick_plan(*variants: str, seeds: Sequence[int] = (0, 1)) -> list[Cell]:
    return plan("folds", seeds, groups=["quick"], variants=variants)


def test_a_finished_cell_is_not_run_again(tmp_path: Path, ran: list[Cell]) -> None:
    run(quick_plan("supervised", "dim", seeds=[0]), tmp_path)
    first = quick_plan("supervised", "dim", seeds=[0])
    assert ran == first
    run(quick_plan("supervised", "dim"), tmp_path)
    assert ran == [*first, *quick_plan("supervised", "dim", seeds=[1])]
    results, diagnosis = evidence.load(tmp_path)
    assert len(results.of("folds", "quick", "dim")) == 2
    assert len(diagnosis) == 4


@pytest.mark.parametrize("name", ["evidence.csv", "evidence_diagnosis.csv"])
def test_no_cell_begins_that_cannot_be_kept(tmp_path: Path, ran: list[Cell], name: str) -> None:
    (tmp_path / name).write_text("part,setting,method\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="has the columns"):
        run(quick_plan("dim", seeds=[0]), tmp_path)
    assert ran == []


def test_two_names_of_the_same_settings_are_one_cell(tmp_path: Path, ran: list[Cell]) -> None:
    default = ConfigParser.load_config_file(SETTINGS["R1"].configs("dim")[0])["divergence"]
    same = [Cell("folds", "R1", name, 0) for name in ("half_dim", f"{default}_closed_form")]
    run(same, tmp_path)
    assert ran == same[:1]
    assert len(evidence.load(tmp_path)[0].of("folds", "R1", same[1].variant)) == 1


def test_a_cell_that_fails_is_told_and_keeps_no_other(tmp_path: Path, ran: list[Cell]) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        run(quick_plan("midss", "dim", seeds=[0]), tmp_path)
    results, _ = evidence.load(tmp_path)
    assert [row["variant"] for row in results.rows] == ["dim"]


def test_a_table_that_several_jobs_begin_at_once_has_one_heading(tmp_path: Path) -> None:
    for attempt in range(50):
        file = tmp_path / f"{attempt}.csv"
        with ThreadPoolExecutor(8) as jobs:
            list(jobs.map(lambda n, to=file: add_rows(to, ["number"], [{"number": n}]), range(8)))
        assert sorted(row["number"] for row in read_rows(file)) == [str(n) for n in range(8)]


def test_two_jobs_find_the_same_rows(tmp_path: Path, ran: list[Cell]) -> None:
    run(quick_plan("supervised", "dim"), tmp_path, jobs=2)
    assert set(ran) == set(quick_plan("supervised", "dim"))
    assert len(evidence.load(tmp_path)[0].rows) == 4


def test_no_cell_begins_after_the_budget(tmp_path: Path, ran: list[Cell]) -> None:
    run(quick_plan("dim"), tmp_path, budget_minutes=-1)
    assert ran == []


def test_nothing_is_kept_of_a_cell_whose_settings_changed(
    tmp_path: Path, ran: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = present("quick", "dim")
    digests = iter([planned, "changed"])
    monkeypatch.setattr(evidence, "digest", lambda *_: next(digests))
    with pytest.raises(RuntimeError, match="changed while"):
        run(quick_plan("dim", seeds=[0]), tmp_path)
    assert len(ran) == 1
    assert read_rows(tmp_path / "evidence.csv") == []


def test_either_quick_or_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in ([], ["--quick", "report"]):
        with pytest.raises(SystemExit, match="2"):
            evidence.main(argv)
    assert "either --quick or one of" in capsys.readouterr().err


def test_a_run_of_no_cell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        evidence.main(["run", "--group", "unlabelled", "--setting", "R8"])
    assert "no group compares these methods in these settings" in capsys.readouterr().err


# --- tables ------------------------------------------------------------------------------------


def quick_table(
    rows: Sequence[dict[str, str]], steps: Mapping[str, float] | None = None
) -> dict[str, tuple[str, ...]]:
    (table,) = group_tables(Results(rows, steps or {}), "quick", "test")
    return {line[0]: line[1:] for line in table.lines}


def test_a_line_shows_mean_spread_and_paired_difference() -> None:
    rows = [score("supervised", seed, dice) for seed, dice in enumerate((0.5, 0.6, 0.7))]
    rows += [score("dim", seed, dice) for seed, dice in enumerate((0.6, 0.7, 0.8))]
    lines = quick_table(rows)
    assert lines["supervised"][:3] == ("0, 1, 2", "0.600 ± 0.100", "")
    assert lines["DiM"][:3] == ("0, 1, 2", "0.700 ± 0.100", "+0.100 (+0.100 to +0.100)")
    assert lines["DiM"][-3:] == ("0.050 / 0.250", "-", "0.5")
    assert lines["MiDSS + SAM"][0] == "not run"


def test_a_line_shows_what_a_step_costs() -> None:
    lines = quick_table([score("dim", 0, 0.6)], {"dim": 1.126, "midss": 1.0})
    assert lines["DiM"][-2] == "1.13"


def test_what_a_step_of_another_bundle_costs_is_not_said() -> None:
    row = score("dim", 0, 0.6, setting="vessels", digest=present("vessels", "dim"))
    tables = group_tables(Results([row], {"dim": 1.126}), "ablation", "test")
    (vessels,) = (table for table in tables if table.title.startswith("vessels"))
    assert {line[0]: line[-2] for line in vessels.lines}["DiM"] == "-"


def test_a_step_of_half_the_training_costs_as_much() -> None:
    half = score("half_dim", 0, 0.6, setting="R1", digest=present("R1", "half_dim"))
    (table,) = group_tables(Results([half], {"dim": 1.126}), "half", "test")
    assert {line[0]: line[-2] for line in table.lines}["DiM, 2000 steps"] == "1.13"


def test_the_cost_of_a_step_comes_from_the_rows_on_the_cpu(tmp_path: Path) -> None:
    lines = ["size,device,row,ms", "bundle,cpu,ours: MiDSS,100", "bundle,cpu,ours: mean teacher,60"]
    lines += ["bundle,cuda,ours: mean teacher,1", "bundle,cpu,textbook MiDSS,"]
    (tmp_path / "speed_bundle.csv").write_text("\n".join(lines))
    assert evidence.load(tmp_path)[0].steps == {"mean_teacher": 0.6, "midss": 1.0}


def test_every_cost_is_a_mean_over_rows_that_are_measured() -> None:
    rows = dict.fromkeys(OURS, 50.0)
    assert mean_steps(rows) == pytest.approx(dict.fromkeys(PARTS, 1.0))
    assert set(PARTS) <= set(VARIANTS)
    del rows["DiM with its second pass"]
    assert set(PARTS) - set(mean_steps(rows)) == {"dim"}


def test_looksam_pays_for_a_second_pass_every_fifth_step() -> None:
    rows = dict.fromkeys(OURS, 100.0)
    rows["DiM, SAM in every step"] = 200.0
    assert mean_steps(rows)["always_looksam"] == pytest.approx((200 + 4 * 100) / 5 / 100)
    assert mean_steps(rows)["always_sam"] == pytest.approx(2.0)


def test_rows_of_other_settings_are_counted_and_not_used() -> None:
    rows = [score("dim", 0, 0.5), *(score("dim", seed, 0.9, digest="old") for seed in (1, 2))]
    (table,) = group_tables(Results(rows), "quick", "test")
    assert {line[0]: line[1:3] for line in table.lines}["DiM"] == ("0", "0.500")
    assert table.note == "2 rows of other settings were left out."


def test_the_baseline_by_another_name_is_no_replication() -> None:
    setting = "R1"
    rows = [
        score("half_dim", seed, 0.6, setting=setting, digest=present(setting, "half_dim"))
        for seed in (0, 1, 2)
    ]
    assert present(setting, "js_closed_form") == present(setting, "half_dim")
    (table,) = group_tables(Results(rows), "divergence", "test")
    lines = {line[0]: line[1:] for line in table.lines}
    assert lines[VARIANTS["js_closed_form"].title] == ("= DiM, 2000 steps", *[""] * 8)
    assert lines["DiM, 2000 steps"][0] == "0, 1, 2"
    assert len({len(line) for line in (table.header, *table.lines)}) == 1


def test_a_table_in_which_nothing_ran_is_one_line() -> None:
    (table,) = group_tables(Results([]), "quick", "test")
    assert table.lines == ()
    assert table.markdown == []
    assert table.note.startswith("Not run: supervised, ")
    text = evidence_markdown(Results([]), [], ["quick"])
    assert f"## {GROUPS['quick'].title}: {table.title}\n\n{table.note}\n" in text


def test_a_case_that_was_not_scored_is_in_no_mean() -> None:
    rows = [score("dim", 0, 0.5), score("dim", 0, 0.0) | {"patient": "b", "dice": ""}]
    assert quick_table(rows)["DiM"][1] == "0.500"


def test_seeds_that_are_not_common_have_no_difference() -> None:
    assert quick_table([score("supervised", 0, 0.5), score("dim", 1, 0.6)])["DiM"][2] == ""


def test_a_difference_of_fewer_seeds_than_the_mean_names_them() -> None:
    """Else a mean below the baseline's could stand beside a difference above 0."""
    rows = [score("supervised", seed, 0.5) for seed in (0, 1)]
    rows += [score("dim", seed, dice) for seed, dice in ((0, 0.6), (1, 0.6), (24, 0.0))]
    line = quick_table(rows)["DiM"]
    assert line[:2] == ("0, 1, 24", "0.400 ± 0.346")
    assert line[2] == "+0.100 (+0.100 to +0.100) [seeds 0, 1]"


@pytest.mark.parametrize(
    ("dice", "seeds", "verdict"),
    [
        (0.6, 3, "holds: +0.100"),
        (0.4, 3, "DOES NOT HOLD: -0.100"),
        (0.6, 2, "not shown: +0.100"),
    ],
)
def test_a_claim_is_judged_by_its_interval(dice: float, seeds: int, verdict: str) -> None:
    rows = [score("supervised", seed, 0.5) for seed in range(seeds)]
    rows += [score("dim", seed, dice) for seed in range(seeds)]
    lines = dict(claims_table(Results(rows), "test", ["quick"]).lines)
    assert lines["Unlabelled images help: DiM above supervised"].startswith(verdict)
    assert lines["DiM above its base, MiDSS"] == "not run"


def test_an_interval_around_zero_shows_nothing() -> None:
    rows = [score("supervised", seed, 0.5) for seed in range(3)]
    rows += [score("dim", seed, dice) for seed, dice in enumerate((0.4, 0.5, 0.7))]
    (line, *_) = claims_table(Results(rows), "test", ["quick"]).lines
    assert line[1].startswith("not shown: +0.033 (-0.100 to +0.200)")


def test_flatter_means_a_lower_sharpness() -> None:
    rows = [score("midss", seed, 0.5, sharpness_sam="0.08") for seed in range(3)]
    rows += [score("dim", seed, 0.5, sharpness_sam="0.05") for seed in range(3)]
    *_, flatter = claims_table(Results(rows), "test", ["quick"]).lines
    assert flatter[1] == "holds: -0.030 (-0.030 to -0.030)"


def test_a_figure_compares_and_says_where_seeds_are_few() -> None:
    alone = [score("supervised", seed, 0.5) for seed in range(3)]
    assert forest(Results(alone), "quick", "quick", "test") is None
    drawn = forest(Results([*alone, score("dim", 0, 0.6)]), "quick", "quick", "test")
    assert drawn is not None
    left, right = drawn.axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["supervised", "DiM [1 seed]"]
    (square,) = (line for line in right.lines if line.get_marker() == "s")
    assert square.get_xdata() == pytest.approx([0.1])
    assert square.get_markerfacecolor() == "none"


def test_the_diagnosis_is_a_mean_over_seeds() -> None:
    row = dict.fromkeys(DIAGNOSIS, "") | {"part": "test", "setting": "quick", "domain": "site_b"}
    row |= {"digest": present("quick", "dim")}
    rows = [row | {"seed": str(n), "pseudo_precision": str(p)} for n, p in enumerate((0.2, 0.4))]
    (line,) = diagnosis_table(rows, "quick", "test").lines
    assert line == ("DiM", "site_b", "2", "-", "0.300", "-", "-", "-", "-", "-")


def test_pseudo_labels_are_grouped_by_the_empty_slices_of_their_labels() -> None:
    def row(seed: int, empty: int, domain: str, right: float, trust: str = "0.9") -> Row:
        cell = {"part": "test", "setting": "R1", "seed": str(seed), "domain": domain}
        quality = {"empty_slices": str(empty), "pseudo_precision": str(right)}
        return dict.fromkeys(DIAGNOSIS, "") | cell | quality | {"logged_teacher_trust": trust}

    rows = [
        row(0, 0, "rumc_320", 0.5),
        row(0, 0, "rumc_384", 0.4),
        row(1, 4, "rumc_320", 0.9),
        row(2, 9, "rumc_320", 0.8),
        row(3, 0, "rumc_320", 0.1, trust=""),  # without a teacher
        row(4, 0, "rumc_320", 0.1) | {"setting": "vessels"},
    ]
    assert ends_table(rows).lines == (
        ("0", "1", "0.50 to 0.50", "0.40 to 0.40"),
        ("1 to 3", "0", "not run", "not run"),
        ("4 and more", "2", "0.80 to 0.90", "not run"),
    )


# --- the README --------------------------------------------------------------------------------


def test_the_lines_of_the_readme_fit_into_it() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    lines = readme_lines(Results([]), [])
    begin, end = (text.index(f"<!-- results:{mark} -->") for mark in ("begin", "end"))
    assert len(text) - (end - begin - 1) + len(lines) <= 120
    assert sum("not run" in line for line in lines) == len(ABLATION)
    scored = "5 of rumc_320, 2 of rumc_384 (R1, R2); 3 of chase_db1, 6 of hrf (vessels)."
    assert f"Scored patients: {scored}" in lines[-1]


# --- measurements ------------------------------------------------------------------------------


def test_pseudo_labels_are_held_against_the_truth() -> None:
    """Of 8 pixels: 4 foreground; 4 called so, of which 3 right; 3 of them trusted, 2 right."""
    truth = torch.tensor([1, 1, 1, 0, 1, 0, 0, 0]).reshape(1, 2, 4)
    odds = torch.tensor([9.0, 9.0, 0.1, 9.0, -9.0, -9.0, -9.0, -0.1]).reshape(1, 1, 2, 4)
    network = object.__new__(Deployed)
    network.threshold = 0.9
    image = {"image": torch.zeros(1, 2, 4), "label": truth}
    network.transform = lambda _: {k: _Meta(v) for k, v in image.items()}
    network.inferer = lambda *_: torch.cat([torch.zeros_like(odds), odds], dim=1)
    network.network = torch.nn.Identity()
    quality = network.pseudo_labels([{"domain": "a"}, {"domain": "a"}])["a"]
    assert quality == {
        "cases": 2,
        "pseudo_coverage": 6 / 8,
        "pseudo_precision": round(2 / 3, 5),
        "pseudo_recall": 2 / 4,
        "pseudo_dice": 2 * 3 / (4 + 4),
    }


class _Meta:
    """Stands for MONAI's MetaTensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def as_tensor(self) -> torch.Tensor:
        return self.tensor


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute on a free core
def test_quick_runs_from_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/evidence.py", "--quick", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results, diagnosis = evidence.load(tmp_path)
    assert {row["variant"] for row in results.rows} == {"supervised", "dim"}
    assert len(results.rows) == 2 * sum(DEMO.scored.values())
    assert all(0 <= float(row["dice"]) <= 1 for row in results.rows)
    sharp = {row["variant"]: row["sharpness_sam"] for row in results.rows}
    assert sharp["supervised"] != sharp["dim"]
    assert {row["domain"] for row in diagnosis} == set(DEMO.domains)
    assert all(0 <= float(row["pseudo_coverage"]) <= 1 for row in diagnosis)
    assert "| mean teacher | not run |" in done.stdout
    page = (tmp_path / "evidence.html").read_text(encoding="utf-8")
    assert "<td>not run</td>" in page
    assert 'src="data:image/png;base64,' in page
    assert (tmp_path / "evidence_quick_quick_test.png").read_bytes().startswith(b"\x89PNG")
