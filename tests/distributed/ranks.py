"""What each of two processes does in the tests of several ranks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Events
from torch.nn.parallel import DistributedDataParallel

from dim_monai.distributed import all_finite, average_tensors
from dim_monai.handlers import (
    FDivergence,
    GradientShares,
    RunCheckpoint,
    SharpnessAware,
    TeacherEMA,
)
from dim_monai.handlers.run_checkpoint import end_run
from dim_monai.methods import MiDSS
from tests.handlers.tiny import (
    RawBatch,
    Record,
    linear_batch,
    make_batch,
    make_network,
    make_trainer,
    squared_error,
    state_of,
)

RANKS = 2
DIM_STEPS = 20
RESUMED_STEPS = 6
SCALE = 1024.0  # of the gradient, as float16 needs it
RHO = 0.2
START = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
INPUTS = torch.tensor([[1.0, 2.0, -1.0], [0.5, -1.0, 2.0]], dtype=torch.float64)
TARGETS = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)


def joined_batches() -> list[RawBatch]:
    """Three batches of four labelled images; a rank sees two of each four."""
    return [make_batch(seed, labelled=2 * RANKS, unlabelled=0) for seed in range(3)]


def part(batch: RawBatch, rank: int) -> RawBatch:
    return {
        stream: {name: value.chunk(RANKS)[rank] for name, value in views.items()}
        for stream, views in batch.items()
    }


def supervised(rank: int) -> dict[str, Any]:
    network = make_network()
    batches = [part(batch, rank) for batch in joined_batches()]
    trainer = make_trainer(DistributedDataParallel(network), batches, momentum=0.9)
    trainer.run()
    return {"student": state_of(network), "norm": trainer.state.output[0]["gradient_norm"]}


def climb(rank: int, with_term: bool, rule: str = "sam") -> dict[str, Any]:
    """One sharpness-aware step of a regression; each rank has one sample of its own."""
    network = torch.nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(START[None])
    batch = linear_batch(INPUTS[rank : rank + 1], TARGETS[rank : rank + 1])
    sharpness = SharpnessAware(RHO, rule)
    trainer = make_trainer(
        DistributedDataParallel(network),
        [batch],
        sharpness,
        lr=1.0,
        loss_function=squared_error,
    )
    if with_term:
        trainer.add_term("f_divergence", lambda *_: network.weight.pow(3).sum(), rank + 1.0)
    trainer.run()
    remembered = sharpness.state_dict()["remembered"]
    return {"step": START - network.weight.detach()[0], "remembered": remembered}


def between(rank: int) -> dict[str, Any]:
    """A step of LookSAM without a second pass, at the weights of the one before."""
    network = torch.nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(START[None])
    batch = linear_batch(INPUTS[rank : rank + 1], TARGETS[rank : rank + 1])
    trainer = make_trainer(
        DistributedDataParallel(network),
        [batch, batch],
        SharpnessAware(RHO, "looksam"),
        lr=0.0,
        loss_function=squared_error,
    )
    trainer.add_term("f_divergence", lambda *_: network.weight.pow(3).sum(), rank + 1.0)
    trainer.run()
    return {"gradient": [weight.grad for weight in trainer.parameters()]}


def dim(
    batches: list[RawBatch],
    estimator: str | None,
    *,
    sharpness: bool = True,
    rule: str = "sam",
) -> dict[str, Any]:
    """Train on the batches of this rank; without an estimator there is no divergence."""
    network = make_network()
    teacher = TeacherEMA(network)
    divergence = FDivergence(estimator=estimator or "closed_form", interval=1)
    path = Record(lambda engine: state_of(network))
    losses = Record(lambda engine: float(engine.state.output[0]["loss"]))
    weights = list(network.parameters())
    drawn = Record(
        lambda engine: [any(w is d for d in engine.first_pass_weights or ()) for w in weights]
    )
    trainer = make_trainer(
        DistributedDataParallel(network),
        batches,
        *(teacher, GradientShares(interval=3), path, losses, drawn),
        *([divergence] if estimator else []),
        *([SharpnessAware(rule=rule)] if sharpness else []),
        method=MiDSS(threshold=0.5, ramp_length=0.5),
    )
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    trainer.run()
    return {
        "student": state_of(network),
        "teacher": state_of(teacher.network),
        "critic": {} if divergence.critic is None else state_of(divergence.critic),
        "scale": trainer.state.coefficients.get("f_divergence"),
        "gradient_scale": trainer.scaler.get_scale(),
        "path": path.seen,
        "losses": losses.seen,
        "drawn": drawn.seen,
        "skipped": trainer.state.skipped_steps,
    }


def healthy(rank: int, estimator: str, rule: str = "sam") -> dict[str, Any]:
    batches = [make_batch(RANKS * step + rank) for step in range(DIM_STEPS)]
    return dim(batches, estimator, rule=rule)


def poisoned(rank: int, estimator: str | None, *, sharpness: bool = True) -> dict[str, Any]:
    """The second of three batches is not finite, on the second rank only."""
    batches = [make_batch(RANKS * step + rank) for step in range(3)]
    if rank == 1:
        batches[1]["labelled"]["strong"].fill_(float("nan"))
    return dim(batches, estimator, sharpness=sharpness)


class OwnBatches:
    """Batch t of a rank is a function of t and the rank, as that of the two-stream loader."""

    def __init__(self, rank: int) -> None:
        self.rank, self.first = rank, 0

    def __len__(self) -> int:
        return RESUMED_STEPS

    def __iter__(self) -> Iterator[RawBatch]:
        for step in range(self.first, len(self)):
            yield make_batch(RANKS * step + self.rank)

    def start_at(self, step: int) -> None:
        self.first = step


class Stopped(Exception):
    """Stands for whatever ends all processes."""


class LateOnOthers(RunCheckpoint):
    """Read a moment later by all ranks but the first, as from a folder of several machines."""

    def interrupted(self) -> dict[str, Any] | None:
        if dist.get_rank() > 0:
            time.sleep(1)
        return super().interrupted()


def part_of_a_run(
    rank: int,
    folder: Path,
    rule: str,
    stop_before: int | None = None,
    checkpoint: type[RunCheckpoint] = RunCheckpoint,
) -> dict[str, Any]:
    """Train DiM with every state that a run has, or go on with a run; dropout draws numbers."""
    torch.manual_seed(0)
    network = make_network(dropout=0.3)
    teacher, divergence = TeacherEMA(network), FDivergence(interval=2, weight=0.5)
    sharpness = SharpnessAware(rho=0.1, rule=rule, start=0.2)
    trainer = make_trainer(
        DistributedDataParallel(network),
        OwnBatches(rank),
        *(teacher, divergence, sharpness),
        checkpoint(str(folder / "checkpoints"), interval=1),
        method=MiDSS(threshold=0.5, ramp_length=0.5),
        momentum=0.9,
    )

    def stop() -> None:
        if trainer.state.iteration == stop_before:
            raise Stopped

    trainer.add_event_handler(Events.ITERATION_STARTED, stop)
    first: list[int] = []
    trainer.add_event_handler(Events.ITERATION_STARTED(once=1), lambda: first.append(0))
    trainer.run()
    return {
        "student": state_of(network),
        "teacher": state_of(teacher.network),
        "divergence": divergence.state_dict(),
        "remembered": sharpness.state_dict()["remembered"],
        "random": torch.get_rng_state(),
        "steps": trainer.state.iteration,
        "from_the_start": bool(first),
    }


def resumed(rank: int, folder: Path, rule: str = "sam") -> dict[str, Any]:
    """A whole run, and one that is stopped on all ranks and goes on in new trainers."""
    folder = folder / rule
    whole = part_of_a_run(rank, folder / "whole", rule)
    try:
        part_of_a_run(rank, folder / "parts", rule, stop_before=RESUMED_STEPS // 2 + 1)
    except Stopped:
        dist.barrier()  # as between two starts of the program
    torch.rand(17 + rank)
    return {"whole": whole, "parts": part_of_a_run(rank, folder / "parts", rule)}


def finished(rank: int, folder: Path) -> dict[str, Any]:
    """A whole run, and its second start, which the first rank ends as soon as it can."""
    whole = part_of_a_run(rank, folder / "finished", "sam")
    dist.barrier()  # as between two starts of the program
    again = part_of_a_run(rank, folder / "finished", "sam", checkpoint=LateOnOthers)
    end_run(str(folder / "finished" / "checkpoints"))
    return {"whole": whole, "again": again}


def collectives(rank: int) -> dict[str, Any]:
    tensors = [torch.tensor([1.0 + rank]), torch.tensor([[10.0 * rank]])]
    average_tensors(tensors)
    values = torch.tensor([1.0, float("inf") if rank == 1 else 2.0])
    return {"mean": tensors, "finite": [all_finite(torch.ones(1)), all_finite(values)]}


SCENARIOS: dict[str, Callable[[int, Path], dict[str, Any]]] = {
    "collectives": lambda rank, _: collectives(rank),
    "supervised": lambda rank, _: supervised(rank),
    "climb": lambda rank, _: climb(rank, with_term=False),
    "climb_with_term": lambda rank, _: climb(rank, with_term=True),
    "climb_looksam": lambda rank, _: climb(rank, with_term=False, rule="looksam"),
    "between_looksam": lambda rank, _: between(rank),
    "dim": lambda rank, _: healthy(rank, "closed_form"),
    "dim_esam": lambda rank, _: healthy(rank, "closed_form", "esam"),
    "dim_critic": lambda rank, _: healthy(rank, "variational"),
    "poisoned": lambda rank, _: poisoned(rank, "closed_form"),
    "poisoned_critic": lambda rank, _: poisoned(rank, "variational"),
    "poisoned_sharpness": lambda rank, _: poisoned(rank, None),
    "poisoned_divergence": lambda rank, _: poisoned(rank, "closed_form", sharpness=False),
    "finished": finished,
    "resumed": resumed,
    "resumed_looksam": lambda rank, folder: resumed(rank, folder, "looksam"),
}


def run_scenarios(rank: int, folder: str) -> None:
    """Go through all scenarios and leave what they return in ``<folder>/<rank>.pt``."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=Path(folder, "rendezvous").as_uri(),
        rank=rank,
        world_size=RANKS,
        timeout=timedelta(seconds=60),  # a rank that waits in vain fails, it does not hang
    )
    results = {name: scenario(rank, Path(folder)) for name, scenario in SCENARIOS.items()}
    torch.save(results, Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()
