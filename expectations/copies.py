"""Copies of images, as flags that expectations read: `repeated`, `conflicting`, `leaks`.

Copies are found elsewhere: exact ones by image id (the hash of the pixels), near ones by the project's only detector,
`flywheel.data.duplicates`.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def near_pairs(descriptors: NDArray[np.int16], groups: NDArray[np.object_]) -> NDArray[np.int64]:
    """int64[M, 2]: row positions of the near duplicates of int16[N, 63] that stand in different groups.

    Each group is compared with those after it, so nothing is compared twice, and nothing within a group.
    """
    from flywheel.data.duplicates import near_duplicates

    found = [np.zeros((0, 2), np.int64)]
    names = sorted({str(name) for name in groups})
    for rank, name in enumerate(names):
        here, later = np.flatnonzero(groups == name), np.flatnonzero(np.isin(groups, names[rank + 1 :]))
        pairs = near_duplicates(descriptors[here], descriptors[later])
        found.append(np.stack([here[pairs.first], later[pairs.second]], axis=1))
    return np.concatenate(found)


def with_copy_flags(
    table: pd.DataFrame, groups: NDArray[np.object_], near: NDArray[np.int64] | None = None
) -> pd.DataFrame:
    """The table, rows numbered from 0, with three more columns, bool each.

    `table` has `image_id` and `label`; `groups` says for each row what must not leak into another (split or side);
    `near` is int64[M, 2] from `near_pairs`. `repeated`: an earlier row is the same image. `conflicting`: some row is
    the same image with another label. `leaks`: a row of another group is the same image, or a near duplicate. A row
    without an id is a copy of nothing.
    """
    rows = table.reset_index(drop=True)
    known = rows[rows["image_id"].notna()].assign(group=groups[rows["image_id"].notna()])
    copies = known[known["image_id"].duplicated(keep=False)]
    flags = pd.DataFrame(False, index=rows.index, columns=["repeated", "conflicting", "leaks"])
    flags.loc[copies.index, "repeated"] = copies["image_id"].duplicated()
    flags.loc[copies.index, "conflicting"] = copies.groupby("image_id")["label"].transform("nunique") > 1
    flags.loc[copies.index, "leaks"] = copies.groupby("image_id")["group"].transform("nunique") > 1
    if near is not None:
        flags.loc[np.unique(near), "leaks"] = True
    return pd.concat([rows, flags], axis=1)
