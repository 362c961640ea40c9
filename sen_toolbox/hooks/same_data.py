"""Refuses to go on with a training on other data than it began with."""

import logging

from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.messages import shown
from sen_toolbox.registry import HOOKS


@HOOKS.register_module()
class SameDataHook(Hook):
    """Compares the fingerprint of the training annotations with that in a resumed checkpoint.

    MMEngine keeps the ``metainfo`` of the training split in every checkpoint, and there the data
    sets here have a ``fingerprint``. A checkpoint without one is not compared.

    Args:
        required: False to go on in spite of a difference, with a warning.
    """

    def __init__(self, *, required: bool = True) -> None:
        self.required = required

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Raises ValueError naming the data set and the ways to go on."""
        if not runner.cfg.get('resume'):
            return
        dataset = runner.train_dataloader.dataset
        here = getattr(dataset, 'metainfo', {})
        there = checkpoint['meta'].get('dataset_meta')
        there = there if isinstance(there, dict) else {}
        if not {'fingerprint'} <= set(here) & set(there):
            return
        if here['fingerprint'] == there['fingerprint']:
            return
        counted = [key for key in here if key != 'fingerprint' and here[key] != there.get(key)]
        numbers = ', '.join(f'{key} {here[key]}, not {shown(there.get(key))}' for key in counted)
        source = runner.cfg.get('load_from')
        message = (
            f'{source} was trained on other annotations than {type(dataset).__name__} in '
            f'{dataset.data_root} has now ({numbers or "as many of everything"}): identities, '
            'captions, image paths, their order, noise or pruning differ'
        )
        if self.required:
            raise ValueError(
                f'{message}; bring back the data, begin a training from its weights by '
                f'--cfg-options load_from={source}, or go on with other data on purpose by '
                '--cfg-options default_hooks.same_data.required=False'
            )
        runner.logger.log(logging.WARNING, message)
