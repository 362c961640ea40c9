"""One text query at a time, ViT-B/16's text tower: exact, and with 16-bit or 8-bit weights."""

import statistics
import time
from collections.abc import Callable

import torch
from common import Report, arguments, distance
from plain import text_embedding
from reduced import cosine, in_bfloat16, in_int8
from workload import build, draw_tokens


def latencies(queries: torch.Tensor, *actions: Callable[[torch.Tensor], object]) -> list[float]:
    """Median CPU milliseconds of each action over the queries, taken in turn."""
    times = [[] for _ in actions]
    for query in queries.split(1):
        for action, taken in zip(actions, times, strict=True):
            started = time.process_time()
            action(query)
            taken.append(1000 * (time.process_time() - started))
    return [statistics.median(taken) for taken in times]


@torch.inference_mode()
def main() -> None:
    args = arguments(__doc__, queries=40)
    model = build('sen').eval()
    queries = draw_tokens(args.queries)

    def plain(query: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(text_embedding(model.backbone, query), dim=1)

    report = Report('one query, batch of 1, median, CPU')
    expected = torch.cat([plain(query) for query in queries.split(1)])
    report.check('features', distance(model.embed_text(queries), expected), 1e-5)
    half, small = in_bfloat16(model), in_int8(model)
    cosines = [cosine(m.embed_text(queries), expected) for m in (half, small)]
    reference, exact, bf16, int8 = latencies(
        queries, plain, model.embed_text, half.embed_text, small.embed_text
    )
    report.add('query, exact', exact, reference, 'CPU ms', goal='3.5x')
    report.add(f'query, bfloat16 (least cosine {cosines[0]:.5f})', bf16, reference, 'CPU ms')
    report.add(f'query, int8 (least cosine {cosines[1]:.5f})', int8, reference, 'CPU ms', goal='9x')
    report.finish(args.json)


if __name__ == '__main__':
    main()
