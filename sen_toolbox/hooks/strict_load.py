"""Refuses a checkpoint that does not fit; MMEngine's Runner loads what it can and goes on."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.checkpoint.config_text import differing_model
from sen_toolbox.checkpoint.resuming import (
    check_fits_training,
    check_resumable,
    settings_kept,
)
from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import HOOKS


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Compares a checkpoint with the model, to resume, test or start from, before it is loaded.

    To resume also with the optimiser and the schedules.
    """

    # EMAHook puts the averaged weights where they belong first.
    priority = 'VERY_LOW'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Raises ValueError naming the file and what does not match."""
        source = runner.cfg.get('load_from') or 'the checkpoint'
        try:
            state = checkpoint.get('state_dict', checkpoint)
            check_keys(unwrapped(runner.model), state, source)
        except ValueError as error:
            if told := differing_model(runner.cfg, checkpoint.get('meta')):
                raise ValueError(f'{error}; {told}') from error
            raise
        if runner.cfg.get('resume'):
            check_resumable(checkpoint, source)
            training = dict(
                optimizer=runner.optim_wrapper.optimizer, schedulers=runner.param_schedulers or []
            )
            check_fits_training(checkpoint, source, **training)
            if kept := settings_kept(checkpoint, **training):
                runner.logger.warning(
                    f'goes on as {source} began, not as the config says now: {"; ".join(kept)}'
                )
