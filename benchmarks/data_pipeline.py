"""CPU time of a training sample of SEN, without and with the image cache, against a plain one.

The plain sample has the costs of the release and no others: every item is decoded, resized,
flipped, padded, cropped and turned into normalised floats by itself, a fifth of the captions is
pruned, and each is tokenised and masked anew, with a call of the tagger for each token, a new list
of all ids that may replace one, and labels that nobody reads. Ours leaves normalising and erasing
to the device; one row adds them on the CPU.

Ours keeps freed memory, as ``tools/train.py`` does. The plain sample runs in a forked process with
the C library's own settings, as the release's do; two more rows are against the plain sample with
ours, so that this share of the gain can be seen.

Needs data of NLTK: ``python -m nltk.downloader punkt_tab averaged_perceptron_tagger_eng``, or
copies of them and NLTK_DATA set to their folder. Without them the plain sample looks tags up in a
table, so that it is faster than the release and the ratios are smaller. The version of NLTK matters
too: 3.8.1, which the release asks for, looks for the tagger's model on disk in every call, later
ones remember it. Drawn captions have about as many tokens as those of CUHK-PEDES, 29.
"""

import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.functional as F
from common import Report, alternate, arguments, distance
from mmengine.registry import DefaultScope
from torchvision.transforms import RandomErasing

from sen_toolbox.allocator import keep_freed_memory
from sen_toolbox.config import load_config
from sen_toolbox.datasets import SyntheticPedes, collate_pairs
from sen_toolbox.pictures import open_image
from sen_toolbox.registry import MODELS
from sen_toolbox.seeding import SAMPLE, generators_kept, seed_cpu
from sen_toolbox.text.taggers import NLTKTagger, RuleTagger
from sen_toolbox.text.tokenizers import CLIPTokenizer
from sen_toolbox.text.tokenizers.clip import symbols

CONFIG = 'configs/sen/sen_vitb_cuhk.py'
SEED, EPOCH = 0, 0
START_ID, END_ID, MASK_ID, _ = CLIPTokenizer.special


def tagger_at_hand() -> NLTKTagger | RuleTagger:
    """NLTK's if its data are there."""
    try:
        NLTKTagger().prune('a red coat')
    except LookupError as error:
        print(f'{error}\nWithout them the ratios come out smaller.')
        return RuleTagger()
    return NLTKTagger()


