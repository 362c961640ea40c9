"""CLIP's two transformer towers from open_clip, on any grid of patches."""

from pathlib import Path

import torch
from mmengine.logging import print_log
from open_clip import add_model_config, get_model_config, list_models
from open_clip.model import CLIP
from torch import Tensor, nn

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.models.backbones.weights import (
    adapt_clip_state,
    find_pretrained,
    read_clip_state,
)
from sen_toolbox.models.features import BackboneSpec, PairFeatures
from sen_toolbox.registry import BACKBONES

# 'tiny' trains on a CPU within minutes.
add_model_config(Path(__file__).with_name('architectures'))


@BACKBONES.register_module()
class CLIPBackbone(nn.Module):
    """Vision and text transformer that return every token projected to the joint space.

    The modules are open_clip's; the forward passes are written here, since open_clip projects only
    the pooled token, embeds all patches and insists on captions of full length.

    Args:
        arch: Name of an open_clip model with a plain ViT and text transformer, for instance
            'ViT-B-16-quickgelu', or 'tiny', or its config as a dict (``embed_dim``, ``vision_cfg``,
            ``text_cfg``, ``quick_gelu``).
        image_size: Input image as (rows, columns), in pixels. Pixels beyond the last whole patch
            are not seen.
        stride: Step between patches, in pixels; None for the patch size.
        pretrained: Weights loaded before training: 'openai', or a file: OpenAI's ``.pt``, an
            open_clip checkpoint, safetensors, or a checkpoint of this toolbox. None for random
            weights.

    Raises:
        KeyError: If open_clip has no such model.
        ValueError: If the architecture is not a plain CLIP, or the image smaller than a patch.
    """

    def __init__(
        self,
        *,
        arch: str | dict,
        image_size: tuple[int, int],
        stride: int | None = None,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        config = _architecture(arch)
        self.arch = arch if isinstance(arch, str) else 'the configured architecture'
        self.pretrained = pretrained
        patch = config['vision_cfg']['patch_size']
        stride = stride or patch
        rows, columns = image_size
        if min(rows, columns) < patch:
            raise ValueError(f'image_size {image_size} is smaller than a patch of {patch} pixels')
        grid_size = ((rows - patch) // stride + 1, (columns - patch) // stride + 1)
        config['vision_cfg']['image_size'] = (grid_size[0] * patch, grid_size[1] * patch)
        clip = CLIP(**config)
        self.visual = clip.visual
        self.visual.conv1.stride = (stride, stride)
        self.transformer = clip.transformer
        self.token_embedding = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.ln_final = clip.ln_final
        self.text_projection = clip.text_projection
        self.register_buffer('attn_mask', clip.attn_mask, persistent=False)
        self.spec = BackboneSpec(
            embed_dim=config['embed_dim'],
            image_size=(rows, columns),
            patch_size=patch,
            grid_size=grid_size,
            stride=stride,
            vocab_size=clip.vocab_size,
            context_length=clip.context_length,
        )

    def init_weights(self) -> None:
        """Loads ``pretrained``; the position embedding is resized to the grid.

        Raises:
            FileNotFoundError: If the weights are not to be had; names the file to put where.
            ValueError: If keys or shapes do not match; names them.
        """
        if self.pretrained is None:
            return
        path = find_pretrained(self.pretrained, self.arch)
        state, is_ours = read_clip_state(path)
        state, resized = adapt_clip_state(state, self.spec.grid_size, square=not is_ours)
        check_keys(self, state, path)
        self.load_state_dict(state)
        print_log(
            f'CLIP weights from {path}: {len(state)} tensors, position embedding {resized}',
            logger='current',
        )

    def forward(self, images: Tensor, tokens: Tensor) -> PairFeatures:
        """Encodes images (B, 3, H, W) and token ids (B, L)."""
        image_tokens, text_tokens = self.encode_image(images), self.encode_text(tokens)
        return PairFeatures(
            image=self.pool_image(image_tokens),
            text=self.pool_text(text_tokens, tokens),
            image_tokens=image_tokens,
            text_tokens=text_tokens,
        )

    def encode_image(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """Projected class and patch tokens (B, 1 + N, D) of images (B, 3, H, W).

        Args:
            images: Normalised images of ``spec.image_size``.
            keep: Indices (B, K) of the patches that enter the transformer; the result then has
                1 + K tokens, in this order.

        Raises:
            ValueError: If the images have another size.
        """
        if tuple(images.shape[2:]) != self.spec.image_size:
            raise ValueError(
                f'expected images of {self.spec.image_size} (rows, columns), '
                f'got {tuple(images.shape[2:])}; resize them in the pipeline'
            )
        visual = self.visual
        x = visual.conv1(images).flatten(2).transpose(1, 2)
        position = visual.positional_embedding.to(x.dtype)
        x = x + position[1:]
        if keep is not None:
            x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
        first = visual.class_embedding.to(x.dtype) + position[0]
        x = torch.cat([first.expand(len(x), 1, -1), x], dim=1)
        x = visual.ln_post(visual.transformer(visual.ln_pre(x)))
        return x @ visual.proj

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Projected tokens (B, L, D) of token ids (B, L), L up to ``spec.context_length``.

        Raises:
            ValueError: If the captions are longer.
        """
        length = tokens.shape[1]
        if length > self.spec.context_length:
            raise ValueError(
                f'captions of {length} tokens exceed the context of {self.spec.context_length}'
            )
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        x = self.transformer(x, attn_mask=self.attn_mask[:length, :length])
        return self.ln_final(x) @ self.text_projection

    def pool_image(self, image_tokens: Tensor) -> Tensor:
        """Global embedding (B, D): the class token."""
        return image_tokens[:, 0]

    def pool_text(self, text_tokens: Tensor, tokens: Tensor) -> Tensor:
        """Global embedding (B, D): the end token, which has the highest id of the vocabulary."""
        return text_tokens[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=1)]


def _architecture(arch: str | dict) -> dict:
    """A fresh open_clip model config; refuses what is no plain CLIP."""
    if isinstance(arch, str):
        config = get_model_config(arch)
        if config is None:
            raise KeyError(f'open_clip has no model {arch!r}; it has {list_models()}')
    else:
        config = arch
    allowed = {'embed_dim', 'vision_cfg', 'text_cfg', 'quick_gelu'}
    foreign = sorted(
        (set(config) - allowed)
        | (
            {'timm_model_name', 'hf_model_name'}
            & (set(config['vision_cfg']) | set(config['text_cfg']))
        )
    )
    if foreign or not isinstance(config['vision_cfg'].get('layers'), int):
        raise ValueError(
            f'CLIPBackbone takes a plain ViT and text transformer; {arch!r} has '
            f'{foreign or "a ResNet"}'
        )
    parts = {key: dict(config[key]) for key in ('vision_cfg', 'text_cfg')}
    return {**config, **parts}
