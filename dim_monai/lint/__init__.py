"""The static check of a bundle: what it would do is read, and nothing of it is done."""

from __future__ import annotations

from dim_monai.lint.bundle import Linted, lint_bundle
from dim_monai.lint.codes import CODES
from dim_monai.lint.faults import Fault

__all__ = ["CODES", "Fault", "Linted", "lint_bundle"]
