"""What the benchmarks share: timing in turns, equality checks, and a table."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from prettytable import PrettyTable


def arguments(description: str, **defaults: int | bool) -> argparse.Namespace:
    """Command line of a benchmark: its own numbers and switches, and ``--json``."""
    parser = argparse.ArgumentParser(description=description)
    for name, value in defaults.items():
        kind = dict(action='store_true') if value is False else dict(type=type(value))
        parser.add_argument(f'--{name.replace("_", "-")}', default=value, **kind)
    parser.add_argument('--json', type=Path, help='where to write the rows too')
    return parser.parse_args()


def alternate(
    repeats: int, *actions: Callable[[], Any], clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Median seconds of each action, taken in turn, since a shared machine changes its speed.

    CPU time of the process by default: what other programs take does not count.
    """
    times = [[] for _ in actions]
    for _ in range(repeats):
        for action, taken in zip(actions, times, strict=True):
            started = clock()
            action()
            taken.append(clock() - started)
    return [statistics.median(taken) for taken in times]


def distance(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Relative Euclidean distance of two tensors."""
    ours, reference = ours.double(), reference.double()
    return ((ours - reference).norm() / reference.norm()).item()


class Report:
    """Rows of ours, a plain reference and their ratio, and checks that both compute the same."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.rows = []
        self.failed = []

    def add(
        self, what: str, ours: float, reference: float | None, unit: str, *, goal: str = ''
    ) -> None:
        """One figure of ours, where less is better, and the reference's; None if not measured."""
        ratio = None if reference is None else reference / ours
        self.rows.append(
            dict(what=what, unit=unit, ours=ours, reference=reference, ratio=ratio, goal=goal)
        )
        print(f'{what}: {shown(ours)} {unit}, reference {shown(reference)}', flush=True)

    def check(self, what: str, difference: float, limit: float) -> None:
        """Prints a difference of results; above the limit the benchmark fails."""
        fine = difference <= limit
        print(
            f'equal: {what}: differs by {difference:.1e}, allowed {limit:.0e}'
            f'{"" if fine else "  FAILED"}',
            flush=True,
        )
        if not fine:
            self.failed.append(what)

    def finish(self, json_path: Path | None = None) -> None:
        """Prints the table; exits with status 1 if results were not equal."""
        table = PrettyTable(['', 'unit', 'ours', 'reference', 'ratio', 'goal'])
        table.align[''] = 'l'
        for row in self.rows:
            cells = [cell if isinstance(cell, str) else shown(cell) for cell in row.values()]
            table.add_row(cells)
        print(f'{self.title}\n{table}')
        if json_path:
            content = dict(title=self.title, rows=self.rows, failed=self.failed)
            json_path.write_text(json.dumps(content))
        if self.failed:
            raise SystemExit(1)


def shown(value: float | None) -> str:
    """Three digits, or a dash."""
    if value is None:
        return '-'
    return f'{value:.0f}' if value >= 1000 else f'{value:.3g}'
