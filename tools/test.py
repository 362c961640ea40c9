"""Evaluates checkpoints on the test split, or on those of several data sets.

Prints a table for each and writes WORK_DIR/results.json, which also tells what selected the
checkpoint. Several checkpoints get a matrix of t2i/R1 too, by what they were trained and tested on.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sen_toolbox.command_line import add_cfg_options, read_first, run_main, tool_parser


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoints',
        nargs='*',
        type=named_checkpoint,
        metavar='[NAME=]CHECKPOINT',
        help='checkpoint files, or models of open_clip by name (open_clip:ViT-B-16/openai, '
        "hf-hub:ORG/NAME) for the towers; without one, the backbone's pretrained weights are "
        'evaluated',
    )
    parser.add_argument('--work-dir', help='logs, results.json; default work_dirs/<config name>')
    parser.add_argument(
        '--datasets',
        nargs='+',
        default=[],
        metavar='NAME[=FOLDER]',
        help='evaluate on the test splits of these instead: cuhk, icfg, rstp, synthetic, ..., or '
        'any registered data set as TYPE=FOLDER',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--rerank',
        nargs='+',
        choices=['k_reciprocal', 'query_expansion', 'visual_neighbours'],
        default=[],
        help='also evaluate after re-ranking; told apart from the plain figures everywhere',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by launchers'
    )
    args = parser.parse_args(arguments)
    for given in ([name for name, _ in args.checkpoints], args.datasets):
        if len(set(given)) < len(given):
            parser.error(f'one of these is there twice: {", ".join(given)}')
    return args


def named_checkpoint(text: str) -> tuple[str, str]:
    """Name and path of NAME=PATH; a path alone, which may hold '=' below a folder, is its name."""
    name, equals, path = text.partition('=')
    return (name, path) if equals and '/' not in name else (text, text)


read_first(__name__, parse_args)

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from prettytable import PrettyTable
from torch.distributed.elastic.multiprocessing.errors import record

from sen_toolbox.allocator import keep_freed_memory
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.config import load_config, pretrained_weights, start_from
from sen_toolbox.datasets.check import known_datasets
from sen_toolbox.distributed import finish_launch, prepare_launch
from sen_toolbox.evaluation.results import (
    describe_checkpoint,
    describe_pretrained,
    results_record,
    results_table,
    write_results,
)
from sen_toolbox.hub import find_model, is_hub_name
from sen_toolbox.models.wrapping import unwrapped
from sen_toolbox.registry import DATASETS


def prepare(args: argparse.Namespace) -> Config:
    """The config with the command line applied."""
    config = load_config(args.config, args.cfg_options)
    config.work_dir = args.work_dir or config.work_dir or f'work_dirs/{Path(args.config).stem}'
    config.launcher = args.launcher
    config.resume = False
    if not isinstance(config.test_evaluator, dict) or config.test_evaluator.get('prefix'):
        raise ValueError('test_evaluator is one RetrievalMetric without prefix here')
    for key in args.cfg_options if args.datasets else ():
        if key in ('data_root', 'dataset_type') or key.startswith('test_dataloader.dataset.'):
            raise ValueError(f'--datasets says what is tested on, so {key} would change nothing')
    # The config has imported what a project registers.
    for text in args.datasets:
        test_set(text)
    if args.rerank:
        config.test_evaluator.rerank = args.rerank
    for _, path in args.checkpoints:
        if is_hub_name(path) and start_from(config.model.backbone, path) == 0:
            raise ValueError(f'{path} is a model of open_clip, and the config has no tower of it')
    if not args.checkpoints and not pretrained_weights(config.model.backbone):
        raise ValueError(
            'there is neither a checkpoint nor a pretrained encoder: nothing to evaluate; give a '
            'checkpoint or --cfg-options pretrained=FILE'
        )
    return config


def test_set(text: str) -> tuple[str, str]:
    """Type and folder of a data set given as NAME, NAME=FOLDER or TYPE=FOLDER.

    Raises:
        ValueError: If there is none of that name; tells the choices.
    """
    name, _, folder = text.partition('=')
    short = {
        cls.LAYOUT.short_name: (cls.LAYOUT.read_as or kind, cls.LAYOUT.root)
        for kind, cls in known_datasets().items()
        if cls.LAYOUT.short_name
    }
    if name in short:
        kind, default = short[name]
        return kind, folder or default
    if folder and DATASETS.get(name) is not None:
        return name, folder
    raise ValueError(
        f'unknown data set {text!r}, choose from {", ".join(sorted(short))}, or give the type of a '
        'registered data set and its folder: TYPE=FOLDER'
    )


class OtherIdentitiesHook(Hook):
    """Lets heads that retrieval does not read differ in rows from those of the checkpoint.

    A classifier has a row for each identity of the set that it was trained on.
    """

    priority = 'LOW'  # before StrictLoadHook compares

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Takes the model's own tensors in their place, and says so."""
        model = unwrapped(runner.model)
        state = checkpoint.get('state_dict', checkpoint)
        for name in sorted(set(model.heads) - set(model.embedding_heads)):
            for key, own in model.heads[name].state_dict(prefix=f'heads.{name}.').items():
                given = state.get(key, own)
                if given.shape != own.shape and given.shape[1:] == own.shape[1:]:
                    print_log(f'{key} is of {len(given)} identities: left out', 'current')
                    state[key] = own


