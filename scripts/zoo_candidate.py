"""A bundle that may go to the MONAI model zoo, and what the checks of it share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from dim_monai.data.demo import make_demo

NETWORK = "network_def"
"""The id by which the zoo knows a network."""


@dataclass(frozen=True)
class Candidate:
    """A bundle, and what its checks share.

    Attributes:
        folder: the bundle.
        scratch: an empty folder for what the checks write.
        schema: MONAI's schema of metadata; where it is not, MONAI downloads it to.
        demo: where demo sets are, or are made.
    """

    folder: Path
    scratch: Path
    schema: Path
    demo: Path

    def config(self, name: str) -> str:
        """Return the path of a file of ``configs``."""
        return str(self.folder / "configs" / name)

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The content of ``configs/metadata.json``."""
        read: dict[str, Any] = json.loads(Path(self.config("metadata.json")).read_text("utf-8"))
        return read

    @cached_property
    def large_files(self) -> list[dict[str, str]]:
        """The entries of ``large_files.yml``, or of the same as .yaml or .json."""
        found = sorted(self.folder.glob("large_files.*"))
        listed: list[dict[str, str]] = []
        for file in found:
            listed += ConfigParser.load_config_file(file)["large_files"]
        return listed

    @cached_property
    def weights(self) -> Path:
        """The bundle's weights; those of an untrained network where it has none."""
        own = self.folder / "models" / "model.pt"
        if own.is_file():
            return own
        parser = ConfigParser()
        parser.read_config(self.config("inference.yaml"))
        untrained = self.scratch / "untrained.pt"
        torch.save(parser.get_parsed_content(NETWORK).state_dict(), untrained)
        return untrained

    @cached_property
    def cases(self) -> dict[str, list[dict[str, str]]]:
        """The first case of each list of the demo set."""
        kind = ConfigParser.load_config_file(self.config("train.yaml")).get("case_kind", "volume")
        demo = make_demo(self.demo / f"demo_{kind}", kind=kind)
        lists = json.loads((demo / "datalist.json").read_text("utf-8"))
        first = {name: dict(entries[0]) for name, entries in lists.items()}
        for entry in first.values():
            entry |= {key: str(demo / entry[key]) for key in ("image", "label") if key in entry}
        return {name: [entry] for name, entry in first.items()}
