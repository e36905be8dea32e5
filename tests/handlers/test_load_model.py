"""The deployed weights are in the network when the engine works, or it does not begin."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from dim_monai.errors import CheckpointError
from dim_monai.handlers import LoadModel
from dim_monai.model_files import save_model
from tests.handlers.tiny import equal, make_network, state_of


def other_network() -> nn.Module:
    network = make_network()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(2).add_(1)
    return network


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_the_weights_of_the_file_are_those_that_work(tmp_path: Path, name: str) -> None:
    network, trained = make_network(), other_network()
    seen = []
    engine = Engine(lambda engine, batch: seen.append(state_of(network)))
    LoadModel(str(tmp_path / name), network).attach(engine)
    save_model(tmp_path / "model.pt", trained.state_dict())  # a training comes in between
    engine.run([None])
    assert equal(seen[0], trained.state_dict())


def test_a_damaged_file_stops_the_engine_before_it_works_and_a_sound_one_lets_it(
    tmp_path: Path,
) -> None:
    save_model(tmp_path / "model.pt", other_network().state_dict())
    (tmp_path / "model.pt").write_bytes((tmp_path / "model.pt").read_bytes() + b"0")
    network, worked = make_network(), []
    engine = Engine(lambda engine, batch: worked.append(batch))
    LoadModel(str(tmp_path / "model.pt"), network).attach(engine)
    with pytest.raises(CheckpointError, match="hash"):
        engine.run([None])
    assert worked == []
    assert equal(state_of(network), state_of(make_network()))

    save_model(tmp_path / "model.pt", other_network().state_dict())  # the user has another copy
    engine.run([None])
    assert worked == [None]
    assert equal(state_of(network), other_network().state_dict())