class TestRunner(Runner):
    """Leaves the config that a training wrote into its work dir as it is."""

    def dump_config(self) -> None:
        """Does nothing: the config of a test is in the folder of its log."""


def evaluate(config: Config, name: str) -> dict:
    """Counts and metrics of the config's test split."""
    runner = TestRunner.from_cfg(config)
    runner.register_hook(OtherIdentitiesHook())
    if config.load_from is None:
        unwrapped(runner.model).load_weights()
    measured = runner.test()
    reranked = {
        method: pick(measured, f'{method}/') for method in config.test_evaluator.get('rerank', ())
    }
    found = config.test_dataloader.dataset
    counts = runner.test_dataloader.dataset.metainfo
    return dict(
        dataset=name,
        data_root=str(found.data_root),
        split=found.split,
        num_identities=counts['num_classes'],
        num_images=counts['num_images'],
        num_captions=counts['num_captions'],
        metrics={way: v for way, v in measured.items() if way.startswith(('t2i/', 'i2t/'))},
        **({'reranked': reranked} if reranked else {}),
    )


def pick(metrics: dict[str, float], prefix: str) -> dict[str, float]:
    """The metrics under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in metrics.items() if k.startswith(prefix)}


def matrix(results: dict[str, dict]) -> str:
    """t2i/R1: a row for each checkpoint, a column for each data set."""
    rows = {name: found['evaluations'] for name, found in results.items()}
    tested = [found['dataset'] for found in next(iter(rows.values()))]
    table = PrettyTable(['trained on', *tested], title='t2i/R1 by test set')
    for name, row in rows.items():
        table.add_row([name, *(f'{found["metrics"]["t2i/R1"]:.2f}' for found in row)])
    return table.get_string()


def describe(path: str | None, config: Config) -> dict:
    """Where the weights come from: a checkpoint, or without one what the backbone starts from."""
    if path is None:
        return describe_pretrained(', '.join(pretrained_weights(config.model.backbone)))
    if is_hub_name(path):
        # Downloads what is missing.
        return describe_pretrained(find_model(path).name)
    return describe_checkpoint(path, load_checkpoint_file(path).get('meta', {}))


# Under torchrun the error of the process that failed first ends the output.
@record
def main() -> None:
    args = parse_args()
    config = prepare(args)
    checkpoints = args.checkpoints or [('pretrained', None)]
    # All before the first evaluation, which a damaged file would make useless.
    described = [describe(path, config) for _, path in checkpoints]
    keep_freed_memory()
    prepare_launch(config)
    results, of_config = {}, config.test_dataloader.dataset
    for (checkpoint, path), description in zip(checkpoints, described, strict=True):
        config.load_from = None if is_hub_name(path) else path
        if is_hub_name(path):
            start_from(config.model.backbone, path)
        evaluations = []
        for text in args.datasets:
            kind, root = test_set(text)
            kept = ('pipeline', 'image_cache')
            config.test_dataloader.dataset = dict(
                {key: of_config[key] for key in kept if key in of_config},
                type=kind,
                data_root=root,
                split='test',
            )
            evaluations.append(evaluate(config, text))
        if not args.datasets:
            evaluations.append(evaluate(config, config.test_dataloader.dataset.type))
        results[checkpoint] = results_record(args.config, description, evaluations)
    if is_main_process():
        several = len(results) > 1
        path = Path(config.work_dir) / 'results.json'
        write_results(path, results if several else results[checkpoint])
        for found in results.values():
            print(results_table(found))
            for method in args.rerank:
                again = [{**e, 'metrics': e['reranked'][method]} for e in found['evaluations']]
                print(f'after {method} re-ranking, not comparable with plain figures:')
                print(results_table({**found, 'evaluations': again}))
        if several:
            print(matrix(results))
    finish_launch()


if __name__ == '__main__':
    run_main(main)
