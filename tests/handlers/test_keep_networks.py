"""Both networks lie side by side after a training, and only after one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from dim_monai.handlers import KeepNetworks, TeacherEMA
from tests.handlers.tiny import equal, make_batch, make_network, make_trainer


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_the_last_weights_of_each_are_written_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "place"
    student = make_network()
    teacher = TeacherEMA(make_network(), decay=0.5)
    keep = KeepNetworks(str(folder), {"student": student, "teacher": teacher.network})
    trainer = make_trainer(student, [make_batch(seed) for seed in range(3)], teacher, keep)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: written.extend(files(folder)))
    written: list[str] = []
    trainer.run()
    assert written == []  # nothing of a training that is still running
    assert files(folder) == ["student.pt", "teacher.pt"]
    for name, network in (("student", student), ("teacher", teacher.network)):
        weights = torch.load(folder / f"{name}.pt", weights_only=True)
        assert list(weights) == list(network.state_dict())
        assert equal(weights, network.state_dict())
    assert not equal(
        *(torch.load(folder / f"{name}.pt", weights_only=True) for name in ("student", "teacher"))
    )


def test_an_interrupted_training_leaves_the_networks_before_it(tmp_path: Path) -> None:
    student = make_network()
    (tmp_path / "student.pt").write_bytes(b"of the training before")
    trainer = make_trainer(
        student, [make_batch(0)], KeepNetworks(str(tmp_path), {"student": student})
    )

    @trainer.on(Events.ITERATION_COMPLETED)
    def _stop() -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        trainer.run()
    assert (tmp_path / "student.pt").read_bytes() == b"of the training before"


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dim_monai.handlers.keep_networks.rank", lambda: 1)
    student = make_network()
    make_trainer(student, [make_batch(0)], KeepNetworks(str(tmp_path), {"student": student})).run()
    assert files(tmp_path) == []
