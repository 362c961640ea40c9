"""Ranking a gallery by every query: counting in chunks, and one matrix sorted in full.

The plain reference of the larger size takes 15 GB and about a minute. Where that much is not
free it ranks a tenth of the queries, its figures count ten times, and the rows say so.
"""

import ctypes
import time
from pathlib import Path

import torch
from common import Report, alternate, arguments
from plain import ranking

from sen_toolbox.evaluation.ranking import retrieval_metrics

SIZES = {'6,156 x 3,074': (6156, 3074, 1000), '19,848 x 19,848': (19848, 19848, 1000)}
DIM = 512
# Of the identity's direction in a feature: R1 is near 90, the worst right items rank far below.
SHARE = 0.17
# Of the reference for each score, with some to spare; 37 were measured.
BYTES_PER_SCORE = 40


def draw(num_queries: int, num_gallery: int, num_ids: int) -> list[torch.Tensor]:
    """Unit features around the directions of their identities, and the identities."""
    torch.manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(num_ids, DIM), dim=1)
    identities = [torch.arange(n) % num_ids for n in (num_queries, num_gallery)]
    features = [
        torch.nn.functional.normalize(
            SHARE**0.5 * centres[p] + (1 - SHARE) ** 0.5 * torch.randn(len(p), DIM) / DIM**0.5,
            dim=1,
        )
        for p in identities
    ]
    return [*features, *identities]


def peak_above(action) -> float | None:
    """MB that the process needs at most beyond what it holds now; None where Linux hides it."""
    status, reset = Path('/proc/self/status'), Path('/proc/self/clear_refs')

    def read(key: str) -> int:
        lines = status.read_text().splitlines()
        return int(next(line for line in lines if line.startswith(key)).split()[1])

    try:
        # Memory that earlier work freed and the C library holds would hide what this one needs.
        ctypes.CDLL('libc.so.6').malloc_trim(0)
        reset.write_text('5')
    except OSError:
        action()
        return None
    before = read('VmRSS')
    action()
    return (read('VmHWM') - before) / 1024


def is_free(size: int) -> bool:
    """Whether the machine has as many bytes of memory left; not where Linux does not say."""
    path = Path('/proc/meminfo')
    lines = path.read_text().splitlines() if path.exists() else []
    free = next((line for line in lines if line.startswith('MemAvailable')), 'MemAvailable 0')
    return int(free.split()[1]) * 1024 > size


def main() -> None:
    args = arguments(__doc__, repeats=3)
    report = Report('ranking, text-to-image, CPU')
    for name, size in SIZES.items():
        queries, gallery, query_ids, gallery_ids = draw(*size)
        whole = is_free(BYTES_PER_SCORE * len(queries) * len(gallery))
        part = len(queries) if whole else len(queries) // 10
        few = (queries[:part], gallery, query_ids[:part], gallery_ids)
        theirs = {}
        started = time.process_time()
        peak_plain = peak_above(lambda few=few, theirs=theirs: theirs.update(ranking(*few)))
        plain = (time.process_time() - started) * len(queries) / part
        ours = retrieval_metrics(*few)
        # The reference sums in float32.
        difference = max(abs(ours[key] - theirs[key]) for key in theirs)
        report.check(f'{name}: all measures, percent (R1 {ours["R1"]:.1f})', difference, 1e-3)

        def count(chosen=(queries, gallery, query_ids, gallery_ids)) -> None:
            retrieval_metrics(*chosen)

        def product(chosen=(queries, gallery)) -> None:
            rows = 2**21 // len(chosen[1])
            for some in chosen[0].split(rows):
                some @ chosen[1].T

        peak = peak_above(count)
        counted, product_alone = alternate(args.repeats, count, product)
        scaled = '' if whole else ' (reference scaled from a tenth of the queries)'
        goal = '6x' if len(queries) < 10_000 else '12x'
        report.add(f'{name}{scaled}', counted, plain, 'CPU s', goal=goal)
        report.add(
            f'{name}, against the matrix product alone',
            counted,
            product_alone,
            'CPU s',
            goal='0.67x',
        )
        if peak is not None:
            peak_plain *= len(queries) / part
            report.add(f'{name}, peak memory{scaled}', peak, peak_plain, 'MB', goal='under 200 MB')
    report.finish(args.json)


if __name__ == '__main__':
    main()
