"""Caption features as an evaluation computes them, ViT-B/16's text tower.

By default as many captions as a batch of the configs' test set holds: two to each of 128 images.
The reference encodes them at once, as the releases do up to 512.
"""

import torch
from common import Report, alternate, arguments, distance
from plain import text_embedding
from workload import build, draw_tokens


@torch.inference_mode()
def main() -> None:
    args = arguments(__doc__, captions=256, repeats=3)
    model = build('sen').eval()
    tokens = draw_tokens(args.captions)

    def plain() -> torch.Tensor:
        starts = range(0, len(tokens), 512)
        parts = [text_embedding(model.backbone, tokens[s : s + 512]) for s in starts]
        return torch.nn.functional.normalize(torch.cat(parts), dim=1)

    report = Report(f'features of {args.captions} captions, CPU, float32')
    report.check('features', distance(model.embed_text(tokens), plain()), 1e-5)
    ours, reference = alternate(args.repeats, lambda: model.embed_text(tokens), plain)
    per_caption = 1000 / args.captions
    report.add('caption', ours * per_caption, reference * per_caption, 'CPU ms', goal='3x')
    report.finish(args.json)


if __name__ == '__main__':
    main()
