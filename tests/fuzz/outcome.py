"""What looking at a sample may come to: a value, or one line that names the file."""

import traceback
from collections.abc import Callable, Collection
from typing import Any

from sen_toolbox.messages import error_line

# A line of a terminal holds less, and no reader more.
LONGEST = 6000


class FindingError(AssertionError):
    """A bar was missed."""


def require(condition: object, what: str) -> None:
    """Raises FindingError if a condition does not hold."""
    if not condition:
        raise FindingError(what)


def attempt(
    use: Callable[[], Any],
    names: Collection[str],
    kinds: tuple[type[Exception], ...] = (ValueError, OSError),
) -> tuple[Any, str | None]:
    """What a function returns, or the line with which it refuses.

    Args:
        use: Looks at a sample.
        names: One of these stands in the refusal.
        kinds: What a refusal is, as documented.

    Raises:
        FindingError: If it raises anything else, or the refusal is not one line with a name.
    """
    try:
        return use(), None
    except kinds as error:
        check_line(error_line(error) if isinstance(error, KeyError) else str(error), names)
        return None, error_line(error)
    except Exception as error:
        raise FindingError(f'raised {type(error).__name__}\n{traceback.format_exc()}') from error


def check_line(text: str, names: Collection[str]) -> None:
    """Checks that a refusal is one printable line of sensible length with the name of its file.

    Raises:
        FindingError: If it is not.
    """
    require(text.isprintable(), f'a message of several lines or with control characters: {text!r}')
    require(len(text) <= LONGEST, f'a message of {len(text)} characters: {text!r:.300}')
    require('weights_only' not in text, f'advises to turn the safety off: {text}')
    require(any(name in text for name in names), f'a message without {list(names)}: {text}')
