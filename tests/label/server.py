"""Starts the real MONAI Label server for a test, talks to it as a client does, and stops it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import torch
from monai.bundle import ConfigParser

from tests.bundles.examples import Example, copy_bundle

STAND_IN = Path(__file__).with_name("torchvision_stand_in")
STARTS_WITHIN_S = 300
TASK_WITHIN_S = 600


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        url: where it listens.
        log: file of all it wrote.
    """

    url: str
    log: Path

    def call(self, method: str, path: str, **request: Any) -> Any:
        """Make a request and return what it answers, JSON decoded; fail on any error."""
        import requests  # comes with MONAI Label

        answer = requests.request(method, self.url + path, timeout=120, **request)
        assert answer.status_code == 200, f"{answer.text}\n{self.log.read_text()[-3000:]}"
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.json() if is_json else answer.content

    def infer(self, model: str, image: str, **options: Any) -> bytes:
        """Return the file of the mask of an image, an id of the datastore or a path."""
        form = {"params": json.dumps(options)}
        params = {"image": image, "output": "image"}
        answer: bytes = self.call("POST", f"/infer/{model}", params=params, data=form)
        return answer

    def save_label(self, image: str, label: Path) -> None:
        """Save a person's label of an image."""
        with label.open("rb") as file:
            params, files = {"image": image}, {"label": (label.name, file)}
            self.call("PUT", "/datastore/label", params=params, files=files)

    def finish(self, task: str) -> None:
        """Wait for the last task of a kind ("train", "scoring") to end well."""
        until = time.monotonic() + TASK_WITHIN_S
        while (state := self.call("GET", f"/{task}/"))["status"] in ("SUBMITTED", "RUNNING"):
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.5)
        assert state["status"] == "DONE", self.log.read_text()[-6000:]


@contextmanager
def serving(command: Sequence[str], log: Path) -> Iterator[Server]:
    """Run a command that starts a server with ``--port`` appended; stop it at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}", log)
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=output, stderr=output, env=environment()
        )
    try:
        _wait_for(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def environment() -> dict[str, str]:
    """The environment of a server: that of the tests, with the stand-in only where it is needed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    env.pop("PYTHONPATH", None)
    probe = [sys.executable, "-c", "import torchvision"]
    if subprocess.run(probe, env=env, capture_output=True, check=False).returncode != 0:
        env["PYTHONPATH"] = str(STAND_IN)
    return env


def _wait_for(server: Server, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while True:
        assert process.poll() is None, server.log.read_text()[-3000:]
        assert time.monotonic() < until, server.log.read_text()[-3000:]
        try:
            with urlopen(f"{server.url}/info/", timeout=30):  # noqa: S310  # this machine's
                return
        except (URLError, ConnectionError):
            time.sleep(0.5)


def tiny_bundle(folder: Path, example: Example) -> Path:
    """Copy a bundle, with a tiny network of random weights and a training of two steps an epoch."""
    bundle = copy_bundle(folder / example.name, example)
    for name, settings in (
        # All pieces, so that there are small ones to drop.
        ("inference.yaml", {**example.network, "largest_component": False}),
        ("train.yaml", {k: v for k, v in example.tiny.items() if k != "max_epochs"}),
    ):
        file = bundle / "configs" / name
        parser = ConfigParser(ConfigParser.load_config_file(file))
        for key, value in settings.items():
            parser[key] = value
        ConfigParser.export_config_file(parser.config, str(file), fmt="yaml", sort_keys=False)
    save_random_network(bundle, bundle / "models" / "model.pt", seed=0)
    return bundle


def save_random_network(bundle: Path, path: Path, seed: int) -> None:
    """Write weights of the bundle's network."""
    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "inference.yaml"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = parser.get_parsed_content("network_def")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)


def make_studies(folder: Path, demo: Path) -> tuple[list[Path], dict[str, Path]]:
    """Lay images of the demo set out as studies: files in one folder, series below it.

    Returns:
        All of them, and the labels of some, by the name of the image.
    """
    lists = json.loads((demo / "datalist.json").read_text())
    folder.mkdir()
    labels = {}
    chosen = [*lists["labeled"][:3], *_one_a_domain(lists["unlabeled"])]
    for entry in chosen:
        image = demo / entry["image"]
        copy = shutil.copytree if image.is_dir() else shutil.copyfile
        copy(image, folder / image.name)
        if "label" in entry:
            labels[image.name] = demo / entry["label"]
    return sorted(path for path in folder.iterdir()), labels


def _one_a_domain(entries: list[dict[str, str]]) -> list[dict[str, str]]:
    return list({entry["domain"]: entry for entry in entries}.values())
