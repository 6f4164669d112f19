"""The share of tokens to predict: one number, or one that changes from the first step to the last."""

import math

from nemo.utils.errors import UsageError

SEPARATOR = ":"
FALLING_MASK_RATE = "0.3:0.15"
"""Better than 0.15 from scratch (2026-11-30_recipes) and from a pretrained model (2026-11-30_adapt_proof)."""
OPTION = "--mask_probability"


def parse_mask_rate(text: str, where: str = OPTION) -> float | str:
    """From a command line: "0.15" is a number, "0.3:0.15" stays as it is, numbers in their shortest form.

    Raises:
        UsageError: something else, or a share that is not between 0 and 1; `where` names its place.
    """
    first, last = mask_rates(text, where)
    return f"{first}{SEPARATOR}{last}" if SEPARATOR in text else first


def mask_rates(value: float | str, where: str = OPTION) -> tuple[float, float]:
    """The shares at the first step and at the last; a single number is both.

    Raises:
        UsageError: see `parse_mask_rate`.
    """
    words = str(value).split(SEPARATOR)
    try:
        rates = [float(word) for word in words]
    except ValueError:
        rates = []
    if len(rates) not in (1, 2):
        raise UsageError(
            "not a share of tokens",
            where=where,
            found=repr(value),
            expected=f"a number such as 0.15, or two for the first and the last step: {FALLING_MASK_RATE}",
        )
    for rate in rates:
        if not (math.isfinite(rate) and 0 < rate < 1):
            raise UsageError(
                "out of range",
                where=where,
                found=value,
                expected="more than 0 and less than 1",
            )
    return rates[0], rates[-1]
