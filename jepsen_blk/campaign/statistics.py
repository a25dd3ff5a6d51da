"""How much a share of runs says: the 95 % confidence interval of the probability behind it.

A cell of which 20 runs passed is not safe with certainty, and whoever reads a comparison has to see by how
much. The intervals:

- Wilson's score interval (E. B. Wilson, "Probable inference, the law of succession, and statistical
  inference", Journal of the American Statistical Association 22, 1927), with p = count / n:

      (p + z^2 / 2n  +-  z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

- at zero the rule of three (J. A. Hanley and A. Lippman-Hand, "If nothing goes wrong, is everything all
  right?", Journal of the American Medical Association 249, 1983): at most 3 / n, since (1 - 3 / n)^n is
  about e^-3, 5 %. It is one-sided, as the question is: how often could it fail that was never seen to?
"""

from __future__ import annotations

from math import sqrt

from jepsen_blk.campaign.summary import Share

_Z = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution: 2.5 % are left out at either end."""


def share(count: int, of: int) -> Share:
    """Return `count` of `of` with its interval, which is 0 to 1 where there is nothing to count."""
    if of == 0:
        return Share(0, 0, 0.0, 1.0)
    if count == 0:
        return Share(0, of, 0.0, min(1.0, 3 / of))
    low, high = wilson(count, of)
    return Share(count, of, low, high)


def wilson(count: int, of: int) -> tuple[float, float]:
    """Return Wilson's interval at 95 %; `of` is not 0."""
    p, z2 = count / of, _Z * _Z
    middle = p + z2 / (2 * of)
    reach = _Z * sqrt(p * (1 - p) / of + z2 / (4 * of * of))
    scale = 1 + z2 / of
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)
