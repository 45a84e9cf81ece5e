"""The suite on the index: can these files become a dataset at all?

Row-level expectations take rows out (undecodable, unlabelled, contradicting …); table-level ones stop the run or warn.
Every map expectation skips nulls and passes on an empty table, so the columns that they read have a not-null
expectation, and the table a row count.
"""

from typing import TYPE_CHECKING

from expectations.context import Suite, critical, only, row_level, warning
from flywheel.settings import DataParameters

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

NAME = "images"

KINDS = {
    "path": "text",
    "split": "text",
    "label": "text",
    "image_id": "text",
    "width": "number",
    "height": "number",
    "mode": "text",
    "bytes": "number",
    "decode_ok": "flag",
    "brightness": "number",
    "contrast": "number",
    "saturation": "number",
    "sharpness": "number",
    "red": "number",
    "green": "number",
    "blue": "number",
}
MEASURED = tuple(name for name in KINDS if name not in {"path", "split", "label", "decode_ok"})
SMALLEST_SIDE, LARGEST_SIDE = 4, 20_000  # pixels; below, nothing can be seen; above, it is a scan or a bomb
KNOWN_MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "F"]
KNOWN_MODES += ["I;16", "I;16B", "I;16L", "I;16N"]
DARKEST, BRIGHTEST = 0.005, 0.995  # mean luma, 0 is black, 1 is white; real photographs reach 0.99
LEAST_CONTRAST = 0.01  # standard deviation of luma; a blank image has 0
FEWEST_IMAGES = 20  # a class; with fewer, no recall can be told from another
SMALLEST_RATIO = 0.1  # smallest class to largest
DECODED = "decode_ok == True"
USABLE = "decode_ok == True and conflicting == False"  # what can stand in a version: a class needs some of these
JUDGING_SPLITS = ("train", "test")  # a class must be in both: else it cannot be learned, or cannot be judged
REBUILD = "Remove the index under data/interim, so that it is built again."


def images_suite(classes: tuple[str, ...], splits: tuple[str, ...], parameters: DataParameters) -> Suite:
    """The suite for an index with these declared classes and splits; a source without splits has none or one."""
    expectations = [
        *_table(classes),
        *_labels(classes, parameters.largest_quarantine_share),
        *_files(parameters.largest_quarantine_share),
        *_measurements(parameters.largest_quarantine_share),
        *_sizes(parameters.largest_quarantine_share),
        known_modes(DECODED),
        *visible(),
        *_copies(),
    ]
    if len(splits) > 1:
        expectations += [one for split in splits for one in _split(split, classes, parameters.largest_leak_share)]
    return Suite(NAME, tuple(expectations))


def _table(classes: tuple[str, ...]) -> list["Expectation"]:
    import great_expectations.expectations as gxe

    from expectations.custom import ExpectClassBalance, ExpectColumnKinds, ExpectEveryClass

    declared = list(classes)
    form = "Check that the source has the form <split>/<class>/<image> or <class>/<image>."
    two = "Give each class a folder of its own; a classifier needs two."
    present = "Add images of these classes that can be decoded, or remove their folders."
    few = f"Every class has at least {FEWEST_IMAGES} usable images"
    even = f"The smallest class has at least {SMALLEST_RATIO:.0%} of the largest one's images"
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=1, **critical("rows", "The source has images", form)),
        ExpectColumnKinds(kinds=KINDS, **critical("schema", "The index has its columns, each with its type", REBUILD)),
        gxe.ExpectColumnUniqueValueCountToBeBetween(
            column="label", min_value=2, **critical("two_classes", "There are at least two classes", two)
        ),
        ExpectEveryClass(
            column="label",
            classes=declared,
            **only(USABLE),
            **critical("every_class", "Every declared class has usable images", present),
        ),
        ExpectEveryClass(
            column="label",
            classes=declared,
            min_images=FEWEST_IMAGES,
            **only(USABLE),
            **warning("enough_images", few, "Add images of these classes: figures of so few mean little."),
        ),
        ExpectClassBalance(
            column="label",
            classes=declared,
            min_ratio=SMALLEST_RATIO,
            **only(USABLE),
            **warning("balance", even, "Add images of the small classes; top-1 will favour the large ones."),
        ),
    ]


