"""Checkpoints, through every entrance that is cheap: reading, starting from, going on from."""

import copy
import random
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.runner.checkpoint import save_checkpoint
from test_hostile_checkpoints import NO_CHECKPOINTS, OTHER_VALUES, STATE, Evaluates, Harm, model
from test_resume import NOT_RESUMABLE, resumable, small_training

from sen_toolbox.checkpoint.finding import find_newest_checkpoint, resumable_meta
from sen_toolbox.checkpoint.keys import check_keys
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.checkpoint.resuming import check_fits_training
from sen_toolbox.checkpoint.tensor_file import pack_tensors
from sen_toolbox.models.pretrained import load_weights, read_weights
from sen_toolbox.models.weights import read_tower

from .mutations import STRANGE, altered, mangled
from .outcome import FindingError, attempt, require

OBJECTS = [
    Harm(), Evaluates(), torch.ones(3), torch.zeros(1).expand(10**9), torch.ones(2).to('meta'),
    torch.ones(2).to_sparse(), torch.full((4, 3), float('nan')), b'bytes', (1, 2), 1j, {1: 2},
    range(3), slice(3), set(), torch.float32, torch.device('cpu'), torch.Size([2]),
]  # fmt: skip


class File(NamedTuple):
    """What is written as it is, in the place of what torch would write."""

    name: str
    content: bytes


class Checkpoints:
    addresses = ()

    def __init__(self, samples: Path) -> None:
        self.samples = samples
        saved, self._training = small_training()
        self._whole = saved | dict(state_dict=STATE)
        save_checkpoint(self._whole, str(samples / 'a.pth'))
        torch.save(self._whole, samples / 'old.pth', _use_new_zipfile_serialization=False)
        (samples / 'a.safetensors').write_bytes(pack_tensors(STATE, dict(name='a')))
        self._bytes = {p.name: p.read_bytes() for p in sorted(samples.iterdir())}
        kinds = {**NO_CHECKPOINTS, **OTHER_VALUES, **NOT_RESUMABLE}
        kinds['a command to resume'] = resumable(
            meta=dict(epoch=1, iter=10, config="open('harmed', 'w').close()")
        )
        self.hostile = {name: (content, False) for name, content in kinds.items()}

    def mutant(self, rng: random.Random) -> tuple[Any, bool]:
        """A file, or something to save; whether all that can be read of it is as before."""
        if rng.random() < 0.6:
            name = rng.choice(list(self._bytes))
            content = mangled(rng, self._bytes[name], list(self._bytes.values()))
            # What torch wrote before version 1.6 has no sums.
            # Without its digest a file is one of others.
            has_sums = name == 'a.pth' or b'"sha256"' in content
            return File(name, content), has_sums
        return altered(rng, self._whole, [*STRANGE, *OBJECTS]), False

    def check(self, sample: tuple[Any, bool], folder: Path) -> bool:
        content, is_same = sample
        path = folder / 'epoch_2.pth'
        if isinstance(content, File):
            path = folder / f'epoch_2{Path(content.name).suffix}'
            path.write_bytes(content.content)
        else:
            try:
                torch.save(content, path)
            except Exception:  # nothing that torch writes, hence nothing that anybody has
                return False
        lines = [self._weights(path, is_same), *self._starting(path)]
        if path.suffix == '.pth':
            lines += self._going_on(path, folder)
        return any(lines)

    def _weights(self, path: Path, is_same: bool) -> str | None:
        found, line = attempt(lambda: load_checkpoint_file(str(path)), [str(path)])
        if line is not None:
            return line
        state = found.get('state_dict')
        _, line = attempt(lambda: check_keys(model(), state or {}, path), [str(path)])
        if is_same and line is None:
            require(_equal(state, STATE), 'damaged weights are taken for whole')
        if line is None:
            built = model()
            built.load_state_dict(state)
            require(all(v.isfinite().all() for v in built.state_dict().values()), 'not finite')
        return line

    def _starting(self, path: Path) -> list[str | None]:
        def start() -> None:
            load_weights(model(), read_weights(path, 'image')[0], path)

        return [
            attempt(use, [str(path)])[1]
            for use in (start, lambda: read_tower(path, 'image'), lambda: read_tower(path, 'text'))
        ]

    def _going_on(self, path: Path, folder: Path) -> list[str | None]:
        older = folder / 'epoch_1.pth'
        torch.save(resumable(meta=dict(epoch=1, iter=5)), older)
        _, line = attempt(lambda: resumable_meta(path), [str(path)])
        # Never an error, since there is an older one.
        found, _ = find_newest_checkpoint(folder)
        if line is not None:
            require(found == older, f'goes on from {found}, which is refused: {line}')
            return [line]
        require(found == path, f'goes on from {found}')
        given = load_checkpoint_file(str(path), 'cpu')
        fits = attempt(lambda: check_fits_training(given, path, **self._training), [path.name])
        if fits[1] is None:
            self._resume(given)
        return [fits[1]]

    def _resume(self, given: dict) -> None:
        """What fits is what the optimiser and the schedule take."""
        training = copy.deepcopy(self._training)
        try:
            training['optimizer'].load_state_dict(given['optimizer'])
            for schedule, state in zip(
                training['schedulers'], given.get('param_schedulers', []), strict=True
            ):
                schedule.load_state_dict(state)
        except Exception as error:
            raise FindingError(f'fits and cannot be resumed: {error!r}') from error


def _equal(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(
        found[key].dtype == expected[key].dtype and torch.equal(found[key], expected[key])
        for key in expected
    )
