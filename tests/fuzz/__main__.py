"""Damages files and requests without end and checks that nothing runs, leaks, is lost or wrong.

Each target is looked at in a process of its own: first hand-made hostile samples, then valid ones
with random changes, for as long as asked. A finding tells its number, which --first looks at again.
"""

import argparse
import faulthandler
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]
# Bytes of a file that a case writes, and of memory beyond what is used at the start.
LARGEST_FILE, LARGEST_MEMORY = 2**31, 8 * 2**30


def parse_args() -> argparse.Namespace:
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    from .targets import TARGETS

    parser = argparse.ArgumentParser(
        prog='python -m tests.fuzz',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--only', nargs='+', choices=TARGETS, default=list(TARGETS))
    parser.add_argument('--seconds', type=float, default=60, help='for each target')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--first', type=int, default=0, help='number of the first case')
    parser.add_argument('--cases', type=int, default=sys.maxsize, help='at most, of each target')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    return parser.parse_args()


def look(args: argparse.Namespace) -> int:
    """Runs one target in this process; returns the number of findings."""
    from .run import run
    from .targets import TARGETS

    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    [name] = args.only
    options = dict(seed=args.seed, seconds=args.seconds, cases=args.cases, first=args.first)

    def tell(finding: str) -> None:
        print(f'FINDING {name} {finding}\n', flush=True)

    result = run(TARGETS[name](), Path(args.child), tell=tell, **options)
    print(
        f'{name}: {result.cases} cases in {result.seconds:.0f} s, {result.refused} refused, '
        f'slowest {result.slowest:.1f} s, {len(result.findings)} findings'
    )
    return len(result.findings)


def main() -> None:
    args = parse_args()
    if args.child:
        sys.exit(bool(look(args)))
    failed = []
    for name in args.only:
        with tempfile.TemporaryDirectory(prefix='fuzz') as folder:
            command = [sys.executable, '-W', 'ignore', '-m', 'tests.fuzz', '--only', name]
            command += ['--child', folder]
            for option in ('seconds', 'seed', 'first', 'cases'):
                command += [f'--{option}', str(getattr(args, option))]
            child = subprocess.run(command, cwd=TESTS.parent)
            if child.returncode:
                failed.append(name)
            if child.returncode not in (0, 1):
                number = (Path(folder) / 'number').read_text()
                print(f'FINDING {name} case {number}: the process ended with {child.returncode}')
    sys.exit(f'findings in {", ".join(failed)}' if failed else 0)


if __name__ == '__main__':
    main()