class PlainSamples:
    """Training samples, each made from its record by the obvious steps."""

    def __init__(self, records: list[dict], config, tagger: NLTKTagger | RuleTagger) -> None:
        self.records = records
        self.size = config.image_size
        self.context_length = config.context_length
        self.padding = config.crop_padding
        self.tagger = tagger
        normalise = config.model.data_preprocessor
        self.mean, self.std = normalise.mean, normalise.std
        self.erase = RandomErasing(normalise.erasing_prob, (0.02, 0.4), value=list(self.mean))
        self.tokenizer = CLIPTokenizer()

    def __call__(self, index: int, *, erase: bool = True) -> dict:
        """Decodes, resizes, shifts, normalises and erases; prunes, tokenises and masks."""
        record = self.records[index]
        image = open_image(Path(record['img_path']).read_bytes()).convert('RGB')
        image = F.resize(image, list(self.size))
        if np.random.random_sample() < 0.5:
            image = F.hflip(image)
        # The draws of ours, so that results can be compared.
        top, left = (np.random.random_sample(2) * (2 * self.padding + 1)).astype(int).tolist()
        image = F.crop(F.pad(image, self.padding), top, left, *self.size)
        image = F.normalize(F.to_tensor(image), self.mean, self.std)
        if erase:
            image = self.erase(image)
        (caption,) = record['captions']
        if random.random() < 0.2:
            caption = self.tagger.prune(caption) or caption
        tokens = self.tokenise(caption)
        self.mask(tokens.numpy())
        return dict(images=image, tokens=tokens, person_ids=record['person_id'])

    def tokenise(self, caption: str) -> torch.Tensor:
        """A row of ids (L,)."""
        ids = self.tokenizer.encode(caption)[: self.context_length - 2]
        tokens = torch.zeros(self.context_length, dtype=torch.long)
        tokens[: len(ids) + 2] = torch.tensor([START_ID, *ids, END_ID])
        return tokens

    def is_noun_or_adjective(self, token: int) -> bool:
        """Tags one token as if it were a sentence."""
        if isinstance(self.tagger, RuleTagger):
            return bool(self.tokenizer.noun_or_adjective[token])
        import nltk

        # Cut as the release does it, also where no "</w>" ends the piece.
        [(_, tag)] = nltk.pos_tag([symbols()[token][:-4]])
        return tag.startswith(('NN', 'JJ'))

    def mask(self, tokens: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks, replaces or keeps random ids (L,) in place; returns copies of them and labels."""
        replacements = list(range(1, MASK_ID))
        labels = []
        for position, token in enumerate(tokens):
            label = 0
            if 0 < token < MASK_ID:
                rate = 0.3 if self.is_noun_or_adjective(token) else 0.05
                draw = random.random()
                if draw < rate:
                    label = token
                    if draw / rate < 0.8:
                        tokens[position] = MASK_ID
                    elif draw / rate < 0.9:
                        tokens[position] = random.choice(replacements)
            labels.append(label)
        if all(label == 0 for label in labels) and tokens[1] != END_ID:
            labels[1] = tokens[1]
            tokens[1] = MASK_ID
        return torch.tensor(tokens), torch.tensor(labels)


class Apart:
    """Runs an action in a process that is forked now, and counts the CPU time it takes there."""

    def __init__(self, action: Callable[[], None]) -> None:
        context = multiprocessing.get_context('fork')
        self.seconds = 0.0
        self.connection, other = context.Pipe()
        context.Process(target=self._serve, args=(action, other), daemon=True).start()

    @staticmethod
    def _serve(action: Callable[[], None], connection: Connection) -> None:
        while True:
            connection.recv()
            started = time.process_time()
            action()
            connection.send(time.process_time() - started)

    def __call__(self) -> None:
        """Waits until the action has run once."""
        self.connection.send(None)
        self.seconds += self.connection.recv()


def main() -> None:
    args = arguments(__doc__, items=128, batches=3, repeats=5, people=60)
    torch.set_num_threads(1)
    report = Report('Training samples of SEN on one core, 256 x 128 to 384 x 128')
    with tempfile.TemporaryDirectory() as root, DefaultScope.overwrite_default_scope('sen_toolbox'):
        run(args, report, Path(root))
    report.finish(args.json)


def run(args, report: Report, root: Path) -> None:
    config = load_config(CONFIG)
    tagger = tagger_at_hand()
    kwargs = dict(
        data_root=root / 'drawn',
        split='train',
        num_ids=dict(train=args.people, val=1, test=1),
        image_size=(256, 128),
        pipeline=config.train_dataloader.dataset.pipeline,
        tagger=dict(type=type(tagger).__name__),
    )
    plain_data = SyntheticPedes(**kwargs)
    cached_data = SyntheticPedes(image_cache=root / 'cache', **kwargs)
    for data in (plain_data, cached_data):
        data.set_epoch(SEED, EPOCH)
    records = [plain_data.get_data_info(index) for index in range(len(plain_data))]
    plain = PlainSamples(records, config, tagger)
    preprocessor = MODELS.build(config.model.data_preprocessor)

    order = iter(random.Random(0).choices(range(len(records)), k=10**6))

    def batch(samples, collate):
        def make():
            for _ in range(args.batches):
                collate(samples([next(order) for _ in range(args.items)]))

        return make

    def stack(samples):
        return {key: torch.stack([torch.as_tensor(s[key]) for s in samples]) for key in samples[0]}

    def finished(samples):
        return preprocessor(collate_pairs(samples), training=True)

    def plain_samples(indices):
        return [plain(index) for index in indices]

    released = Apart(batch(plain_samples, stack))
    keep_freed_memory()
    check(report, plain_data, cached_data, plain, preprocessor)
    cached = cached_data.__getitems__
    lengths = [len(plain.tokenizer.encode(record['captions'][0])) + 2 for record in records]
    print(f'{len(records)} pairs; captions of {np.mean(lengths):.0f} tokens')
    slow, kept, fast, fastest, whole = (
        1000 * seconds / (args.items * args.batches)
        for seconds in alternate(
            args.repeats,
            released,
            batch(plain_samples, stack),
            batch(plain_data.__getitems__, collate_pairs),
            batch(cached, collate_pairs),
            batch(cached, finished),
            clock=lambda: time.process_time() + released.seconds,
        )
    )
    report.add('sample, no image cache', fast, slow, 'ms', goal='7x')
    report.add('sample, image cache', fastest, slow, 'ms', goal='40x')
    report.add('sample, image cache, normalised and erased here', whole, slow, 'ms')
    too = 'if the reference keeps freed memory too'
    report.add(f'sample, no image cache, {too}', fast, kept, 'ms')
    report.add(f'sample, image cache, {too}', fastest, kept, 'ms')
    mask = plain_data.pipeline.transforms[-2]
    captions = [record['captions'][0] for record in records[: args.items]]
    rows = [plain.tokenise(caption) for caption in captions]
    tokens = [plain.tokenizer([caption]) for caption in captions]
    ours, reference = (
        1000 * seconds / len(rows)
        for seconds in alternate(
            args.repeats,
            lambda: [mask({'tokens': row}) for row in tokens],
            lambda: [plain.mask(row.numpy().copy()) for row in rows],
        )
    )
    report.add('masking the words of a caption', ours, reference, 'ms')
    print(
        ', '.join(f'{1000 / ms:,.0f}' for ms in (slow, fast, fastest)),
        'samples per second and core: plain, ours without cache, with cache',
    )


def check(
    report: Report, made: SyntheticPedes, cached: SyntheticPedes, plain, preprocessor
) -> None:
    """The same images and tokens three times, before erasing."""
    pixels = tokens = 0
    images = 0.0
    for index in range(0, len(made), 5):
        one, other = made[index], cached[index]
        with generators_kept():
            seed_cpu(SEED, SAMPLE, EPOCH, index)
            expected = plain(index, erase=False)
        pixels += int((one['images'] != other['images']).sum())
        tokens += int((one['tokens'].ids[0] != expected['tokens']).sum())
        tokens += int((one['tokens'].ids != other['tokens'].ids).sum())
        ours = preprocessor(collate_pairs([one]))['images'][0]
        images = max(images, distance(ours, expected['images']))
    report.check('pixels with and without image cache', pixels, 0)
    report.check('tokens, ours and plain', tokens, 0)
    report.check('normalised images, ours and plain', images, 1e-6)


if __name__ == '__main__':
    main()
