"""Run in ease.ml/ci's own environment: the labels that its public estimator asks for, a case a line of JSON."""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

CONDITION = "n - o > 0.02 +/- 0.01"


def labels(calculator: type, reliability: float, steps: int, adaptivity: str) -> int:
    """As from a project's .easeml.yml; what it prints on the way is dropped."""
    lines = [
        "ml:",
        "- script : ./evaluate_model.py",
        f"- condition : {CONDITION}",
        f"- reliability: {reliability}",
        "- mode : fp-free",
        f"- adaptivity : {adaptivity}",
        f"- steps : {steps}",
        "- data_mode : local",
        "- email: nobody@example.org",
    ]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file = Path(folder) / ".easeml.yml"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return int(calculator(str(file)).calculate_n())


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    from easeml_cicd.core.utils import SampleCalculator

    cases = json.load(sys.stdin)
    print(json.dumps([labels(SampleCalculator, *case) for case in cases]))


if __name__ == "__main__":
    main()
