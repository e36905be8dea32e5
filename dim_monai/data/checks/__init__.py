"""The checks before the first step: every case is opened once, and every fault is reported.

An image and its label must be readable, stand on one grid, and hold what their list promises. The
checks write nothing; they take about as long as reading the files.
"""

from __future__ import annotations

from dim_monai.data.checks.case import CaseFacts
from dim_monai.data.checks.codes import CODES
from dim_monai.data.checks.dataset import check_dataset
from dim_monai.data.checks.detect import detect_kind
from dim_monai.data.checks.faults import Fault
from dim_monai.data.checks.gate import check_cases, require_sound
from dim_monai.data.checks.result import Checked

__all__ = [
    "CODES",
    "CaseFacts",
    "Checked",
    "Fault",
    "check_cases",
    "check_dataset",
    "detect_kind",
    "require_sound",
]
