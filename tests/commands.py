"""Command lines in processes of their own, forked from one that has imported what takes seconds."""

import multiprocessing
import os
import runpy
import socket
import sys
from pathlib import Path

from ranks import IMPORTED, share_cores
from toy_data import ROOT


class Command:
    """A command that runs.

    Args:
        folder: Where it runs.
        program: A script, or the name of a module that is run as a script.
        *arguments: Its arguments.
        environment: Variables that it sees besides those here.
    """

    def __init__(
        self, folder: Path, program: str | Path, *arguments: object, environment: dict | None = None
    ) -> None:
        multiprocessing.set_forkserver_preload(IMPORTED)
        context = multiprocessing.get_context('forkserver')
        number = len(list(folder.glob('*.output')))
        self.words = [str(program), *map(str, arguments)]
        self._output = folder / f'{number}.output'
        self._output.touch()
        self._process = context.Process(
            target=_run, args=(folder, self.words, environment or {}, self._output)
        )
        self._process.start()

    def end(self) -> tuple[int, str]:
        """Waits for its end; returns the exit status, negative for a signal, and all it printed."""
        self._process.join(timeout=300)
        return self._process.exitcode, self._output.read_text(encoding='utf-8')


def run(folder: Path, program: str | Path, *arguments: object) -> str:
    """What a command prints that must succeed."""
    command = Command(folder, program, *arguments)
    status, output = command.end()
    assert status == 0, f'{" ".join(command.words)}\n{output[-4000:]}'
    return output


def ranks(folder: Path, program: str | Path, *arguments: object, count: int) -> list[str]:
    """What each of some processes prints that torchrun would start together."""
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        port = found.getsockname()[1]
    shared = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), WORLD_SIZE=str(count))
    started = [
        Command(
            folder,
            program,
            *arguments,
            environment={**shared, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
        )
        for rank in range(count)
    ]
    ended = [command.end() for command in started]
    assert [status for status, _ in ended] == [0] * count, ended[0][1][-4000:]
    return [output for _, output in ended]


def _run(folder: Path, words: list[str], environment: dict, output: Path) -> None:
    os.chdir(folder)
    os.environ.update(environment, CUDA_VISIBLE_DEVICES='')
    with output.open('w') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    share_cores()
    program, *arguments = words
    # The tests' own folder is not to be seen.
    here = str(Path(program).parent) if program.endswith('.py') else ''
    sys.path[:] = [here, *(path for path in sys.path if path not in ('', str(ROOT / 'tests')))]
    sys.argv[:] = [program, *arguments]
    run_program = runpy.run_path if program.endswith('.py') else runpy.run_module
    run_program(program, run_name='__main__')
