import numpy as np
import pandas as pd

from expectations.copies import near_pairs, with_copy_flags
from flywheel.data.descriptors import descriptors


def flags(ids, labels, groups, near=None):
    table = pd.DataFrame({"image_id": ids, "label": labels})
    flagged = with_copy_flags(table, np.array(groups, object), near)
    return {name: list(np.flatnonzero(flagged[name])) for name in ("repeated", "conflicting", "leaks")}


def test_different_images_have_no_flag():
    found = flags(["a", "b"], ["cat", "cat"], ["train", "test"])
    assert found == {"repeated": [], "conflicting": [], "leaks": []}


def test_a_copy_within_a_group_is_only_repeated():
    assert flags(["a", "b", "a"], ["cat"] * 3, ["train"] * 3) == {"repeated": [2], "conflicting": [], "leaks": []}


def test_one_image_under_two_labels_conflicts_in_all_its_rows():
    found = flags(["a", "a", "a", "b"], ["cat", "dog", "cat", "dog"], ["train"] * 4)
    assert found == {"repeated": [1, 2], "conflicting": [0, 1, 2], "leaks": []}


def test_a_copy_in_another_group_leaks_in_both_rows():
    assert flags(["a", "b", "a"], ["cat"] * 3, ["train", "train", "test"])["leaks"] == [0, 2]


def test_a_near_pair_leaks():
    assert flags(["a", "b", "c"], ["cat"] * 3, ["train", "test", "test"], np.array([[0, 2]]))["leaks"] == [0, 2]


def test_images_without_an_id_are_copies_of_nothing():
    found = flags([None, None, "a"], ["cat", "dog", "cat"], ["train", "test", "test"])
    assert found == {"repeated": [], "conflicting": [], "leaks": []}


def test_near_duplicates_are_sought_between_groups_only():
    noise = np.random.default_rng(0).integers(0, 200, (3, 16, 16, 3), dtype=np.uint8)
    brighter = noise[:1] + np.uint8(20)
    images = np.concatenate([noise, brighter, brighter])  # 3 and 4 are near copies of 0
    found = near_pairs(descriptors(images), np.array(["test", "test", "train", "train", "test"], object))
    assert sorted(tuple(sorted(pair)) for pair in found.tolist()) == [(0, 3), (3, 4)]
