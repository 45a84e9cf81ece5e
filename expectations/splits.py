"""The suite on a finished dataset version: does it hold what was promised, and does no side know another?

Everything here that concerns labels, ids and leaks tolerates no row at all: the version was made by us, out of what the
index's suite had let through, so a single fault is a fault of the machine.
"""

from typing import TYPE_CHECKING

from expectations.context import Suite, critical, only, warning
from expectations.images import LARGEST_SIDE, SMALLEST_RATIO, SMALLEST_SIDE, known_modes, visible
from flywheel.records import Side

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

NAME = "splits"
KINDS = {
    "image_id": "text",
    "label": "text",
    "side": "text",
    "path": "text",
    "split": "text",
    "width": "number",
    "height": "number",
    "mode": "text",
    "bytes": "number",
    "brightness": "number",
    "contrast": "number",
    "saturation": "number",
    "sharpness": "number",
    "red": "number",
    "green": "number",
    "blue": "number",
}
SIDES = [side.value for side in Side]
NEEDED_SIDES = (Side.TRAIN, Side.FROZEN)  # without a class here it can't be learned, or can't be judged
USEFUL_SIDES = (Side.VALIDATION, Side.REFERENCE)
NEXT = {
    Side.VALIDATION: "Add images of these classes: the best epoch is chosen by this side. Where it is empty, the "
    "last epoch's weights are kept."
}
REBUILD = "Remove this version's folder under data/processed and run again; if it comes back, please report it."


def splits_suite(classes: tuple[str, ...], counts: dict[str, int]) -> Suite:
    """The suite for a version with this class list and, by its manifest, these counts of images by side."""
    return Suite(
        NAME,
        (
            *_table(counts),
            *_present(),
            *_labels(classes),
            *_copies(),
            *_sides(classes),
            *_sizes(),
            known_modes(),
            *visible(),
        ),
    )


def _table(counts: dict[str, int]) -> list["Expectation"]:
    import great_expectations.expectations as gxe

    from expectations.custom import ExpectColumnKinds, ExpectValueCounts

    total = sum(counts.values())
    rows = "The version has as many images as its manifest says"
    return [
        gxe.ExpectTableRowCountToBeBetween(
            min_value=max(total, 1), max_value=max(total, 1), **critical("rows", rows, REBUILD)
        ),
        ExpectColumnKinds(
            kinds=KINDS, **critical("schema", "The version has its columns, each with its type", REBUILD)
        ),
        ExpectValueCounts(
            column="side",
            counts={side: count for side, count in counts.items() if count},
            **critical("side_counts", "Each side has as many images as the manifest says", REBUILD),
        ),
    ]


def _present() -> list["Expectation"]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToNotBeNull(
            column=column, **critical(f"{column}_present", f"Every image has its {column}", REBUILD)
        )
        for column in KINDS
    ]


def _labels(classes: tuple[str, ...]) -> list["Expectation"]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeInSet(
            column="label",
            value_set=list(classes),
            **critical("known_label", "Every label is in the version's class list", REBUILD),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="side", value_set=SIDES, **critical("known_side", "Every side is one of the six", REBUILD)
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="conflicting",
            value_set=[False],
            **critical("one_label", "No image has two different labels", REBUILD),
        ),
    ]


def _copies() -> list["Expectation"]:
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeInSet(
            column="repeated", value_set=[False], **critical("no_copies", "Every image is there once", REBUILD)
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="leaks",
            value_set=[False],
            **critical("leakage", "No image has an exact or near copy on another side", REBUILD),
        ),
    ]


def _sides(classes: tuple[str, ...]) -> list["Expectation"]:
    """Every class on every side that is used, and a training side that is not lopsided."""
    from expectations.custom import ExpectClassBalance, ExpectEveryClass

    declared = list(classes)
    add = "Add images of these classes to the source, or remove the classes."
    found: list[Expectation] = [
        ExpectEveryClass(
            column="label",
            classes=declared,
            **only(f"side == {side.value!r}"),
            **(critical if side in NEEDED_SIDES else warning)(
                f"every_class_{side.value}", f"Every class has images on the {side.value} side", NEXT.get(side, add)
            ),
        )
        for side in (*NEEDED_SIDES, *USEFUL_SIDES)
    ]
    even = f"On the train side the smallest class has at least {SMALLEST_RATIO:.0%} of the largest one's images"
    found.append(
        ExpectClassBalance(
            column="label",
            classes=declared,
            min_ratio=SMALLEST_RATIO,
            **only(f"side == {Side.TRAIN.value!r}"),
            **warning("balance", even, "Add images of the small classes; top-1 will favour the large ones."),
        )
    )
    return found


def _sizes() -> list["Expectation"]:
    import great_expectations.expectations as gxe

    size = f"is between {SMALLEST_SIDE} and {LARGEST_SIDE:,} pixels"
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column=column,
            min_value=SMALLEST_SIDE,
            max_value=LARGEST_SIDE,
            **critical(f"{column}_range", f"The original's {column} {size}", REBUILD),
        )
        for column in ("width", "height")
    ]
