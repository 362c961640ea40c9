"""One text query at a time, ViT-B/16's text tower: torch and the ONNX export, 32 bits and fewer."""

import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from common import Report, arguments
from plain import text_embedding
from reduced import add_rows, in_bfloat16, in_onnx, on_one_core, random_towers
from workload import draw_tokens

from sen_toolbox.inference.onnx_encoder import OnnxEncoder
from sen_toolbox.text.tokens import Tokens


def latencies(queries: list[Tokens], *actions: Callable[[Tokens], object]) -> list[float]:
    """Median CPU milliseconds of each action over the queries, taken in turn."""
    times = [[] for _ in actions]
    for query in queries:
        for action, taken in zip(actions, times, strict=True):
            started = time.process_time()
            action(query)
            taken.append(1000 * (time.process_time() - started))
    return [statistics.median(taken) for taken in times]


def _by(exported: OnnxEncoder, query: Tokens) -> torch.Tensor:
    return torch.from_numpy(exported.embed_tokens(query.map(torch.Tensor.numpy)))


def main() -> None:
    args = arguments(__doc__, queries=40)
    on_one_core()
    with tempfile.TemporaryDirectory() as folder:
        towers = random_towers(folder)
        exported, small = (in_onnx(towers, folder, int8=int8) for int8 in (False, True))
    model, half = towers.model, in_bfloat16(towers.model)
    drawn = draw_tokens(args.queries)
    queries = [drawn[number : number + 1] for number in range(args.queries)]

    def plain(query: Tokens) -> torch.Tensor:
        return torch.nn.functional.normalize(text_embedding(model.backbone, query), dim=1)

    ways = {
        'torch, exact': model.embed_text,
        'torch, bfloat16': half.embed_text,
        'onnxruntime, exact': lambda query: _by(exported, query),
        'onnxruntime, int8': lambda query: _by(small, query),
    }
    goals = {'onnxruntime, exact': '3.5x', 'onnxruntime, int8': '9x'}
    report = Report('one query, batch of 1, median, CPU')
    with torch.inference_mode():
        expected = torch.cat([plain(query) for query in queries])
        found = {name: torch.cat([way(query) for query in queries]) for name, way in ways.items()}
        times = latencies(queries, plain, *ways.values())
    add_rows(report, found, expected, times, goals)
    report.finish(args.json)


if __name__ == '__main__':
    main()
