"""Every registry of the toolbox, each with the contract of what may register.

``BACKBONES``, ``NECKS``, ``HEADS`` and ``LOSSES`` stand alone, so that a loss in a head's place is
an error. The others are children of MMEngine's registries in the scope ``sen_toolbox``. A registry
imports the packages in ``locations`` at its first look-up; nothing has to be imported by hand.
"""

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

SCOPE = 'sen_toolbox'


def _root(name: str, location: str) -> Registry:
    return Registry(name, scope=SCOPE, locations=[location])


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope=SCOPE, locations=list(locations))


# backbone(images, tokens, reads) -> PairFeatures with the fields named in `reads`; has `spec`,
# `init_weights()`, and for retrieval `embed_image(images)` and `embed_text(tokens)`, both (B, D).
# For heads that embed, one of images and tokens may be None; its features are then, too.
# Heads that encode a corrupted view also call `encode_image(images, keep=None)` and
# `encode_text(tokens)`, which return all tokens.
BACKBONES = _root('backbone', 'sen_toolbox.models.backbones')
# Modules that a head runs on a backbone's tokens; the constructor takes `spec`.
NECKS = _root('neck', 'sen_toolbox.models.necks')
# head(feats, batch, backbone) -> dict with 'loss' (to be weighted and summed); every other key is
# a statistic that is only logged. The constructor takes `spec`. A head that reads more than the
# global embeddings names those fields of PairFeatures in a class attribute `reads`. One whose
# embeddings are to be retrieved by has `embed_image(feats)` and `embed_text(feats, tokens)`.
# What it compares between pairs it passes through `gather` (models/gather.py), which makes it that
# of all processes and chunks; the rest of its loss is a mean over pairs.
HEADS = _root('head', 'sen_toolbox.models.heads')
# loss(tensors...) -> scalar; knows no config, batch dict or weight.
LOSSES = _root('loss', 'sen_toolbox.models.losses')

MODELS = _child('model', mmengine_registry.MODELS, 'sen_toolbox.models')
DATASETS = _child('dataset', mmengine_registry.DATASETS, 'sen_toolbox.datasets')
TRANSFORMS = _child('transform', mmengine_registry.TRANSFORMS, 'sen_toolbox.datasets.transforms')
DATA_SAMPLERS = _child(
    'data sampler', mmengine_registry.DATA_SAMPLERS, 'sen_toolbox.datasets.samplers'
)
FUNCTIONS = _child('function', mmengine_registry.FUNCTIONS, 'sen_toolbox.datasets.collate')
# A tagger keeps a caption's pronouns, nouns and adjectives: tagger.prune(caption) -> str.
TASK_UTILS = _child('task util', mmengine_registry.TASK_UTILS, 'sen_toolbox.datasets.taggers')
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
