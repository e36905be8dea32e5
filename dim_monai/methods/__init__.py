"""Methods: how a batch becomes the views that the student must explain, one file each."""

from dim_monai.methods.base import Batch, Method, Stream, Teacher
from dim_monai.methods.mean_teacher import MeanTeacher
from dim_monai.methods.midss import MiDSS
from dim_monai.methods.supervised import Supervised

__all__ = ["Batch", "MeanTeacher", "Method", "MiDSS", "Stream", "Supervised", "Teacher"]
