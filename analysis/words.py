"""Numbers as people read them: accuracies in percent, differences in points."""

from collections.abc import Iterable

import numpy as np

NOTHING = "–"


def percent(value: float, decimals: int = 2) -> str:
    """An accuracy or a share, without its sign: 0.93451 is `93.45`."""
    return NOTHING if np.isnan(value) else f"{100 * value:.{decimals}f}".replace("-", "−")


def spread(mean: float, deviation: float, decimals: int = 2) -> str:
    """Mean ± standard deviation in percent; the mean alone where one seed has no deviation."""
    return percent(mean, decimals) if np.isnan(deviation) else f"{percent(mean, decimals)} ± {percent(deviation, decimals)}"


def span(low: float, high: float, decimals: int = 2) -> str:
    """An interval in percent."""
    return NOTHING if np.isnan(low) else f"{percent(low, decimals)} to {percent(high, decimals)}"


def points(value: float) -> str:
    """A difference of accuracies in percentage points, signed, with three digits.

    >>> points(0.0123), points(-0.305)
    ('+1.23', '−30.5')
    """
    return NOTHING if np.isnan(value) else f"{100 * value:+.{2 if abs(value) < 0.0995 else 1}f}".replace("-", "−")


def point_span(low: float, high: float) -> str:
    """An interval of a difference, in points."""
    return NOTHING if np.isnan(low) else f"{points(low)} to {points(high)}"


def p_value(value: float) -> str:
    """A p-value to three decimals."""
    return NOTHING if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def count(value: float) -> str:
    """A whole number with thousands separated."""
    return NOTHING if np.isnan(value) else f"{value:,.0f}"


def amount(value: float) -> str:
    """A cost, from 10,000 on with three digits.

    >>> amount(1140), amount(25_688), amount(1_174_000), amount(999_999)
    ('1,140', '25.7 k', '1.17 M', '1.00 M')
    """
    if not value >= 10_000:
        return count(value)
    power, rounded = 0, float(f"{value:.2e}")
    while rounded >= 1000:
        power, rounded = power + 1, rounded / 1000
    return f"{rounded:#.3g}".rstrip(".") + f" {'kMGTPE'[power - 1]}"


def share(value: float) -> str:
    """A cost as a part of another, in whole percents."""
    return NOTHING if np.isnan(value) else f"{100 * value:.0f} %"


def seconds(value: float) -> str:
    """A duration in seconds, to three digits."""
    return NOTHING if np.isnan(value) else (f"{value:,.0f}" if value >= 100 else f"{value:.3g}")


def probability(value: float) -> str:
    """A probability that 2,000 draws know to about one percent."""
    if np.isnan(value):
        return NOTHING
    return "< 0.01" if value < 0.01 else "> 0.99" if value > 0.99 else f"{value:.2f}"


def joined(words: Iterable[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`; or with another word before the last."""
    words = list(words)
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
