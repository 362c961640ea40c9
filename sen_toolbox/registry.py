"""Every registry of the toolbox, each with the contract of what may register.

Those of this toolbox's own kinds of parts stand alone, so that a loss in a head's place is an
error. The others are children of MMEngine's registries in the scope ``sen_toolbox``. A registry
imports what is in ``locations`` at its first look-up; nothing has to be imported by hand. Of a
package with a table ``HOMES`` (see ``lazy_names.py``) it imports the module of the part alone.
"""

import functools
from importlib import import_module
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry, build_from_cfg

SCOPE = 'sen_toolbox'


class PartRegistry(Registry):
    """One that imports all its parts only where all are asked for.

    A model needs a few of them, and others import libraries that take longer than torch.
    """

    def find(self, name: str) -> Any:
        """The part that has this name here, None if there is none; no other registry is asked."""
        if name not in self.module_dict and (home := self._homes.get(name)):
            import_module(home)
        return self.module_dict.get(name)

    def get(self, key: str) -> Any:
        """What MMEngine finds under a name, with or without a scope."""
        scope, name = self.split_scope_key(key)
        found = self.find(name) if scope in (None, self.scope) else None
        return super().get(key) if found is None else found

    def import_from_location(self) -> None:
        """Imports every part, as for a list of all."""
        if self._imported:
            return
        for home in dict.fromkeys(self._homes.values()):
            import_module(home)
        super().import_from_location()

    @functools.cached_property
    def _homes(self) -> dict[str, str]:
        """The module of each part; of a package without a table the import has registered all."""
        return {
            name: f'{location}.{home}'
            for location in self._locations
            for name, home in getattr(import_module(location), 'HOMES', {}).items()
        }


def _root(name: str, location: str) -> PartRegistry:
    return PartRegistry(name, scope=SCOPE, locations=[location])


def _child(name: str, parent: Registry, *locations: str, **options: Any) -> PartRegistry:
    return PartRegistry(name, parent=parent, scope=SCOPE, locations=list(locations), **options)


# tokenizer(texts) -> Tokens; see the protocol in text/tokens.py.
TOKENIZERS = _root('tokenizer', 'sen_toolbox.text.registration')
# image_encoder(images, reads, keep=None) -> ImageFeatures, with the fields of it named in `reads`
# ('tokens', 'attention', 'stages.layer3', 'extra.name'), of which it `provides` some (a frozenset).
# It has `spec`, an ImageSpec, and `load_weights()`, which reads its `pretrained` file if it has
# one. With `keep` (B, K) only these patches are encoded, if `spec.takes_some_patches`.
IMAGE_ENCODERS = _root('image encoder', 'sen_toolbox.models.image_encoders')
# text_encoder(tokens, reads) -> TextFeatures, likewise, of a batch of `Tokens`; `spec` is a
# TextSpec. `mask` and `end` are those of the tokens. `word_embedding` is its nn.Embedding. A part
# of a model whose features of a row depend on the other rows says so by `depends_on_batch`.
TEXT_ENCODERS = _root('text encoder', 'sen_toolbox.models.text_encoders')
# backbone(images, tokens, reads, image_of=None) -> PairFeatures with the features named in `reads`
# ('image.tokens', 'text.attention', ...); images or tokens may be None. Has `spec`, a PairSpec,
# `provides`, `word_embedding`, `load_weights()`, and for heads that encode a further view
# `encode_image(images, reads, keep=None)` and `encode_text(tokens, reads)`.
BACKBONES = _root('backbone', 'sen_toolbox.models.backbones')
# Modules that a head runs on a backbone's tokens; the constructor takes `spec`.
NECKS = _root('neck', 'sen_toolbox.models.necks')
# head(pair, batch, backbone) -> dict with 'loss' (to be weighted and summed); every other key is
# a statistic that is only logged. The constructor takes `spec`. A head that reads more than the
# two embeddings names those features in `reads`, of its class or of itself; they are compared with
# what the backbone provides when the model is built. What it compares between pairs it passes
# through `gather` (models/gather.py), which makes it that of all processes and chunks; the rest of
# its loss is a mean over pairs, one per caption. It may have, each by itself:
# - `setup(backbone)`: before optimiser, wrapper and checkpoint see the model, and once more after
#   pretrained weights are loaded; momentum copies are made, then refreshed, here.
# - `after_step()`: once per optimiser step; queues move here, never in forward, so that chunks and
#   accumulated batches count once.
# - `embed_image(pair)` and `embed_text(pair)`, (B, E) and (T, E): retrieval scores by their cosine
#   too, weighted by `score_weight` (1 unless the head has one) against `global_score_weight` of the
#   model.
# - `candidate_image(pair)`, `candidate_text(pair)` and `score(texts, images)`: a score that is not
#   an inner product. `score` takes the former's rows of T captions and of k candidates each,
#   (T, ...) and (T, k, ...), and returns (T, k). Evaluation puts the best k of the inner product
#   into its order and says so.
# - `illustrate(images, tokens, backbone, to_pixels=, seed=)`: columns of a board, images
#   (B, 3, H, W) in 0..255 by title; where another caption changes a column, the board shows both.
#   None where there is nothing to show.
# - `word_attention(images, tokens, backbone)`: (B, L, N) between words and patches, or None.
HEADS = _root('head', 'sen_toolbox.models.heads')
# target(pair, images) -> values (T, N, V), without gradient, of the patches of images (T, 3, H, W),
# one for each caption of `pair`. The constructor takes `spec`. Has `num_values`, V, and `reads`,
# the features of `pair` that it needs; `paint(values)`, pixels (T, N, P), if a board can show them.
RESTORATION_TARGETS = _root('restoration target', 'sen_toolbox.models.heads')
# loss(tensors...) -> scalar; knows no config, batch dict or weight.
LOSSES = _root('loss', 'sen_toolbox.models.losses')

