"""open_clip's other towers (EVA, MobileCLIP, PE, ViTamin, ConvNeXt, ResNet) with CLIP's words."""

import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from open_clip import get_model_config, list_models
from open_clip.model import CustomTextCLIP, convert_to_custom_text_state_dict
from torch import Tensor, nn

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.models.backbones.weights import (
    EXPECTED_UNUSED,
    POSITION_KEY,
    adapt_clip_state,
    find_pretrained,
    read_tensors,
)
from sen_toolbox.models.features import GLOBAL_FEATURES, BackboneSpec, PairFeatures
from sen_toolbox.registry import BACKBONES

# What the pipelines' Tokenize writes.
CLIP_VOCABULARY = 49408
# Embeddings with one row a cell of the grid, of timm's towers and of CLIP's ResNets.
POSITION_KEYS = ('visual.trunk.pos_embed', 'visual.attnpool.positional_embedding')


@BACKBONES.register_module()
class OpenCLIPBackbone(nn.Module):
    """The open_clip models whose image tower :class:`CLIPBackbone` refuses.

    Every tower gives global embeddings and text tokens. Image tokens come from a ViT that pools
    its class token; without them ``spec.grid_size`` is (0, 0). No tower encodes only some patches.

    Args:
        arch: open_clip's name of the model, for instance 'EVA02-B-16', or its config as a dict.
        image_size: Input image as (rows, columns), in pixels.
        pretrained: Weights loaded before training: 'openai', or a file: a checkpoint of open_clip
            or of this toolbox, safetensors or OpenAI's ``.pt``. None for random weights.

    Raises:
        KeyError: If open_clip has no such model.
        ValueError: If the model does not fit, or the image size not the tower.
    """

    def __init__(
        self, *, arch: str | dict, image_size: tuple[int, int], pretrained: str | None = None
    ) -> None:
        super().__init__()
        config = _architecture(arch)
        self.arch = arch if isinstance(arch, str) else 'the configured architecture'
        self.pretrained = pretrained
        clip = CustomTextCLIP(**config)
        self.visual = clip.visual
        self.text = clip.text
        image_size = tuple(image_size)
        patch, self.position_grid = _set_input_size(self.visual, image_size)
        trunk = getattr(self.visual, 'trunk', None)
        has_tokens = getattr(trunk, 'global_pool', None) == 'token'
        self.fields = GLOBAL_FEATURES | {'text_tokens'}
        if has_tokens:
            self.fields |= {'image_tokens'}
        self.spec = BackboneSpec(
            embed_dim=config['embed_dim'],
            image_size=image_size,
            patch_size=patch if has_tokens else 0,
            grid_size=self.position_grid if has_tokens else (0, 0),
            stride=patch if has_tokens else 0,
            vocab_size=self.text.vocab_size,
            context_length=self.text.context_length,
        )

    def init_weights(self) -> None:
        """Loads ``pretrained``; a position embedding is resized to the grid.

        Raises:
            FileNotFoundError: If the weights are not to be had; names the file to put where.
            ValueError: If keys or shapes do not match; names them.
        """
        if self.pretrained is None:
            return
        path = find_pretrained(self.pretrained, self.arch)
        state, is_ours = _read_state(path)
        state, position = self._fit_position(state, square=not is_ours)
        check_keys(self, state, path)
        self.load_state_dict(state)
        print_log(
            f'weights from {path}: {len(state)} tensors, position embedding {position}',
            logger='current',
        )

    def _fit_position(
        self, state: dict[str, Tensor], *, square: bool
    ) -> tuple[dict[str, Tensor], str]:
        own = dict(self.named_parameters())
        key = next((key for key in POSITION_KEYS if key in state and key in own), None)
        if key is None:
            return state, 'none'
        rows = state[key].flatten(0, -2)
        extra = own[key].flatten(0, -2).shape[0] - math.prod(self.position_grid)
        # adapt_clip_state expects one row before the grid; towers have one or none.
        clip = {POSITION_KEY: torch.cat([rows[:1], rows[extra:]])}
        fitted, phrase = adapt_clip_state(clip, self.position_grid, square=square)
        rows = torch.cat([rows[:extra], fitted[POSITION_KEY][1:]])
        return {**state, key: rows.view_as(own[key])}, phrase

    def forward(
        self,
        images: Tensor | None,
        tokens: Tensor | None,
        reads: frozenset[str] = GLOBAL_FEATURES,
    ) -> PairFeatures:
        """Encodes images (B, 3, H, W) and token ids (B, L).

        Args:
            images: Normalised images of ``spec.image_size``; None leaves out their features.
            tokens: Token ids; None leaves out their features.
            reads: Fields of ``PairFeatures`` to fill.

        Raises:
            ValueError: If the towers do not give a field.
        """
        if missing := sorted(reads - self.fields):
            raise ValueError(f'{self.arch} has no {missing}, only {sorted(self.fields)}')
        feats = PairFeatures(image=None, text=None)
        if images is not None and 'image_tokens' in reads:
            feats.image_tokens = self.encode_image(images)
            feats.image = feats.image_tokens[:, 0]
        elif images is not None:
            feats.image = self.embed_image(images)
        if tokens is not None:
            feats.text_tokens = self.encode_text(tokens)
            feats.text = _pool(feats.text_tokens, tokens)
        return feats

    def embed_image(self, images: Tensor) -> Tensor:
        """Global embeddings (B, D) of images (B, 3, H, W), pooled as the tower does."""
        self._check_size(images)
        return self.visual(images)

    def embed_text(self, tokens: Tensor) -> Tensor:
        """Global embeddings (B, D) of token ids (B, L): the end token."""
        return _pool(self.encode_text(tokens), tokens)

    def encode_image(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """Projected class and patch tokens (B, 1 + N, D) of images (B, 3, H, W).

        Raises:
            ValueError: If the tower gives no tokens, if ``keep`` asks for some patches only, or if
                the images have another size.
        """
        if 'image_tokens' not in self.fields:
            raise ValueError(f'{self.arch} gives no image tokens; use embed_image')
        if keep is not None:
            raise ValueError(f'{self.arch} cannot encode some patches only; use CLIPBackbone')
        self._check_size(images)
        x = self.visual.trunk.forward_features(images)
        # Each token goes through the head as if it were the class token.
        tokens = self.visual.head(self.visual.trunk.forward_head(x.flatten(0, 1)[:, None]))
        return tokens.unflatten(0, x.shape[:2])

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Projected tokens (B, L, D) of token ids (B, L), L up to ``spec.context_length``.

        Raises:
            ValueError: If the captions are longer.
        """
        length, context = tokens.shape[1], self.spec.context_length
        if length > context:
            raise ValueError(
                f'captions of {length} tokens exceed the context of {context} of {self.arch}; '
                f'set context_length={context}'
            )
        # Towers without a causal mask attend to the padding, so it has the length of pretraining.
        x = self.text.token_embedding(F.pad(tokens, (0, context - length)))
        x = self.text.transformer(x + self.text.positional_embedding, attn_mask=self.text.attn_mask)
        return self.text.ln_final(x[:, :length]) @ self.text.text_projection

    def _check_size(self, images: Tensor) -> None:
        if tuple(images.shape[2:]) != self.spec.image_size:
            raise ValueError(
                f'expected images of {self.spec.image_size} (rows, columns), '
                f'got {tuple(images.shape[2:])}; resize them in the pipeline'
            )


def _pool(text_tokens: Tensor, tokens: Tensor) -> Tensor:
    # The end token has the highest id of the vocabulary.
    return text_tokens[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=1)]


def _set_input_size(visual: nn.Module, image_size: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Fits the tower to the image; returns the side of a cell and the grid (rows, columns)."""
    rows, columns = image_size
    trunk = getattr(visual, 'trunk', None)
    # Towers without an embedding of patches are convolutional; 32 is the stride of most of them.
    cell = trunk.patch_embed.feat_ratio() if hasattr(trunk, 'patch_embed') else 32
    if rows % cell or columns % cell:
        raise ValueError(f'image_size {image_size} is no multiple of {cell} pixels')
    grid = (rows // cell, columns // cell)
    if hasattr(trunk, 'set_input_size'):
        visual.set_input_size(image_size)
    elif trunk is None:
        position = visual.attnpool.positional_embedding
        width = position.shape[1]
        visual.attnpool.positional_embedding = nn.Parameter(
            torch.randn(1 + math.prod(grid), width) / width**0.5
        )
    return cell, grid


def _read_state(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Tensors in float32 under this backbone's names, and whether the file is the toolbox's."""
    state: Mapping[str, Tensor] = read_tensors(path)
    is_ours = any(key.startswith('backbone.') for key in state)
    for prefix in ('module.', 'backbone.'):
        inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        state = inner or state
    state = convert_to_custom_text_state_dict(state)
    used = {
        k: v.float() if v.is_floating_point() else v
        for k, v in state.items()
        if k.removeprefix('text.') not in EXPECTED_UNUSED
    }
    return used, is_ours


def _architecture(arch: str | dict) -> dict:
    """A fresh open_clip model config; refuses what does not fit."""
    config = get_model_config(arch) if isinstance(arch, str) else deepcopy(arch)
    if config is None:
        raise KeyError(f'open_clip has no model {arch!r}; it has {list_models()}')
    vision, text = config['vision_cfg'], config['text_cfg']
    reason = None
    if 'multimodal_cfg' in config:
        reason = 'is a captioner (CoCa), no dual encoder'
    elif 'hf_model_name' in text:
        reason = f'takes the text tower {text["hf_model_name"]} and its tokenizer from a download'
    elif (words := text.get('vocab_size', CLIP_VOCABULARY)) != CLIP_VOCABULARY:
        reason = f'has a vocabulary of {words}, and Tokenize writes the {CLIP_VOCABULARY} of CLIP'
    elif text.get('pool_type', 'argmax') != 'argmax':
        reason = f'pools its text by {text["pool_type"]!r}, not at the end token'
    elif 'timm_model_name' not in vision and isinstance(vision.get('layers', 0), int):
        reason = 'is a plain ViT, which CLIPBackbone takes'
    if reason:
        raise ValueError(f'OpenCLIPBackbone does not take {arch!r}: it {reason}')
    config.pop('custom_text', None)
    return config
