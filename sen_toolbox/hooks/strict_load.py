"""Refuses a checkpoint that does not fit; MMEngine's Runner loads what it can and goes on."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import HOOKS


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Compares keys and shapes before the weights are loaded, to resume, test or start from."""

    # EMAHook puts the averaged weights where they belong first.
    priority = 'VERY_LOW'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Raises ValueError naming what does not match."""
        model = unwrapped(runner.model)
        check_keys(model, checkpoint.get('state_dict', checkpoint), 'the checkpoint')
