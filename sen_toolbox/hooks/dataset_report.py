"""Tells at the start what is trained on, and that config, classifiers and text encoder fit it."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from sen_toolbox.datasets.statistics import dataset_table
from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import HOOKS
from sen_toolbox.text.tokens import check_fit


@HOOKS.register_module()
class DatasetReportHook(Hook):
    """Logs the statistics of each split, and compares identities and tokenizers with the model.

    Args:
        num_classes: Identities of the training split, as the config has them.
    """

    def __init__(self, *, num_classes: int) -> None:
        self.num_classes = num_classes

    def before_train(self, runner: Runner) -> None:
        """Logs the table.

        Raises:
            ValueError: If the training split has another number of identities than the config says
                or than a head with ``num_classes`` classifies, or if a pipeline's tokenizer does
                not fit the text encoder.
        """
        datasets = {'train': runner.train_dataloader.dataset}
        if runner.val_loop is not None:
            datasets['val'] = runner.val_dataloader.dataset
        runner.logger.info(f'Data\n{dataset_table(datasets)}')
        found = datasets['train'].metainfo['num_classes']
        model = unwrapped(runner.model)
        steps = [step for dataset in datasets.values() for step in dataset.pipeline.transforms]
        for tokenizer in [step.tokenizer for step in steps if hasattr(step, 'tokenizer')]:
            text = model.backbone.spec.text
            check_fit(tokenizer, text.vocab_size, text.context_length)
        expected = {
            f'heads.{name} classifies': head.num_classes
            for name, head in model.heads.items()
            if hasattr(head, 'num_classes')
        }
        for what, number in {**expected, 'the config says': self.num_classes}.items():
            if number != found:
                raise ValueError(
                    f'the training split has {found} identities, but {what} {number}: '
                    f'set num_classes={found} (--cfg-options num_classes={found})'
                )
