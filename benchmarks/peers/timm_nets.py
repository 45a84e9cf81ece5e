"""flywheel's own nets for timm's `train.py`, which imports this module when it is told so."""

from flywheel.model.architecture import register

register()
