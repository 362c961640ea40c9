"""Evaluates a checkpoint on the test split, or on those of several data sets.

Prints a table and writes WORK_DIR/results.json, which also tells what selected the checkpoint.
"""

import argparse
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.distributed.elastic.multiprocessing.errors import record

from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.config import load_config
from sen_toolbox.distributed import finish_launch, prepare_launch
from sen_toolbox.evaluation.reranking import RERANKERS
from sen_toolbox.evaluation.results import (
    describe_checkpoint,
    describe_pretrained,
    results_record,
    results_table,
    write_results,
)

# Type and default folder of each data set by its short name. Drawn people are read as what they
# are laid out as, so that a folder drawn with any seed and size will do.
DATASETS = {
    'cuhk': ('CUHKPEDES', 'data/CUHK-PEDES'),
    'icfg': ('ICFGPEDES', 'data/ICFG-PEDES'),
    'rstp': ('RSTPReid', 'data/RSTPReid'),
    'synthetic': ('CUHKPEDES', 'data/synthetic'),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help="checkpoint file; without one, the backbone's pretrained weights are evaluated",
    )
    parser.add_argument('--work-dir', help='logs, results.json; default work_dirs/<config name>')
    parser.add_argument(
        '--datasets',
        nargs='+',
        default=[],
        metavar='NAME[=FOLDER]',
        help=f'evaluate on the test splits of these instead; names: {", ".join(DATASETS)}',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override existing config values, for instance test_dataloader.dataset.split=val',
    )
    parser.add_argument(
        '--rerank',
        nargs='+',
        choices=list(RERANKERS),
        default=[],
        help='also evaluate after re-ranking; told apart from the plain figures everywhere',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by launchers'
    )
    args = parser.parse_args()
    for text in args.datasets:
        if text.partition('=')[0] not in DATASETS:
            parser.error(f'unknown data set {text!r}, choose from {", ".join(DATASETS)}')
    return args


def prepare(args: argparse.Namespace) -> Config:
    """The config with the command line applied."""
    config = load_config(args.config, args.cfg_options)
    config.work_dir = args.work_dir or config.work_dir or f'work_dirs/{Path(args.config).stem}'
    config.launcher = args.launcher
    config.load_from, config.resume = args.checkpoint, False
    if args.rerank:
        config.test_evaluator.rerank = args.rerank
    if args.checkpoint is None and config.model.backbone.get('pretrained') is None:
        raise ValueError(
            'there is neither a checkpoint nor model.backbone.pretrained: nothing to evaluate'
        )
    return config


def evaluate(config: Config, name: str) -> dict:
    """Counts and metrics of the config's test split."""
    runner = Runner.from_cfg(config)
    if config.load_from is None:
        # MMEngine initialises before training only.
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.init_weights()
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


# Under torchrun the error of the process that failed first ends the output.
@record
def main() -> None:
    args = parse_args()
    config = prepare(args)
    if args.checkpoint is None:
        checkpoint = describe_pretrained(config.model.backbone.pretrained)
    else:
        meta = load_checkpoint_file(args.checkpoint).get('meta', {})
        checkpoint = describe_checkpoint(args.checkpoint, meta)
    prepare_launch(config)
    evaluations = []
    for text in args.datasets:
        name, _, folder = text.partition('=')
        kind, root = DATASETS[name]
        config.test_dataloader.dataset = dict(
            type=kind,
            data_root=folder or root,
            split='test',
            pipeline=config.test_dataloader.dataset.pipeline,
        )
        evaluations.append(evaluate(config, text))
    if not args.datasets:
        evaluations.append(evaluate(config, config.test_dataloader.dataset.type))
    if is_main_process():
        record = results_record(args.config, checkpoint, evaluations)
        write_results(Path(config.work_dir) / 'results.json', record)
        print(results_table(record))
        for method in args.rerank:
            again = [{**found, 'metrics': found['reranked'][method]} for found in evaluations]
            print(f'after {method} re-ranking, not comparable with plain figures:')
            print(results_table({**record, 'evaluations': again}))
    finish_launch()


if __name__ == '__main__':
    main()
