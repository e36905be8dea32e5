"""What ``benchmarks/speed.py`` times: that a row is what its name says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from speed import Apart, is_wanted, numerics, variants
from speed_floor import counted_flop
from speed_loader import forget
from speed_ours import OURS, SIZES, Ours, Size
from speed_table import TOLERANCES, Line, batch_table, derived, targets_table
from speed_textbook import SWITCHED, Switches, Textbook
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from dim_monai.data.slices import SliceDataset

CPU = torch.device("cpu")


class Tiny(nn.Module):
    """A network whose ``forward`` all of its class share, as those of the rows do."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.InstanceNorm2d(4, affine=True)
        self.last = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(torch.relu(self.norm(self.first(images))))


TINY = Size(32, Tiny)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[CompileCounter]]:
    """Counts what is compiled of each network, and runs it as it was traced."""
    counters: list[CompileCounter] = []
    compile_module = nn.Module.compile

    def counted(module: nn.Module, **settings: object) -> None:
        counters.append(CompileCounter())
        compile_module(module, backend=counters[-1], **settings)

    monkeypatch.setattr(nn.Module, "compile", counted)
    torch.compiler.reset()
    yield counters
    torch.compiler.reset()


def textbook(switches: Switches) -> Callable[[], Tensor]:
    """A step of a training and then its gradient, again and again."""
    training, batch = Textbook(TINY.network(CPU), "midss", switches), TINY.batch()

    def gradient() -> Tensor:
        training.step(batch)
        return training.gradient()

    return gradient


def ours(row: str) -> Callable[[], Tensor]:
    training = Ours(TINY, OURS[row], CPU)

    def gradient() -> Tensor:
        training.step()
        return training.gradient()

    return gradient


def test_every_compiled_row_of_a_process_stays_compiled(
    compilations: list[CompileCounter],
) -> None:
    rows = [partial(textbook, one) for one in SWITCHED.values() if one.compiled]
    rows += [partial(ours, name) for name, row in OURS.items() if row.compiled]
    steps = [make() for make in rows]
    assert len(compilations) == 2 * len(rows) > 8  # more than PyTorch keeps of one code
    for _ in range(2):
        for step in steps:
            step()
    # One graph of each student and one of each teacher, none of them given up.
    assert [counter.frame_count for counter in compilations] == [1] * len(compilations)


def test_a_compiled_row_has_the_gradient_of_the_row_that_is_not(
    compilations: list[CompileCounter],
) -> None:
    for plain, compiled in (
        (ours("MiDSS"), ours("MiDSS, torch.compile")),
        (ours("MiDSS, bfloat16"), ours("MiDSS, bfloat16, torch.compile")),
        (textbook(Switches()), textbook(SWITCHED["torch.compile"])),
    ):
        for _ in range(2):
            torch.testing.assert_close(compiled(), plain(), rtol=1e-4, atol=1e-6)


def test_what_the_rows_of_esam_save_is_in_their_count_of_operations() -> None:
    names = ("SAM on all terms", "ESAM on all terms, all weights", "ESAM on all terms", "MiDSS")
    flop = []
    for name in names:
        training = Ours(TINY, OURS[name], CPU)
        training.step()
        flop.append(counted_flop(training.step))
    assert flop == sorted(flop, reverse=True)
    assert len(set(flop)) == len(flop)


def test_a_name_in_full_is_a_row_alone_and_a_part_is_all_that_have_it() -> None:
    def chosen(*wanted: str) -> list[str]:
        return [row for row in OURS if is_wanted(row, wanted, OURS)]

    assert chosen("MiDSS") == ["MiDSS"]
    assert chosen("MiDSS, all", "DiM w") == ["MiDSS, all", "DiM with its second pass"]
    assert chosen("bfloat16") == [row for row in OURS if "bfloat16" in row]
    assert chosen("") == list(OURS)


def test_a_row_with_memory_kept_steps_when_asked_and_ends_when_told() -> None:
    kept = [name for name, row in variants(SIZES["bundle"], CPU).items() if row.kept]
    row = Apart("bundle", CPU, kept[0])
    row.step()
    row.step()
    assert row.process.poll() is None
    row.close()
    assert row.process.returncode == 0


def test_a_row_whose_process_ends_is_an_error() -> None:
    row = Apart("bundle", CPU, "no such row")
    with pytest.raises(RuntimeError, match="ended with 1"):
        row.step()
    row.close()


def test_the_rate_of_each_precision_is_told_once() -> None:
    lines = [
        Line("bundle", "cpu", "a", product_rate=200.0),
        Line("bundle", "cpu", "b", product_rate=200.0),
        Line("bundle", "cpu", "c", "bfloat16", product_rate=50.0),
        Line("bundle", "cpu", "not run", "float16"),
    ]
    (told,) = derived(lines)
    assert told.endswith(": 200 GFLOP/s in float32, 50 GFLOP/s in bfloat16.")


def test_a_target_is_met_missed_or_not_run() -> None:
    def verdict(ours: float | None) -> str:
        lines = [
            Line("bundle", "cpu", "textbook MiDSS", ms=100.0),
            Line("bundle", "cpu", "ours: MiDSS", ms=ours),
        ]
        return next(row for row in targets_table(lines) if "float32 |" in row)

    assert verdict(85.0).endswith("| 0.85 | 0.85 | met |")
    assert verdict(86.0).endswith("| 0.86 | 0.85 | **missed** |")
    assert verdict(None).endswith("| not run | 0.85 | |")


def test_a_difference_beyond_its_tolerance_is_said_to_be() -> None:
    assert numerics(0.0, half=False) == "bit-identical"
    for half, kind in ((False, "reordered sums"), (True, "reduced precision")):
        assert numerics(0.5 * TOLERANCES[kind], half) == kind
        assert numerics(2 * TOLERANCES[kind], half) == "beyond tolerance"


def test_what_is_prepared_anew_is_what_the_cache_holds() -> None:
    made: list[int] = []

    def prepare(entry: dict[str, int]) -> dict[str, Tensor]:
        made.append(entry["seed"])
        generator = torch.Generator().manual_seed(entry["seed"])
        return {"image": torch.rand(2, 4, 4, 3, generator=generator)}

    dataset = SliceDataset([{"seed": 1}, {"seed": 2}], prepare, num_workers=1, progress=False)
    held = [dataset[item]["image"] for item in range(len(dataset))]
    assert made == [1, 2]
    forget(dataset)
    again = [dataset[item]["image"] for item in range(len(dataset))]
    assert made == [1, 2, *[1] * 3, *[2] * 3]
    assert all(torch.equal(*pair) for pair in zip(held, again, strict=True))


def test_the_batches_of_the_loader_are_told_from_the_fastest() -> None:
    table = batch_table({"anew": 0.3, "cache": 0.1})
    assert table[2:] == ["| cache | 100.0 | 1.0 |", "| anew | 300.0 | 3.0 |"]
