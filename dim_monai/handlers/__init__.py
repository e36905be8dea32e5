"""What a config hangs on the engine: Ignite handlers, one purpose each."""

from dim_monai.handlers.case_scores import CaseScores
from dim_monai.handlers.f_divergence import FDivergence
from dim_monai.handlers.gradient_shares import GradientShares
from dim_monai.handlers.keep_networks import KeepNetworks
from dim_monai.handlers.load_model import LoadModel
from dim_monai.handlers.pseudo_label_quality import PseudoLabelQuality
from dim_monai.handlers.run_checkpoint import RunCheckpoint
from dim_monai.handlers.sharpness_aware import SharpnessAware
from dim_monai.handlers.teacher_ema import TeacherEMA
from dim_monai.handlers.training_log import TrainingLog
from dim_monai.handlers.validation import DeployBest, ValidationHandler

__all__ = [
    "CaseScores",
    "DeployBest",
    "FDivergence",
    "GradientShares",
    "KeepNetworks",
    "LoadModel",
    "PseudoLabelQuality",
    "RunCheckpoint",
    "SharpnessAware",
    "TeacherEMA",
    "TrainingLog",
    "ValidationHandler",
]
