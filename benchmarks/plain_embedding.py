"""The shipped model alone, a program of its own: decodes, prepares and embeds crops in a loop."""

import gc
import sys

import numpy as np
import torch

from sen_toolbox.inference.loading import load_encoder
from sen_toolbox.search.images import find_files, read_image

BATCH_SIZE = 64


def main() -> None:
    torch.set_num_threads(1)
    encoder, paths = load_encoder(), find_files(sys.argv[1]).paths
    # As the commands do: what the imports left is never garbage.
    gc.freeze()
    for start in range(0, len(paths), BATCH_SIZE):
        batch = [encoder.prepare(read_image(path)) for path in paths[start : start + BATCH_SIZE]]
        encoder.embed_prepared(np.stack(batch))


if __name__ == '__main__':
    main()
