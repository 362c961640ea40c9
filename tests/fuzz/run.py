"""Looks at one sample after the other, each in a folder of its own, and counts."""

import logging
import os
import random
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .outcome import FindingError
from .watch import Watch

# No sample takes longer, on a machine that has other work too.
CASE_SECONDS = 30
MAX_FINDINGS = 20


class Target(Protocol):
    """One way into the toolbox.

    Attributes:
        samples: Folder with what the target itself has made; cases may read it.
        hostile: Hand-made samples by what they are.
        addresses: What its cases connect to.
    """

    samples: Path
    hostile: Mapping[str, Any]
    addresses: tuple

    def mutant(self, rng: random.Random) -> Any:
        """A valid sample with a few changes."""

    def check(self, sample: Any, folder: Path) -> bool:
        """Looks at a sample in every way, in a folder of its own; whether it was refused.

        Raises:
            FindingError: If a bar is missed.
        """


@dataclass
class Result:
    """Cases that were looked at, those that were refused, seconds, and what was found."""

    cases: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    findings: list[str] = field(default_factory=list)


class TooSlowError(BaseException):
    """A case takes too long; not an Exception, so that nobody takes it for a bad sample."""


class _Errors(logging.Handler):
    """Keeps what is logged as an error, or with a traceback."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.found.append(self.format(record))


def run(
    make: Callable[[Path], Target],
    folder: Path,
    *,
    seed: int,
    seconds: float = float('inf'),
    cases: int = sys.maxsize,
    first: int = 0,
    tell: Callable[[str], object] = lambda finding: None,
) -> Result:
    """Looks at the hostile samples of a target and then at mutants.

    Args:
        make: Makes the target, with its samples in a folder.
        folder: An empty folder.
        seed: Decides every mutant, with its number.
        seconds: When to end.
        cases: How many to look at.
        first: Number of the first one.
        tell: Called with each finding at once, since a case may end the process.
    """
    outside = folder / 'outside'
    watch, result = Watch(outside), Result()
    (folder / 'samples').mkdir()
    target = make(folder / 'samples')
    hostile = list(target.hostile.items())
    logged, before = _Errors(), os.getcwd()
    logging.getLogger().addHandler(logged)
    os.chdir(outside)
    sys.path.insert(0, '')
    began = time.monotonic()
    try:
        for number in range(first, first + cases):
            start = time.monotonic()
            if start - began > seconds or len(result.findings) >= MAX_FINDINGS:
                break
            (folder / 'number').write_text(str(number))
            rng = random.Random(f'{seed}/{number}')
            name, sample = (
                hostile[number] if number < len(hostile) else ('mutant', target.mutant(rng))
            )
            fault = _one(target, sample, folder / 'case', watch, logged, result)
            result.cases += 1
            result.slowest = max(result.slowest, time.monotonic() - start)
            if fault:
                result.findings.append(f'case {number} ({name}): {fault}')
                tell(result.findings[-1])
    finally:
        logging.getLogger().removeHandler(logged)
        sys.path.remove('')
        os.chdir(before)
        result.seconds = time.monotonic() - began
        watch.close()
        if hasattr(target, 'close'):
            target.close()
    return result


def _one(
    target: Target, sample: Any, case: Path, watch: Watch, logged: _Errors, result: Result
) -> str:
    """What is wrong with how a sample was looked at; empty if nothing is."""
    shutil.rmtree(case, ignore_errors=True)
    case.mkdir()
    logged.found.clear()
    fault = ''
    watched = watch.watching(case, readable=[target.samples], addresses=target.addresses)
    with watched as done, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            with _time_limit(CASE_SECONDS):
                result.refused += target.check(sample, case)
        except FindingError as finding:
            fault = str(finding)
        except TooSlowError:
            fault = f'takes more than {CASE_SECONDS} s\n{traceback.format_exc()}'
        except Exception:
            fault = traceback.format_exc()
    return '\n'.join(filter(None, [fault, *done, *logged.found]))


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def end(*_: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
