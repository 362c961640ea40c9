"""Tells at the start what is trained on, and that the classifier fits it."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.datasets.statistics import dataset_table
from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import HOOKS


@HOOKS.register_module()
class DatasetReportHook(Hook):
    """Logs the statistics of each split and compares identities with the classifiers."""

    def before_train(self, runner: Runner) -> None:
        """Logs the table.

        Raises:
            ValueError: If a head classifies another number of identities than the training split
                has.
        """
        datasets = {'train': runner.train_dataloader.dataset}
        if runner.val_loop is not None:
            datasets['val'] = runner.val_dataloader.dataset
        runner.logger.info(f'Data\n{dataset_table(datasets)}')
        found = datasets['train'].metainfo['num_classes']
        model = unwrapped(runner.model)
        for name, head in model.heads.items():
            expected = getattr(head, 'num_classes', found)
            if expected != found:
                raise ValueError(
                    f'the training split has {found} identities, but head {name!r} classifies '
                    f'{expected}: set num_classes={found} (--cfg-options num_classes={found})'
                )
