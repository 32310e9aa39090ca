"""Images without information: all dark, all bright, of one color, extremely blurred, odd shapes.

The definitions follow cleanvision (Apache-2.0, github.com/cleanlab/cleanvision): percentiles of the
perceived brightness, edges at a small size, quartiles of the sizes. It is not called itself: it
loads files in its own way and in processes, needs pandas and matplotlib, knows no boxes, and of
COCO images blurred by 4 or 15 % of a side (standard deviation) it finds 38 and 25 %, because it
looks at edges without the contrast; relative to the contrast they find 97 and 100 %.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..pictures.measures import FileMeasures

DARK, BRIGHT, ONE_COLOR, BLURRED = "dark", "bright", "uniform color", "blurred"
ODD_SIZE, ODD_ASPECT = "unusual size", "unusual aspect ratio"

# The brightest hundredth of a dark image is darker than this and the darkest hundredth of a
# bright one brighter. Of 628 images of Caltech-101 and COCO the darkest reaches 0.30, and the
# brightest, a drawing on white, has 0.55.
DARK_BELOW, BRIGHT_ABOVE = 0.25, 0.85

# Channels of an image of one color differ by less across the image. The least of the images
# above is 0.35.
ONE_COLOR_BELOW = 0.12

# The least sharpness of the images above is 0.44; blurred by 4 % of the shorter side (standard
# deviation of the Gaussian), 0.11 at the median, by 2 %, 0.28. A pyramid in a sandstorm has 0.25.
BLURRED_BELOW = 0.22

# A size or aspect ratio is odd when it lies farther than three times the distance between the
# quartiles from them (as in cleanvision), and by at least a factor of two.
QUARTILE_DISTANCES, SMALLEST_FACTOR = 3.0, 2.0

# Quartiles and shares of fewer images say nothing.
FEWEST_IMAGES = 10

# What holds for more of the images than this is how the set was made: enlarged, at night, …
COMMON_SHARE = 0.2


@dataclass(frozen=True)
class Uninformative:
    """Which images or objects hold no information, in their order.

    Attributes:
        reasons: why it is without information (DARK, BRIGHT, ONE_COLOR, BLURRED, ODD_SIZE or
            ODD_ASPECT, the first that holds), or None; None, too, where it could not be measured
        common: what was found in more than COMMON_SHARE of the images, and so is no reason
    """

    reasons: list[str | None]
    common: tuple[str, ...]


def find_uninformative(measures: FileMeasures) -> Uninformative:
    """Finds images, or objects in images, that hold no information.

    Args:
        measures: of n images or objects. Sizes and shapes of objects vary by nature and are not
            evaluated
    """
    reasons = _reasons(measures)
    num_measured = int(measures.measured.sum())
    common = tuple(
        reason
        for reason, count in Counter(filter(None, reasons)).most_common()
        if num_measured >= FEWEST_IMAGES and count > COMMON_SHARE * num_measured
    )
    reasons = [None if reason in common else reason for reason in reasons]
    whole = np.flatnonzero(measures.whole & measures.measured)
    if len(whole) >= FEWEST_IMAGES:
        width = measures.width[whole].astype(float)
        height = measures.height[whole].astype(float)
        for reason, odd in (
            (ODD_ASPECT, _is_odd(np.log(width / height))),
            (ODD_SIZE, _is_odd(np.log(width * height) / 2)),
        ):
            for row in whole[odd].tolist():
                reasons[row] = reasons[row] or reason
    return Uninformative(reasons, common)


def _reasons(measures: FileMeasures) -> list[str | None]:
    """The first reason of each that its own pixels give; NaN gives none."""
    found = np.select(
        [
            measures.brightest < DARK_BELOW,
            measures.darkest > BRIGHT_ABOVE,
            measures.color_range < ONE_COLOR_BELOW,
            measures.sharpness < BLURRED_BELOW,
        ],
        [0, 1, 2, 3],
        -1,
    )
    names = (DARK, BRIGHT, ONE_COLOR, BLURRED, None)
    return [names[number] for number in found.tolist()]


def _is_odd(logarithms: np.ndarray) -> np.ndarray:
    """Which values lie far outside the quartiles: (n,) logarithms to (n,) bool."""
    low, high = np.quantile(logarithms, [0.25, 0.75])
    reach = max(QUARTILE_DISTANCES * (high - low), np.log(SMALLEST_FACTOR))
    return (logarithms < low - reach) | (logarithms > high + reach)
