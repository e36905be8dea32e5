"""What is seen and kept of a training: progress bar, CSV of all terms."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, TextIO

import torch
from ignite.engine import Events
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from dim_monai.distributed import rank
from dim_monai.engine import SemiSupervisedTrainer

COLUMNS = ("step", "name", "value")


class TrainingLog:
    """Average what each step reports, show it beside a progress bar and write it to a CSV file.

    Every ``interval`` steps, and at the end of an epoch, the means of the loss, of each unweighted
    term and of the method's diagnostics (ramp, coverage, shares of the gradient, ...) go to
    ``state.metrics``, to the bar and to the file as ``step,name,value`` lines. Between, nothing is
    read back from the device.

    Ignite's ``ProgressBar`` counts within one epoch; this bar counts all steps of the run, so that
    the time left is that of the run.

    Args:
        path: the CSV file; a new training begins a new file.
        interval: steps between two lines.
    """

    def __init__(self, path: str, interval: int = 10) -> None:
        self.path = Path(path)
        self.interval = interval
        self._rate = 0.0
        self._collected: dict[str, list[Tensor]] = {}
        self._rows: list[tuple[int, str, str]] = []
        self._file: TextIO | None = None
        self._bar: tqdm[None] | None = None

    def attach(self, engine: SemiSupervisedTrainer) -> None:
        """Log on the first rank only."""
        engine.parts["log"] = self
        if rank() > 0:
            return
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_STARTED, self._note_rate)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self._write)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write_rest)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._close_and_raise)

    def _open(self, engine: SemiSupervisedTrainer) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        done = engine.state.iteration  # above 0 where an interrupted run goes on
        if not done:
            self._collected, self._rows = {}, []
        self._file = self.path.open("w", encoding="utf-8", newline="")
        csv.writer(self._file, lineterminator="\n").writerows([COLUMNS, *self._rows])
        steps = engine.state.max_epochs * engine.state.epoch_length
        self._bar = tqdm(
            total=steps, initial=done, desc="training", unit="step", dynamic_ncols=True
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what is written and what is collected for the next lines, for a checkpoint."""
        collected = {name: list(values) for name, values in self._collected.items()}
        return {"rows": list(self._rows), "collected": collected}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._rows, self._collected = state["rows"], state["collected"]

    def _note_rate(self, engine: SemiSupervisedTrainer) -> None:
        # That of the step; when it is completed a schedule may have set that of the next.
        self._rate = engine.optimizer.param_groups[0]["lr"]

    def _collect(self, engine: SemiSupervisedTrainer) -> None:
        output = engine.state.output[0]
        values = {
            "loss": output["loss"],
            **output["terms"],
            "gradient_norm": output["gradient_norm"],
            **engine.state.diagnostics,
            "learning_rate": self._rate,
        }
        for name, value in values.items():
            self._collected.setdefault(name, []).append(torch.as_tensor(value, dtype=torch.float32))

    def _write(self, engine: SemiSupervisedTrainer) -> None:
        if self._file is None or self._bar is None:
            return
        device = engine.state.device
        means = dict(zip(self._collected, self._read(device), strict=True))
        self._collected = {}
        engine.state.metrics.update(means)
        step = engine.state.iteration
        rows = [(step, name, f"{value:.6g}") for name, value in means.items()]
        csv.writer(self._file, lineterminator="\n").writerows(rows)
        self._rows += rows
        self._file.flush()
        shown = {name: f"{means[name]:.3f}" for name in ("loss", *engine.state.output[0]["terms"])}
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(step - self._bar.n)

    def _read(self, device: torch.device) -> list[float]:
        """Return the mean of each name; the device is read once."""
        # What a checkpoint has given back, and what was a number, is on the CPU.
        collected = self._collected.values()
        means = [torch.stack([value.to(device) for value in values]).mean() for values in collected]
        read: list[float] = torch.stack(means).cpu().tolist()
        return read

    def _write_rest(self, engine: SemiSupervisedTrainer) -> None:
        """Leave nothing to the next epoch: TensorBoard and trackers read the metrics here."""
        if self._collected:
            self._write(engine)

    def _close(self) -> None:
        if self._file is not None and self._bar is not None:
            self._bar.close()
            self._file.close()

    def _close_and_raise(self, engine: SemiSupervisedTrainer, error: BaseException) -> None:
        # A handler of this event must raise again: Ignite takes the error for dealt with otherwise.
        self._close()
        raise error
