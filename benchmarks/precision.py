"""What fewer bits cost in R1 and mAP: the shipped model on the test split of the drawn people."""

import json
import tempfile

import numpy as np
import torch
from common import arguments
from prettytable import PrettyTable
from reduced import in_bfloat16, in_onnx, on_one_core

from sen_toolbox.datasets import SyntheticPedes
from sen_toolbox.evaluation.ranking import retrieval_metrics
from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.pictures import read_image
from sen_toolbox.search.indexing import Encoder

MEASURES = ('R1', 'R5', 'R10', 'mAP', 'mINP')
IMAGES_AT_ONCE = 64


def score(encoder: Encoder, people: list[dict]) -> dict[str, float]:
    """Text-to-image metrics in percent of all captions against all images."""
    pixels = [encoder.prepare(read_image(p['img_path'])) for p in people]
    parts = [
        encoder.embed_prepared(np.stack(pixels[start : start + IMAGES_AT_ONCE]))
        for start in range(0, len(pixels), IMAGES_AT_ONCE)
    ]
    captions = [(text, person['person_id']) for person in people for text in person['captions']]
    sentences, query_ids = zip(*captions, strict=True)
    return retrieval_metrics(
        torch.from_numpy(encoder.embed_text(sentences)),
        torch.from_numpy(np.concatenate(parts)),
        torch.tensor(query_ids),
        torch.tensor([person['person_id'] for person in people]),
    )


def main() -> None:
    args = arguments(__doc__, data_root='')
    on_one_core()
    with tempfile.TemporaryDirectory() as folder:
        drawn = SyntheticPedes(data_root=args.data_root or f'{folder}/people', split='test')
        people = [drawn.get_data_info(place) for place in range(len(drawn))]
        towers, half = load_encoder(), load_encoder()
        half.model = in_bfloat16(half.model)
        encoders = {
            'float32, torch': towers,
            'bfloat16, torch': half,
            'float32, onnxruntime': in_onnx(towers, folder),
            'int8, onnxruntime': in_onnx(towers, folder, int8=True),
        }
        rows = []
        for name, encoder in encoders.items():
            scores = score(encoder, people)
            rows.append(dict(what=name, **{key: f'{scores[key]:.2f}' for key in MEASURES}))
    queries = sum(len(person['captions']) for person in people)
    title = f'text-to-image in percent, shipped model, {queries} queries, {len(people)} images'
    table = PrettyTable(['', *MEASURES], align='r')
    table.align[''] = 'l'
    table.add_rows([list(row.values()) for row in rows])
    print(f'{title}\n{table}')
    if args.json:
        args.json.write_text(json.dumps(dict(title=title, rows=rows)))


if __name__ == '__main__':
    main()
