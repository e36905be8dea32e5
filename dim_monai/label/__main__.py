"""The command of ``make label``: serve a bundle to MONAI Label's clients, on this machine only.

python -m dim_monai.label --studies DIR [--bundle dim_prostate] [--port 8000]
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from dim_monai.bundle import resolve_dataset_dir
from dim_monai.errors import ConfigError, DimError
from dim_monai.label import serve
from dim_monai.shipped import find_bundle

logger = logging.getLogger("dim_monai.label")

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Check, make the app, and become the server; return an exit code only if it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = _parse()
    try:
        if not given.studies:
            raise ConfigError("no studies", do="make label STUDIES=DIR")
        studies = resolve_dataset_dir(given.studies)
        bundle = find_bundle(given.bundle)
        serve.require_torchvision()
        serve.require_servable(bundle)
    except DimError as error:
        logger.error("%s: %s", type(error).__name__, error)
        return 2
    app = serve.make_app(given.app or ROOT / "build" / "label", bundle)
    logger.info("MONAI Label: http://%s:%d serves %s", serve.HOST, given.port, studies)
    arguments = serve.server_arguments(app, studies, bundle.name)
    command = [sys.executable, "-m", "monailabel.main", *arguments, "--port", str(given.port)]
    os.execve(sys.executable, command, serve.server_environment())  # noqa: S606  # this very Python


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dim_monai.label", description=__doc__)
    parser.add_argument("--studies", required=True, help="folder of images; labels are kept there")
    parser.add_argument("--bundle", default="dim_prostate", help="name of a bundle, or its path")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--app", type=Path, help="folder of the app; build/label")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
