"""Models to search with: those that are known to fit, and those whose weights are in the cache."""

from dataclasses import dataclass
from pathlib import Path

from sen_toolbox.hub import CONFIG, HUB, OPEN_CLIP, WEIGHTS


@dataclass(frozen=True)
class KnownModel:
    """What is known of a model of open_clip.

    Attributes:
        name: As ``--model`` takes it.
        repo: Where its weights are.
        parameters: Millions.
        licence: Of the weights, as their repository or that of their authors says.
        coco: Percent of sentences of COCO whose picture comes first, as open_clip's
            docs/openclip_retrieval_results.csv says (89fb801); None if it is not there.
        view: What of a picture it sees.
    """

    name: str
    repo: str
    parameters: int
    licence: str
    coco: float | None
    view: str


MIDDLE, WHOLE = 'middle square', 'whole, squashed'
# Parameters are counted by building each. Licences: openai/CLIP LICENSE, pages of the repositories
# on huggingface.co; dfn2b's is Apple's for research.
KNOWN = (
    KnownModel(
        'open_clip:ViT-B-32/openai',
        'timm/vit_base_patch32_clip_224.openai',
        151,
        'MIT',
        30.44,
        MIDDLE,
    ),
    KnownModel(
        'open_clip:ViT-B-16/openai',
        'timm/vit_base_patch16_clip_224.openai',
        150,
        'MIT',
        33.09,
        MIDDLE,
    ),
    KnownModel(
        'open_clip:ViT-B-16/laion2b_s34b_b88k',
        'laion/CLIP-ViT-B-16-laion2B-s34B-b88K',
        150,
        'MIT',
        42.31,
        MIDDLE,
    ),
    KnownModel(
        'open_clip:ViT-B-16/dfn2b', 'apple/DFN2B-CLIP-ViT-B-16', 150, 'apple-amlr', 43.39, MIDDLE
    ),
    KnownModel(
        'open_clip:EVA02-B-16/merged2b_s8b_b131k',
        'timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k',
        150,
        'MIT',
        42.15,
        MIDDLE,
    ),
    KnownModel(
        'open_clip:ViT-B-16-SigLIP/webli', 'timm/ViT-B-16-SigLIP', 203, 'Apache-2.0', 47.78, WHOLE
    ),
    KnownModel(
        'open_clip:ViT-L-16-SigLIP-256/webli',
        'timm/ViT-L-16-SigLIP-256',
        652,
        'Apache-2.0',
        52.28,
        WHOLE,
    ),
    KnownModel('open_clip:PE-Core-B-16/meta', 'timm/PE-Core-B-16', 448, 'Apache-2.0', None, WHOLE),
)


def cache_folder() -> Path:
    """Where huggingface_hub keeps what it has downloaded."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def cached_models() -> dict[str, int]:
    """Bytes of the weights of each model of open_clip in the cache, by its name."""
    from huggingface_hub import try_to_load_from_cache

    found: dict[str, int] = {}
    nameless: dict[str, int] = {}
    for folder in sorted(cache_folder().glob('models--*--*')):
        repo = folder.name.removeprefix('models--').replace('--', '/')
        cached = [try_to_load_from_cache(repo, file) for file in (*WEIGHTS, CONFIG)]
        *weights, config = (path if isinstance(path, str) else None for path in cached)
        path = next((path for path in weights if path), None)
        if path is None:
            continue
        size = Path(path).stat().st_size
        names = [model.name for model in KNOWN if model.repo == repo]
        names += [HUB + repo] if config else []
        found |= dict.fromkeys(names, size)
        if not names:
            nameless[repo] = size
    return found | (_named_by_open_clip(nameless) if nameless else {})


def _named_by_open_clip(sizes: dict[str, int]) -> dict[str, int]:
    """The same of repositories that only open_clip's table knows; loads torch."""
    from open_clip import list_pretrained
    from open_clip.pretrained import get_pretrained_cfg

    return {
        f'{OPEN_CLIP}{arch}/{tag}': sizes[repo]
        for arch, tag in list_pretrained()
        if (repo := get_pretrained_cfg(arch, tag)['hf_hub'].rpartition('/')[0]) in sizes
    }
