"""A cache of huggingface_hub with small random models of open_clip, written without network."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import open_clip
import torch
from open_clip import pretrained
from safetensors.torch import save
from tiny import NORMALISE
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from sen_toolbox.models import open_clip_config

VISION = dict(image_size=32, layers=1, width=32, head_width=16, patch_size=16)
TEXT = dict(context_length=12, vocab_size=49408, width=32, heads=2, layers=1)
HALF = [0.5, 0.5, 0.5]
WORDS = ['▁a', '▁man', '▁woman', '▁in', '▁red', '▁coat', '▁and', '▁blue', '▁jeans', 's', '▁']
# As SigLIP's: words without punctuation, every row filled to its end, the last place pooled.
SIGLIP_TEXT = dict(
    TEXT,
    vocab_size=3 + len(WORDS),
    hf_tokenizer_name='small/words',
    tokenizer_kwargs=dict(clean='canonicalize'),
    no_causal_mask=True,
    proj_bias=True,
    pool_type='last',
)
# As CLIPA's: word pieces whose end is taken out again.
CLIPA_TEXT = dict(
    TEXT,
    vocab_size=40,
    hf_tokenizer_name='small/pieces',
    tokenizer_kwargs=dict(strip_sep_token=True),
    no_causal_mask=True,
    pool_type='last',
)
ARCHITECTURES = {
    'small-clip': dict(embed_dim=16, vision_cfg=VISION, text_cfg=TEXT),
    'small-siglip': dict(
        embed_dim=16, init_logit_bias=-10, custom_text=True, vision_cfg=VISION, text_cfg=SIGLIP_TEXT
    ),
    'small-clipa': dict(
        embed_dim=16,
        vision_cfg=dict(VISION, no_ln_pre=True, pool_type='avg', final_ln_after_pool=True),
        text_cfg=CLIPA_TEXT,
    ),
    'small-coca': dict(
        embed_dim=16,
        custom_text=True,
        vision_cfg=dict(VISION, attentional_pool=True, attn_pooler_heads=2, output_tokens=True),
        text_cfg=dict(TEXT, embed_cls=True, output_tokens=True),
        multimodal_cfg=dict(TEXT, attn_pooler_heads=2),
    ),
}
# What open_clip's table says of their weights; the file is the default one, safe or pickled.
TAGS = {
    'small-clip': dict(
        quick=pretrained._pcfg(hf_hub='small/clip/', quick_gelu=True),
        plain=pretrained._mccfg(hf_hub='small/clip-plain/'),
    ),
    'small-siglip': dict(webli=pretrained._slpcfg(hf_hub='small/siglip/')),
    'small-clipa': dict(datacomp1b=pretrained._apcfg(hf_hub='small/clipa/pytorch_model.bin')),
    'small-coca': dict(laion=pretrained._pcfg(hf_hub='small/coca/')),
}


def write_repo(cache: Path, repo: str, files: Mapping[str, bytes]) -> Path:
    """Puts files of a repository into a cache, as a download does; returns their folder."""
    root, commit = cache / f'models--{repo.replace("/", "--")}', '0' * 40
    snapshot = root / 'snapshots' / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    (root / 'refs').mkdir(exist_ok=True)
    (root / 'refs' / 'main').write_text(commit)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)
    return snapshot


def use_cache(patch, cache: Path) -> None:
    """Lets huggingface_hub read this cache and nothing else; adds the models to open_clip's."""
    patch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(cache))
    patch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    patch.setenv('XDG_CACHE_HOME', str(cache / 'xdg'))
    files, folder = open_clip_config._files(), cache / 'architectures'
    folder.mkdir(exist_ok=True)
    for name, config in ARCHITECTURES.items():
        files[name] = folder / f'{name}.json'
        files[name].write_text(json.dumps(config))
        patch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
        patch.setitem(pretrained._PRETRAINED, name, TAGS[name])
    patch.setattr(open_clip_config, '_files', lambda: files)


def write_cache(cache: Path) -> None:
    """Writes random weights of every model, and the tokenizers; after :func:`use_cache`."""
    for name, tags in TAGS.items():
        for tag, entry in tags.items():
            torch.manual_seed(len(tag))
            state = open_clip.create_model(name).state_dict()
            repo, _, file = entry['hf_hub'].rpartition('/')
            file = file or 'open_clip_model.safetensors'
            content = pickled(state) if file.endswith('.bin') else save(state)
            write_repo(cache, repo, {file: content})
    write_repo(cache, 'small/words', tokenizer_files(word_tokenizer(), '<unk>', '</s>', '</s>'))
    write_repo(cache, 'small/pieces', tokenizer_files(piece_tokenizer(), '[UNK]', '[PAD]', '[SEP]'))
    write_repo(cache, 'small/repo', repo_files(ARCHITECTURES['small-clip']))


def pickled(state: Mapping[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state_dict={f'module.{k}': v for k, v in state.items()}), buffer)
    return buffer.getvalue()


def repo_files(config: dict, **preprocess) -> dict[str, bytes]:
    """A repository as open_clip's push_to_hf_hub writes it."""
    preprocess = dict(
        mean=HALF,
        std=NORMALISE['std'],
        interpolation='bilinear',
        resize_mode='squash',
        **preprocess,
    )
    torch.manual_seed(3)
    state = open_clip.create_model('small-clip').state_dict()
    description = dict(model_cfg=config, preprocess_cfg=preprocess)
    return {
        'open_clip_config.json': json.dumps(description).encode(),
        'open_clip_pytorch_model.bin': pickled(state),
    }


def tokenizer_files(tokenizer: Tokenizer, unk: str, pad: str, end: str) -> dict[str, bytes]:
    names = dict(unk_token=unk, pad_token=pad, eos_token=end, sep_token=end)
    settings = dict(tokenizer_class='PreTrainedTokenizerFast', **names)
    return {
        'config.json': b'{}',
        'tokenizer.json': tokenizer.to_str().encode(),
        'tokenizer_config.json': json.dumps(settings).encode(),
    }


def word_tokenizer() -> Tokenizer:
    """SentencePiece's kind: a space is part of a word, only the end is added."""
    pieces = ['<pad>', '</s>', '<unk>', *WORDS]
    tokenizer = Tokenizer(
        models.Unigram([(piece, -float(n)) for n, piece in enumerate(pieces)], unk_id=2)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(['<pad>', '</s>', '<unk>'])
    tokenizer.post_processor = processors.TemplateProcessing(
        single='$A </s>', special_tokens=[('</s>', 1)]
    )
    return tokenizer


def piece_tokenizer() -> Tokenizer:
    """BERT's kind."""
    pieces = [
        '[PAD]',
        '[UNK]',
        '[CLS]',
        '[SEP]',
        *'abcdefghijklmnop',
        'man',
        'red',
        'coat',
        '##s',
        '##d',
    ]
    tokenizer = Tokenizer(models.WordPiece({p: n for n, p in enumerate(pieces)}, unk_token='[UNK]'))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(['[PAD]', '[UNK]', '[CLS]', '[SEP]'])
    tokenizer.post_processor = processors.TemplateProcessing(
        single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 2), ('[SEP]', 3)]
    )
    return tokenizer


def changed_text(**changes):
    """The small CLIP with other settings of its text tower."""
    return {
        **ARCHITECTURES['small-clip'],
        'text_cfg': {**ARCHITECTURES['small-clip']['text_cfg'], **changes},
    }


def changed_vision(**changes):
    """The same of its image tower."""
    return {
        **ARCHITECTURES['small-clip'],
        'vision_cfg': {**ARCHITECTURES['small-clip']['vision_cfg'], **changes},
    }
