"""Ranks the person crops of a folder by a sentence; writes a picture of the best."""

import argparse
from pathlib import Path

from sen_toolbox.search.encoder import PairEncoder, list_images
from sen_toolbox.visualization import draw_retrieval_board


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('folder', help='folder of person crops')
    parser.add_argument('sentences', nargs='+', help='for instance "a woman in a red coat"')
    parser.add_argument('--top-k', type=int, default=10, help='how many to show')
    parser.add_argument('--out', type=Path, help='write the ranking as a picture')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    encoder = PairEncoder(args.config, args.checkpoint)
    paths = list_images(args.folder)
    scores = encoder.embed_text(args.sentences) @ encoder.embed_images(paths).T
    best = scores.topk(min(args.top_k, len(paths)), dim=1)
    rows = []
    for sentence, values, indices in zip(args.sentences, best.values, best.indices, strict=True):
        found = [paths[i] for i in indices]
        print(sentence)
        for value, path in zip(values.tolist(), found, strict=True):
            print(f'  {value:.3f}  {path}')
        rows.append(dict(caption=sentence, image_paths=found, scores=values.tolist()))
    if args.out:
        draw_retrieval_board(rows, topk=args.top_k).save(args.out)
        print(f'picture: {args.out}')


if __name__ == '__main__':
    main()
