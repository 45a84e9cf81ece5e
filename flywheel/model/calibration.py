"""Temperature: the one number that makes a model's confidence believable without changing an answer.

Logits are divided by it (Guo et al. 2017, "On Calibration of Modern Neural Networks"). It is fitted on the reference
side, which neither trains nor judges, by the likelihood of the labels under a normal prior on its logarithm, so that
a handful of images that are all right can't make a model arbitrarily sure.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

PRIOR_DEVIATION = 0.5  # of the logarithm: from 0.37 to 2.7 costs little to reach; more asks for many images
WIDEST_LOG = 3.0


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The likeliest temperature for logits float32[N, C] and labels int64[N]; 1 where there is no image."""
    if not len(labels):
        return 1.0
    wide = logits.astype(np.float64)
    true = wide[np.arange(len(labels)), labels]

    def cost(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        surprise = logsumexp(wide * inverse, axis=1) - true * inverse
        return float(surprise.sum() + log_temperature**2 / (2 * PRIOR_DEVIATION**2))

    found = minimize_scalar(cost, bounds=(-WIDEST_LOG, WIDEST_LOG), method="bounded", options={"xatol": 1e-6})
    # rounded, so that the last bits of a sum do not make two machines differ
    return round(float(np.exp(found.x)), 4)
