"""Run in frouros' own environment: its Kolmogorov-Smirnov detector on every feature of every window, with Bonferroni's
correction over the features. Reads `reference` [R, F] and `windows` [W, N, F] from an .npz; prints W smallest p-values,
corrected, as JSON."""

import json
import sys

import numpy as np
from frouros.detectors.data_drift import KSTest

with np.load(sys.argv[1], allow_pickle=False) as given:
    reference, windows = given["reference"], given["windows"]
detectors = []
for feature in reference.T:
    detector = KSTest()
    detector.fit(X=feature)
    detectors.append(detector)
found = []
for window in windows:
    p = [each.compare(X=feature)[0].p_value for each, feature in zip(detectors, window.T, strict=True)]
    found.append(min(1.0, float(min(p)) * len(p)))
json.dump(found, sys.stdout)