def _labels(classes: tuple[str, ...], share: float) -> list["Expectation"]:
    import great_expectations.expectations as gxe

    move = "Move these files into the folder of their class."
    decide = "Decide which label is right, and remove the other copies."
    return [
        gxe.ExpectColumnValuesToNotBeNull(
            column="label", **row_level("label_present", "Every image has a label", move, share)
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="label",
            value_set=list(classes),
            **row_level("known_label", "Every label is a declared class", move, share),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="conflicting",
            value_set=[False],
            **row_level("one_label", "No image has two different labels", decide, share),
        ),
    ]


def _files(share: float) -> list["Expectation"]:
    import great_expectations.expectations as gxe

    replace = "Replace or remove these files; data/interim/quarantine has the reason of each."
    identified = [
        gxe.ExpectColumnValuesToNotBeNull(
            column=column, **row_level(f"{column}_present", f"Every row has its {column}", REBUILD, share)
        )
        for column in ("path", "split", "decode_ok")
    ]
    decodable = gxe.ExpectColumnValuesToBeInSet(
        column="decode_ok",
        value_set=[True],
        **row_level("decodable", "Every image can be decoded", replace, share),
    )
    return [*identified, decodable]


def _measurements(share: float) -> list["Expectation"]:
    """What is not known of a file that does not decode is no second fault, so only decoded rows count."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToNotBeNull(
            column=column,
            **only(DECODED),
            **row_level(f"{column}_present", f"Every decoded image has its {column}", REBUILD, share),
        )
        for column in MEASURED
    ]


def _sizes(share: float) -> list["Expectation"]:
    import great_expectations.expectations as gxe

    size = f"is between {SMALLEST_SIDE} and {LARGEST_SIDE:,} pixels"
    replace = "Replace or remove these files: their size is not plausible."
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column=column,
            min_value=SMALLEST_SIDE,
            max_value=LARGEST_SIDE,
            **only(DECODED),
            **row_level(f"{column}_range", f"The {column} {size}", replace, share),
        )
        for column in ("width", "height")
    ]


def known_modes(condition: str = "") -> "Expectation":
    import great_expectations.expectations as gxe

    modes = "Pixels are stored in a known mode (RGB, grayscale, palette, CMYK …)"
    look = "Look at how these files decode; save them as RGB where it is wrong."
    return gxe.ExpectColumnValuesToBeInSet(
        column="mode", value_set=KNOWN_MODES, **(only(condition) if condition else {}), **warning("mode", modes, look)
    )


def visible() -> list["Expectation"]:
    """No image is black, white or blank: warnings, for an index and a version alike."""
    import great_expectations.expectations as gxe

    bright = f"Mean brightness is between {DARKEST} (0 is black) and {BRIGHTEST} (1 is white)"
    blank = f"No image is blank: contrast is at least {LEAST_CONTRAST}"
    look = "Look at these files: they may be failed exports."
    return [
        gxe.ExpectColumnValuesToBeBetween(
            column="brightness", min_value=DARKEST, max_value=BRIGHTEST, **warning("brightness", bright, look)
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="contrast", min_value=LEAST_CONTRAST, **warning("contrast", blank, look)
        ),
    ]


def _copies() -> list["Expectation"]:
    import great_expectations.expectations as gxe

    leaves = "Nothing, if you wish: of each such pair the training-side copy is left out of the dataset version."
    return [
        gxe.ExpectColumnValuesToBeInSet(
            column="repeated",
            value_set=[False],
            **warning(
                "no_copies", "No image is there twice", "Remove the copies; a dataset version keeps one of each."
            ),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="leaks",
            value_set=[False],
            **warning("leakage", "No image has an exact or near copy on another split", leaves),
        ),
    ]


def _split(split: str, classes: tuple[str, ...], largest_leak_share: float) -> list["Expectation"]:
    """What holds for one of several splits."""
    import great_expectations.expectations as gxe

    from expectations.custom import ExpectEveryClass

    severity = critical if split in JUDGING_SPLITS else warning
    here = f"split == {split!r}"
    every = f"Every class has usable images in split {split}"
    add = f"Add images of these classes to split {split}, or remove the classes from the other splits."
    most = f"At most {largest_leak_share:.0%} of split {split} has a copy on another split"
    again = "Split the images again, so that no image or near copy of it stands on two sides."
    return [
        ExpectEveryClass(
            column="label",
            classes=list(classes),
            **only(f"{here} and {USABLE}"),
            **severity(f"every_class_{split}", every, add),
        ),
        gxe.ExpectColumnValuesToBeInSet(
            column="leaks",
            value_set=[False],
            mostly=1 - largest_leak_share,
            **only(here),
            **critical(f"leakage_{split}", most, again),
        ),
    ]
