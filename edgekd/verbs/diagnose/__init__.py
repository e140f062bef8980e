"""Which layers of an int8 file lose accuracy, which do not run in int8, and what to do about it."""

from edgekd.verbs.diagnose.diagnosis import Diagnosis, LayerDiagnosis, diagnose

__all__ = ["Diagnosis", "LayerDiagnosis", "diagnose"]
