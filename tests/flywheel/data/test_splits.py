"""Sides depend on content and labels alone, and an image never changes its side."""

import hashlib
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.data.descriptors import DESCRIPTOR_LENGTH, DESCRIPTOR_SCALE
from flywheel.data.index import DESCRIPTOR
from flywheel.data.splits import LEFT_OUT, SplitError, assign_sides, draw, elsewhere, left_out
from flywheel.records import Side
from flywheel.settings import DataParameters

ALL = DataParameters(subset=None)


def identity(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def shape(number: int, noise: float = 0.0) -> bytes:
    """A random descriptor: those of two numbers are far apart; noise makes a near one of the same number."""
    values = np.random.default_rng(number).normal(size=DESCRIPTOR_LENGTH)
    values += noise * np.random.default_rng(number + 10**6).normal(size=DESCRIPTOR_LENGTH)
    return np.rint(values / np.linalg.norm(values) * DESCRIPTOR_SCALE).astype("<i2").tobytes()


def images(numbers: range, labels: str = "ab", split: str = "") -> pd.DataFrame:
    rows = [
        {
            "path": f"{split}/{labels[number % len(labels)]}/{number:05d}.png",
            "split": split,
            "label": labels[number % len(labels)],
            "image_id": identity(number),
            DESCRIPTOR: shape(number),
        }
        for number in numbers
    ]
    return pd.DataFrame(rows)


def sides(assigned: pd.DataFrame) -> dict[str, str]:
    kept = assigned[assigned["why"] == ""]
    return dict(zip(kept["image_id"], kept["side"].map(str), strict=True))


def counts(assigned: pd.DataFrame) -> dict[str, int]:
    return {str(side): int(count) for side, count in pd.Series(sides(assigned)).value_counts().items()}


def test_a_draw_is_the_hash_and_nothing_else() -> None:
    expected = int.from_bytes(hashlib.sha256(b"salt:id").digest()[:8], "big") / 2**64
    assert draw("salt", ["id"]).tolist() == [expected]
    assert draw("salt", []).tolist() == []


def test_shares_without_a_test_split() -> None:
    found = counts(assign_sides(images(range(4000)), ALL))
    assert found["frozen"] == pytest.approx(800, abs=80)
    assert found["reference"] == pytest.approx(320, abs=60)
    assert found["validation"] == pytest.approx(160, abs=45)
    assert sum(found.values()) == 4000


def test_a_test_split_is_the_frozen_side_and_only_it() -> None:
    frame = pd.concat([images(range(1000), split="train"), images(range(1000, 1200), split="test")])
    found = sides(assign_sides(frame, ALL))
    assert {image for image, side in found.items() if side == "frozen"} == {identity(n) for n in range(1000, 1200)}
    assert pd.Series(found).value_counts()["reference"] == pytest.approx(100, abs=35)


def test_a_validation_split_is_the_validation_side_and_only_it() -> None:
    frame = pd.concat([images(range(1000), split="train"), images(range(1000, 1100), split="val")])
    found = sides(assign_sides(frame, ALL))
    assert {image for image, side in found.items() if side == "validation"} == {identity(n) for n in range(1000, 1100)}
    assert "frozen" in found.values()


@settings(max_examples=15, deadline=None)
@given(st.integers(200, 500), st.integers(1, 300), st.integers(0, 10**6))
def test_an_image_never_changes_side_when_others_are_added(first: int, more: int, seed: int) -> None:
    before = sides(assign_sides(images(range(first)), ALL))
    grown = images(range(first + more)).sample(frac=1, random_state=seed)
    after = sides(assign_sides(grown, DataParameters(subset=first // 4)))
    for image, side in before.items():
        assert after[image] == side or (side, after[image]) == ("train", "unused")


def test_order_and_index_of_the_rows_do_not_matter() -> None:
    frame = images(range(500))
    shuffled = frame.sample(frac=1, random_state=3).set_index(np.arange(500) * 7)
    parameters = DataParameters(subset=100)
    pd.testing.assert_frame_equal(assign_sides(frame, parameters), assign_sides(shuffled, parameters))


def test_file_names_do_not_matter() -> None:
    frame = images(range(500))
    renamed = frame.assign(path=[f"{identity(n + 9)}.jpg" for n in range(500)])
    assert sides(assign_sides(frame, ALL)) == sides(assign_sides(renamed, ALL))


def test_a_subset_is_balanced_and_moves_only_between_train_and_unused() -> None:
    frame = images(range(1500), labels="aab")  # twice as many a as b
    whole, part = sides(assign_sides(frame, ALL)), assign_sides(frame, DataParameters(subset=101))
    train = part[part["side"] == Side.TRAIN]
    assert train["label"].value_counts().to_dict() == {"a": 50, "b": 51}
    for image, side in sides(part).items():
        assert side == whole[image] or (whole[image], side) == ("train", "unused")


def test_what_a_small_class_can_not_give_the_others_give() -> None:
    frame = images(range(1200), labels="a" * 15 + "b")
    part = assign_sides(frame, DataParameters(subset=400))
    train = part[part["side"] == Side.TRAIN]["label"].value_counts()
    assert train.sum() == 400
    assert "b" not in part[part["side"] == Side.UNUSED]["label"].to_list()


def test_a_larger_subset_holds_the_smaller_one_and_another_seed_another() -> None:
    frame = images(range(800))

    def train(**parameters: int) -> set[str]:
        assigned = assign_sides(frame, DataParameters(**parameters))
        return {image for image, side in sides(assigned).items() if side == "train"}

    assert train(subset=50) < train(subset=80)
    assert train(subset=50, subset_seed=1) != train(subset=50)


def test_an_image_added_moves_few_others_out_of_the_subset() -> None:
    parameters = DataParameters(subset=100)
    before, after = (sides(assign_sides(images(range(count)), parameters)) for count in (600, 606))
    moved = [image for image in before if before[image] != after[image]]
    assert len(moved) <= 6


def test_an_image_under_two_labels_is_left_out_under_both() -> None:
    frame = pd.concat([images(range(300)), images(range(1), labels="b").assign(path="other.png")])
    assigned = assign_sides(frame, ALL)
    gone = left_out(assigned)
    assert gone["image_id"].tolist() == [identity(0)] * 2
    assert gone["why"].unique().tolist() == ["the same image has other labels too"]
    assert identity(0) not in sides(assigned)


def test_of_exact_copies_the_lowest_path_stays() -> None:
    copies = images(range(300)).assign(path=lambda rows: "A" + rows["path"])
    assigned = assign_sides(pd.concat([images(range(300)), copies]), ALL)
    kept = assigned[assigned["why"] == ""]
    assert len(kept) == 300
    assert kept["path"].str.startswith("/").all(), "'/' sorts before 'A'"
    assert left_out(assigned)["why"].str.startswith("an exact copy of an image on the").all()


def test_a_training_image_copied_into_the_test_split_is_left_out_of_training() -> None:
    frame = pd.concat([images(range(500), split="train"), images(range(400, 600), split="test")])
    assigned = assign_sides(frame, ALL)
    gone = left_out(assigned)
    assert list(gone.columns) == list(LEFT_OUT)
    assert gone["path"].tolist() == sorted(f"train/{'ab'[n % 2]}/{n:05d}.png" for n in range(400, 500))
    assert gone["why"].unique().tolist() == ["an exact copy of an image on the frozen side"]
    assert (gone["of"] == gone["image_id"]).all()
    assert all(sides(assigned)[identity(n)] == "frozen" for n in range(400, 600))


def test_of_near_duplicates_the_side_of_higher_precedence_stays() -> None:
    frame = images(range(600))
    before = sides(assign_sides(frame, ALL))
    near = images(range(600)).assign(
        image_id=[identity(n + 10_000) for n in range(600)],
        path=[f"near{n:05d}.png" for n in range(600)],
        **{DESCRIPTOR: [shape(n, noise=0.1) for n in range(600)]},
    )
    assigned = assign_sides(pd.concat([frame, near]), ALL)
    rank = {"frozen": 0, "reference": 1, "validation": 2, "train": 3}
    every = dict(zip(assigned["image_id"], assigned["side"].map(str), strict=True))
    found = sides(assigned)
    for number in range(600):
        one, other = identity(number), identity(number + 10_000)
        assert every[one] == before[one]
        if every[one] == every[other]:
            assert {one, other} <= found.keys(), "near duplicates within a side stay"
        else:
            high, low = sorted((one, other), key=lambda image: rank[every[image]])
            assert high in found
            assert low not in found
    gone = left_out(assigned).set_index("path")
    assert gone["why"].str.match("a near duplicate of an image on the (frozen|reference|validation) side").all()
    assert gone["of"].isin(found).all()


def test_a_class_without_a_frozen_image_is_named_with_what_it_needs() -> None:
    frame = pd.concat([images(range(300)), images(range(300, 301), labels="c")])
    with pytest.raises(SplitError) as refusal:
        assign_sides(frame, ALL)
    assert str(refusal.value) == (
        "class 'c': at least one image on the frozen side expected, none of its 1 is. Add 21 more images of 'c', no "
        "copies: sides are drawn by hash, and in 99 of 100 cases these bring each side what it lacks."
    )


def test_a_class_missing_from_the_test_split_is_named() -> None:
    frame = pd.concat([images(range(300), split="train"), images(range(300, 340), labels="a", split="test")])
    with pytest.raises(SplitError, match=r"class 'b': .* the frozen side .* one image of 'b' .* into the test split"):
        assign_sides(frame, ALL)


def test_a_subset_smaller_than_the_classes_is_refused() -> None:
    with pytest.raises(SplitError, match=r"on the train side.*SUBSET=2 is too few: 4 classes need as many images"):
        assign_sides(images(range(600), labels="abcd"), DataParameters(subset=2))
    assert counts(assign_sides(images(range(600), labels="abcd"), DataParameters(subset=4)))["train"] == 4


def test_a_handful_of_images_is_refused_in_words() -> None:
    with pytest.raises(SplitError, match="at least one image"):
        assign_sides(images(range(6)), ALL)


def test_many_classes_without_images_are_counted() -> None:
    frame = images(range(40), labels="abcdefghijklmnopqrst")
    with pytest.raises(SplitError, match=r"So it is with \d+ more classes or sides\..* and \d+ more classes"):
        assign_sides(frame, ALL)


def test_the_validation_side_may_be_empty() -> None:
    starts = range(0, 36 * 60, 36)
    made = [
        counts(found) for start in starts if (found := outcome(images(range(start, start + 36), "abc"))) is not None
    ]
    without = [found for found in made if "validation" not in found]
    assert without
    assert all(min(found[side] for side in ("train", "reference", "frozen")) >= 1 for found in without)


def outcome(frame: pd.DataFrame) -> pd.DataFrame | None:
    try:
        return assign_sides(frame, ALL)
    except SplitError:
        return None


def test_the_images_that_a_refusal_asks_for_are_enough_in_99_of_100_cases() -> None:
    refused, mended = 0, 0
    for start in range(0, 150 * 400, 400):
        frame = images(range(start, start + 24), labels="abc")
        try:
            assign_sides(frame, ALL)
        except SplitError as refusal:
            refused += 1
            more = wanted(str(refusal), "abc")
            added = [
                images(range(start + 100 * (1 + place), start + 100 * (1 + place) + count), labels=label)
                for place, (label, count) in enumerate(more.items())
            ]
            mended += outcome(pd.concat([frame, *added])) is not None
    assert refused > 50
    assert mended / refused >= 0.97


def wanted(message: str, classes: str) -> dict[str, int]:
    """How many more images of each class the message asks for; those of any class are shared out."""
    more = dict.fromkeys(classes, 0)
    for number, labels in re.findall(r"(\d+) more images of (?:each of )?((?:'\w'(?:, )?)+)", message):
        more |= dict.fromkeys(re.findall(r"\w", labels), int(number))
    for number in re.findall(r"(\d+) more images of any class", message):
        for place in range(int(number)):
            more[classes[place % len(classes)]] += 1
    assert sum(more.values()), message
    return {label: count for label, count in more.items() if count}


def test_an_image_keeps_its_side_when_a_test_split_is_added() -> None:
    plain = assign_sides(images(range(400)), ALL)
    earlier = dict(zip(plain["image_id"], plain["side"], strict=True))
    grown = pd.concat([images(range(400), split="train"), images(range(400, 440), split="test")])
    with_memory, without = assign_sides(grown, ALL, earlier), assign_sides(grown, ALL)
    after = dict(zip(with_memory["image_id"], with_memory["side"], strict=True))
    assert {name: after[name] for name in earlier} == earlier
    assert {after[identity(number)] for number in range(400, 440)} == {Side.FROZEN}
    forgotten = dict(zip(without["image_id"], without["side"], strict=True))
    assert any(earlier[name] == Side.FROZEN != forgotten[name] for name in earlier), "no memory, no proof"


def test_images_of_the_own_test_split_that_kept_another_side_are_named() -> None:
    plain = assign_sides(images(range(400)), ALL)
    earlier = dict(zip(plain["image_id"], plain["side"], strict=True))
    moved = images(range(400))
    moved.loc[[3, 5, 7], "split"] = "test"
    moved.loc[9, "split"] = "val"
    grown = pd.concat([moved, images(range(400, 440), split="test")])
    listed = elsewhere(assign_sides(grown, ALL, earlier))
    meant = {identity(3): Side.FROZEN, identity(5): Side.FROZEN, identity(7): Side.FROZEN, identity(9): Side.VALIDATION}
    expected = {name: str(earlier[name]) for name, side in meant.items() if earlier[name] != side}
    assert len(expected) > 1, "some of them were learned from"
    assert dict(zip(listed["image_id"], listed["side"].map(str), strict=True)) == expected
    assert listed["path"].is_monotonic_increasing
    assert elsewhere(assign_sides(grown, ALL)).empty, "without an earlier version each stands where it was put"
