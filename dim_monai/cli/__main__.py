"""``python -m dim_monai.cli`` is ``dim-monai``."""

from __future__ import annotations

from dim_monai.cli import app

if __name__ == "__main__":
    app(prog_name="dim-monai")
