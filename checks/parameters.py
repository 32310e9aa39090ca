"""Parameters that several checks have, checked in one place."""

from ..errors import UserError


def checked_threshold(threshold: str | float) -> float | None:
    """The number that a threshold stands for, None for ``"auto"``.

    Raises:
        UserError: if it is neither "auto" nor a number between 0 and 1
    """
    if threshold == "auto":
        return None
    try:
        number = float(threshold)
    except ValueError:
        number = -1.0
    if not 0 < number < 1:
        raise UserError(f'threshold={threshold!r} must be "auto" or a number between 0 and 1')
    return number
