"""Results in a file: which checkpoint, what selected it, on which split, by which versions."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prettytable import PrettyTable

from sen_toolbox.checkpoint.config_text import read_config_text
from sen_toolbox.checks import is_whole_number
from sen_toolbox.io import file_sha256, write_atomically
from sen_toolbox.provenance import git_commit, versions

SHOWN = ('t2i/R1', 't2i/R5', 't2i/R10', 't2i/mAP', 't2i/mINP', 'i2t/R1', 'i2t/mAP')


def describe_checkpoint(path: str | Path, meta: Mapping[str, Any]) -> dict:
    """Where a checkpoint comes from and what selected it.

    A file named ``best_*`` was selected on the validation split of the config that it was trained
    with, which MMEngine keeps as text in the checkpoint. The text is parsed, never executed.

    Args:
        path: The checkpoint.
        meta: The checkpoint's ``meta``; may be empty.

    Returns:
        'path', 'sha256', 'epoch', 'seed', 'trained_on', and 'selected': 'val' or 'test' (as the
        papers do) for the best epoch on that split, 'last', 'epoch' (neither) or 'unknown'; the
        same in words is 'selection'.
    """
    text = meta.get('cfg')
    path, config = Path(path), read_config_text(text if isinstance(text, str) else '')
    # Whatever else a file may hold there could not be written.
    epoch, seed = (
        int(n) if is_whole_number(n := meta.get(key)) else None for key in ('epoch', 'seed')
    )
    selected, words = _selection(path.name, epoch, config)
    return dict(
        path=str(path),
        sha256=file_sha256(path),
        epoch=epoch,
        seed=seed,
        trained_on=_split_of(config, 'train_dataloader'),
        selected=selected,
        selection=words,
    )


def describe_pretrained(name: str) -> dict:
    """The same for weights that a backbone starts from and that were not trained further."""
    words = 'pretrained weights, not trained further'
    return dict(path=name, sha256=None, seed=None, selected='none', selection=words)


def results_record(config: str | Path, checkpoint: dict, evaluations: Sequence[dict]) -> dict:
    """Everything that a number needs to be compared with another.

    Args:
        config: The config file.
        checkpoint: As ``describe_checkpoint`` or ``describe_pretrained`` returns it.
        evaluations: For each data set 'dataset', 'data_root', 'split', 'num_identities',
            'num_images', 'num_captions' and 'metrics' (percent by '<direction>/<measure>').
    """
    return dict(
        config=str(config),
        checkpoint=checkpoint,
        evaluations=list(evaluations),
        versions=versions(),
        git=git_commit(),
        date=datetime.now(UTC).isoformat(timespec='seconds'),
    )


def write_results(path: Path, record: dict) -> None:
    """Writes a record as JSON; the file is complete or absent."""
    write_atomically(path, json.dumps(record, indent=1) + '\n')


def results_table(record: dict) -> str:
    """One row for each data set, under a title that says what selected the checkpoint."""
    checkpoint = record['checkpoint']
    columns = [measure for measure in SHOWN if measure in record['evaluations'][0]['metrics']]
    table = PrettyTable(['tested on', 'images', 'captions', *columns])
    table.title = f'{Path(checkpoint["path"]).name}: {checkpoint["selection"]}'
    for found in record['evaluations']:
        values = [f'{found["metrics"][measure]:.2f}' for measure in columns]
        tested = f'{found["dataset"]} {found["split"]}'
        table.add_row([tested, found['num_images'], found['num_captions'], *values])
    return table.get_string()


def _selection(name: str, epoch: int | None, config: dict) -> tuple[str, str]:
    if name.startswith('best_'):
        split = _split_of(config, 'val_dataloader')
        if split is None:
            return 'unknown', 'best epoch, on a split that the checkpoint does not tell'
        measure = _within(config, 'default_hooks', 'checkpoint', 'save_best') or 'score'
        words = f'epoch with the highest {measure} on {split["dataset"]} {split["split"]}'
        if split['split'] == 'test':
            words += ', as the papers select'
        return split['split'], words
    last = _within(config, 'train_cfg', 'max_epochs')
    if epoch is None or last is None:
        return 'unknown', 'the checkpoint does not tell what selected it'
    if epoch == last:
        return 'last', f'last epoch ({epoch})'
    return 'epoch', f'epoch {epoch} of {last}'


def _split_of(config: dict, loader: str) -> dict[str, str] | None:
    found = {
        name: _within(config, loader, 'dataset', key)
        for name, key in (('dataset', 'type'), ('data_root', 'data_root'), ('split', 'split'))
    }
    return found if all(isinstance(value, str) for value in found.values()) else None


def _within(config: dict, *keys: str) -> Any:
    """A value of a config that anyone may have written, None if it is not there."""
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
