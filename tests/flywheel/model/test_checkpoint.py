"""Killed by `kill -9` anywhere, run again: the same weights, to the bit."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from flywheel.model.checkpoint import (
    find_checkpoints,
    generator_states,
    keep_only,
    load_checkpoint,
    restore_generators,
    save_checkpoint,
)

ROOT = Path(__file__).resolve().parents[3]

# One process imports torch; every training is a fork of it, so that ten of them cost seconds.
KILLED_RUNS = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import numpy as np
from flywheel.identity import digest_of_file
from flywheel.model.architecture import create
from flywheel.model.preprocessing import measure_preprocessing
from flywheel.model.training import fit
from flywheel.settings import Recipe
import timm.data, timm.loss, timm.optim, timm.utils

root = Path(sys.argv[1])
COUNT, TRAINED = 240, 192
rng = np.random.default_rng(0)
labels = np.arange(COUNT, dtype=np.int64) % 4
images = (rng.integers(0, 200, (COUNT, 8, 8, 3)) + 10 * labels[:, None, None, None]).astype(np.uint8)
recipes = {
    "muon": Recipe(epochs=3, batch_size=16, shift=1),
    "everything": Recipe(epochs=3, batch_size=16, shift=1, cutout=2, mixup=0.2, cutmix=1.0, ema=0.95, optimizer="adamw",
        learning_rate=0.005, schedule="cosine"),
}

def train(recipe, folder, stage):
    def stop(reached, seen=[]):
        seen.append(reached)
        if stage == f"{reached} {seen.count(reached)}":
            os.kill(os.getpid(), signal.SIGKILL)
    train, validation = np.arange(TRAINED), np.arange(TRAINED, COUNT)
    fit(images, labels, train, validation, tuple("abcd"), recipe, "cpu", folder, lambda event: None,
        preprocessing=measure_preprocessing(images, train, "box"), on_checkpoint=stop)

def run(recipe, folder, stage="", seconds=None):
    pid = os.fork()
    if not pid:
        try:
            train(recipe, folder, stage)
        except BaseException:
            import traceback; traceback.print_exc(); os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

chance = random.Random(int(sys.argv[2]))
result = {}
for name, recipe in recipes.items():
    began = time.monotonic()
    assert run(recipe, root / name / "whole") == 0
    whole = time.monotonic() - began
    kills = []
    for stage in ("weights 1", "state 1", "manifest 1", "renamed 1"):
        kills.append(run(recipe, root / name / "stages", stage=stage))
    # two kills at random times; a run that was through before its kill came is none, so it begins anew, killed sooner
    timed, longest = [], 0.8 * whole
    while len(timed) < 2:
        code = run(recipe, root / name / "times", seconds=chance.uniform(0.25, 1.0) * longest)
        if code == 0:
            shutil.rmtree(root / name / "times")
            timed, longest = [], 0.7 * longest
        else:
            timed.append(code)
    kills += timed
    assert run(recipe, root / name / "times") == 0
    assert run(recipe, root / name / "stages") == 0
    hashes = [digest_of_file(root / name / how / "weights.safetensors") for how in ("whole", "stages", "times")]
    result[name] = {"hashes": hashes, "kills": kills}
print(json.dumps(result))
"""


def test_killed_at_any_moment_a_run_ends_with_the_same_bits(tmp_path):
    seed = random.randrange(2**31)
    print(f"kills from seed {seed}")
    done = subprocess.run(
        [sys.executable, "-c", KILLED_RUNS, str(tmp_path), str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for found in json.loads(done.stdout.splitlines()[-1]).values():
        assert len(set(found["hashes"])) == 1
        assert len(found["kills"]) == 6
        assert set(found["kills"]) == {-9}


def save(root, epoch, value=1.0, **extra):
    return save_checkpoint(root, epoch, {"w": torch.full((2,), value)}, {"step": epoch, **extra})


def test_weights_and_state_come_back_under_weights_only(tmp_path):
    saved = save(tmp_path, 1, generators=generator_states())
    weights, state = load_checkpoint(saved, torch.device("cpu"))
    assert weights["w"].tolist() == [1.0, 1.0]
    assert state["step"] == 1


def test_generators_go_on_where_they_were(tmp_path):
    _, state = load_checkpoint(save(tmp_path, 1, generators=generator_states()), torch.device("cpu"))
    drawn = torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]
    restore_generators(state["generators"])
    assert drawn == (torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)])


def test_a_broken_checkpoint_is_passed_over_and_leftovers_are_swept(tmp_path):
    save(tmp_path, 1)
    broken = save(tmp_path, 2)
    (broken.folder / "state.pt").write_bytes(b"half")
    (tmp_path / ".writing-00003").mkdir()
    assert [checkpoint.epoch for checkpoint in find_checkpoints(tmp_path)] == [1]
    assert not (tmp_path / ".writing-00003").exists()
    assert save(tmp_path, 2, value=3.0).weights.exists()
    assert [checkpoint.epoch for checkpoint in find_checkpoints(tmp_path)] == [1, 2]


def test_only_the_epochs_asked_for_are_kept(tmp_path):
    for epoch in (1, 2, 3):
        save(tmp_path, epoch)
    keep_only(tmp_path, {1, 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00001", "epoch-00003"]
