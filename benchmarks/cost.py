"""What a step and a volume cost: ratios between methods in one process, on this machine.

    python benchmarks/cost.py

Steps: each method of ``train.yaml`` on the demo set, DiM and no_divergence while they make their
second pass; the methods take turns, medians after warm-up. Volume: one 20-slice volume of 320 x 320
pixels through the inference workflow, from read to written, after start-up.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "bundles" / "dim_prostate" / "configs"
OVERLAYS = ("supervised", "mean_teacher", "midss", "no_sharpness", "no_divergence")
WARM_UP, STEPS, ROUNDS = 5, 10, 3


def trainer(method: str | None, folder: Path) -> Any:
    """Return the trainer of a method, ready to run step by step."""
    files = [str(CONFIGS / "train.yaml")]
    files += [str(CONFIGS / "methods" / f"{method}.yaml")] if method else []
    workflow = ConfigWorkflow(
        workflow_type="train",
        config_file=files,
        logging_file=False,
        output_dir=str(folder),
        steps_per_epoch=WARM_UP + STEPS * ROUNDS,
        max_epochs=1,
        sharpness_start=0,
    )
    workflow.initialize()
    return workflow.trainer


def seconds_per_step(engines: dict[str, Any]) -> dict[str, float]:
    """Return the median seconds of a step of each engine, the engines taking turns."""
    batches = {name: iter(engine.data_loader) for name, engine in engines.items()}
    times: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine.state.iteration = 0
    for turn in range(WARM_UP + STEPS * ROUNDS):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.state.iteration += 1
            engine.fire_event(Events.ITERATION_STARTED)
            engine.state.batch = next(batches[name])
            engine._iteration(engine, engine.state.batch)
            if turn >= WARM_UP:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def seconds_per_volume(folder: Path) -> float:
    """Return the seconds from reading a 20-slice volume to its written mask, after start-up."""
    noise = np.random.default_rng(0).integers(0, 1000, (320, 320, 20)).astype(np.int16)
    affine = np.diag([0.625, 0.625, 3.6, 1.0])
    source = folder / "in"
    source.mkdir()
    for name in ("first", "second"):
        nib.save(nib.Nifti1Image(noise, affine), source / f"{name}.nii.gz")
    model = folder / "model.pt"
    workflow = ConfigWorkflow(
        workflow_type="inference",
        config_file=str(CONFIGS / "inference.yaml"),
        logging_file=False,
        dataset_dir=str(source),
        output_dir=str(folder / "out"),
        model_file=str(model),
    )
    network = workflow.parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), model)
    workflow.initialize()
    ends: list[float] = []
    workflow.evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: ends.append(time.perf_counter())
    )
    workflow.run()
    return ends[1] - ends[0]


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engines = {m or "dim": trainer(m, folder / (m or "dim")) for m in (*OVERLAYS, None)}
        times = seconds_per_step(engines)
        volume = seconds_per_volume(folder)
    write = sys.stdout.write
    write("| method | ms a step | x midss |\n|---|---|---|\n")
    for method, seconds in times.items():
        write(f"| {method} | {1000 * seconds:.0f} | {seconds / times['midss']:.2f} |\n")
    write(f"\none 20-slice volume, read to written: {volume:.2f} s\n")


if __name__ == "__main__":
    main()