# MMEngine's function, which takes lists too, imports all that it trains with.
MODELS = _child('model', mmengine_registry.MODELS, 'sen_toolbox.models', build_func=build_from_cfg)
DATASETS = _child('dataset', mmengine_registry.DATASETS, 'sen_toolbox.datasets')
TRANSFORMS = _child('transform', mmengine_registry.TRANSFORMS, 'sen_toolbox.datasets.transforms')
DATA_SAMPLERS = _child(
    'data sampler', mmengine_registry.DATA_SAMPLERS, 'sen_toolbox.datasets.samplers'
)
FUNCTIONS = _child('function', mmengine_registry.FUNCTIONS, 'sen_toolbox.datasets.collate')
# A tagger keeps a caption's pronouns, nouns and adjectives: tagger.prune(caption) -> str; and tags
# words like the Penn Treebank: tagger.tag(words) -> list[str].
# Synonyms are names of what a word means: synonyms.lemmas(word, part of speech) -> list[str].
TASK_UTILS = _child(
    'task util',
    mmengine_registry.TASK_UTILS,
    'sen_toolbox.text.taggers',
    'sen_toolbox.text.synonyms',
)
METRICS = _child('metric', mmengine_registry.METRICS, 'sen_toolbox.evaluation')
HOOKS = _child('hook', mmengine_registry.HOOKS, 'sen_toolbox.hooks')
OPTIM_WRAPPERS = _child('optim wrapper', mmengine_registry.OPTIM_WRAPPERS, 'sen_toolbox.optim')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optim wrapper constructor',
    mmengine_registry.OPTIM_WRAPPER_CONSTRUCTORS,
    'sen_toolbox.optim',
)

# Without a child of their own, MMEngine logs a warning for each of these at every start.
OPTIMIZERS = _child('optimizer', mmengine_registry.OPTIMIZERS)
PARAM_SCHEDULERS = _child('parameter scheduler', mmengine_registry.PARAM_SCHEDULERS)
VISBACKENDS = _child('vis_backend', mmengine_registry.VISBACKENDS)
VISUALIZERS = _child('visualizer', mmengine_registry.VISUALIZERS)
RUNNERS = _child('runner', mmengine_registry.RUNNERS)
RUNNER_CONSTRUCTORS = _child('runner constructor', mmengine_registry.RUNNER_CONSTRUCTORS)
LOOPS = _child('loop', mmengine_registry.LOOPS, 'sen_toolbox.loops')
EVALUATOR = _child('evaluator', mmengine_registry.EVALUATOR)
LOG_PROCESSORS = _child('log_processor', mmengine_registry.LOG_PROCESSORS)
MODEL_WRAPPERS = _child(
    'model_wrapper', mmengine_registry.MODEL_WRAPPERS, 'sen_toolbox.distributed'
)
WEIGHT_INITIALIZERS = _child('weight initializer', mmengine_registry.WEIGHT_INITIALIZERS)
STRATEGIES = _child('strategy', mmengine_registry.STRATEGIES)
INFERENCERS = _child('inferencer', mmengine_registry.INFERENCERS)
