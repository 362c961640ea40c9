"""Says in every log and checkpoint which code and libraries ran."""

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.provenance import git_commit, versions
from sen_toolbox.registry import HOOKS


@HOOKS.register_module()
class ProvenanceHook(Hook):
    """Logs seed, versions and git commit and adds them to the ``meta`` of checkpoints."""

    @master_only
    def before_run(self, runner: Runner) -> None:
        """Logs them."""
        found = versions()
        self.found = dict(versions=found, git=git_commit())
        words = ', '.join(f'{name} {number}' for name, number in found.items())
        runner.logger.info(
            f'Provenance: seed {runner.seed}, {words}, git {self.found["git"] or "unknown"}'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds 'versions' and 'git'; MMEngine adds the seed and the config."""
        checkpoint['meta'].update(self.found)
