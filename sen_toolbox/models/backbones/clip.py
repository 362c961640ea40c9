"""CLIP's two transformer towers from open_clip, on any grid of patches."""

from pathlib import Path

import torch
import torch.nn.functional as F
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
from sen_toolbox.models.blocks import recompute_blocks, replace_blocks, run_block
from sen_toolbox.models.features import ALL_FEATURES, BackboneSpec, PairFeatures
from sen_toolbox.registry import BACKBONES

# 'tiny' trains on a CPU within minutes.
add_model_config(Path(__file__).with_name('architectures'))


@BACKBONES.register_module()
class CLIPBackbone(nn.Module):
    """Vision and text transformer that return every token projected to the joint space.

    The weights are open_clip's modules; the forward passes are written here, since open_clip
    projects only the pooled token, embeds all patches and insists on captions of full length.

    Args:
        arch: Name of an open_clip model with a plain ViT and text transformer, for instance
            'ViT-B-16-quickgelu', or 'tiny', or its config as a dict (``embed_dim``, ``vision_cfg``,
            ``text_cfg``, ``quick_gelu``).
        image_size: Input image as (rows, columns), in pixels. Pixels beyond the last whole patch
            are not seen.
        stride: Step between patches, in pixels; None for the patch size.
        pretrained: Weights loaded before training: 'openai', or a file: OpenAI's ``.pt``, an
            open_clip checkpoint, safetensors, or a checkpoint of this toolbox or in the layout of
            IRRA, of which only the towers are taken. None for random weights.
        context_length: Tokens of the longest caption; None for the architecture's own. CLIP knows
            77; pretrained positions are resized linearly.
        text_dropout: Share of the weights that training drops in the text tower's attention.
        checkpoint_activations: Whether training keeps the input of each block only and computes
            the block again for its gradient: less memory, a second forward pass of the blocks.
            Holds for the blocks of the model's heads too.
        compile_blocks: Whether ``torch.compile`` compiles the blocks, once for all lengths of
            captions and sizes of batches. It pays on a GPU.

    Raises:
        KeyError: If open_clip has no such model.
        ValueError: If the architecture is not a plain CLIP, the image smaller than a patch, or
            ``text_dropout`` not in 0..1.
    """

    def __init__(
        self,
        *,
        arch: str | dict,
        image_size: tuple[int, int],
        stride: int | None = None,
        pretrained: str | None = None,
        context_length: int | None = None,
        text_dropout: float = 0.0,
        checkpoint_activations: bool = False,
        compile_blocks: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= text_dropout <= 1:
            raise ValueError(f'text_dropout is a share in 0..1, got {text_dropout}')
        config = _architecture(arch)
        self.arch = arch if isinstance(arch, str) else 'the configured architecture'
        self.pretrained = pretrained
        self.checkpoint_activations = checkpoint_activations
        patch = config['vision_cfg']['patch_size']
        stride = stride or patch
        rows, columns = image_size
        if min(rows, columns) < patch:
            raise ValueError(f'image_size {image_size} is smaller than a patch of {patch} pixels')
        grid_size = ((rows - patch) // stride + 1, (columns - patch) // stride + 1)
        config['vision_cfg']['image_size'] = (grid_size[0] * patch, grid_size[1] * patch)
        if context_length is not None:
            config['text_cfg']['context_length'] = context_length
        clip = CLIP(**config)
        self.visual = clip.visual
        self.visual.conv1.stride = (stride, stride)
        self.transformer = clip.transformer
        self.token_embedding = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.ln_final = clip.ln_final
        self.text_projection = clip.text_projection
        for tower in (self.visual.transformer, self.transformer):
            replace_blocks(tower)
            if compile_blocks:
                for block in tower.resblocks:
                    block.compile(dynamic=True)
        for block in self.transformer.resblocks:
            block.attn.dropout = text_dropout
        if checkpoint_activations:
            recompute_blocks(self)
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
        """Loads ``pretrained``; position embeddings are resized to the grid and text length.

        Raises:
            FileNotFoundError: If the weights are not to be had; names the file to put where.
            ValueError: If keys or shapes do not match; names them.
        """
        if self.pretrained is None:
            return
        path = find_pretrained(self.pretrained, self.arch)
        state, is_ours = read_clip_state(path)
        state, resized = adapt_clip_state(
            state,
            self.spec.grid_size,
            square=not is_ours,
            context_length=self.spec.context_length,
        )
        check_keys(self, state, path)
        self.load_state_dict(state)
        print_log(
            f'CLIP weights from {path}: {len(state)} tensors, position embedding {resized}',
            logger='current',
        )

    def forward(
        self,
        images: Tensor | None,
        tokens: Tensor | None,
        reads: frozenset[str] = ALL_FEATURES,
    ) -> PairFeatures:
        """Encodes images (B, 3, H, W) and token ids (B, L).

        The last block of a tower runs on the pooled token alone where nothing reads the others.

        Args:
            images: Normalised images of ``spec.image_size``; None leaves out their features.
            tokens: Token ids; None leaves out their features.
            reads: Fields of ``PairFeatures`` to fill.
        """
        feats = dict(image=None, text=None)
        if images is not None:
            feats |= self._image_features(images, reads)
        if tokens is not None:
            feats |= self._text_features(tokens, reads)
        return PairFeatures(**feats)

    def _image_features(self, images: Tensor, reads: frozenset[str]) -> dict[str, Tensor]:
        feats = {}
        x = self._before_last_image_block(images)
        if 'image_tokens' in reads:
            block = self.visual.transformer.resblocks[-1]
            feats['image_tokens'] = self._project_image(run_block(block, x))
            feats['image'] = feats['image_tokens'][:, 0]
        else:
            feats['image'] = self._pooled_image(x)
        if 'image_attention' in reads:
            block = self.visual.transformer.resblocks[-1]
            feats['image_attention'] = _attention_row(block, x, x[:, :1])[:, 1:]
        return feats

    def _text_features(self, tokens: Tensor, reads: frozenset[str]) -> dict[str, Tensor]:
        feats = {}
        x = self._before_last_text_block(tokens)
        end = _end_position(tokens)
        if 'text_tokens' in reads:
            block = self.transformer.resblocks[-1]
            feats['text_tokens'] = self._project_text(run_block(block, x, causal=True))
            feats['text'] = feats['text_tokens'][torch.arange(len(x), device=x.device), end]
        else:
            feats['text'] = self._pooled_text(x, end)
        if 'text_attention' in reads:
            block, rows = self.transformer.resblocks[-1], torch.arange(len(x), device=x.device)
            feats['text_attention'] = _attention_row(
                block, x, x[rows, end][:, None], hidden=_after(end, x.shape[1])
            )
        return feats

    def embed_image(self, images: Tensor) -> Tensor:
        """Global embeddings (B, D) of images (B, 3, H, W): the class token."""
        return self._pooled_image(self._before_last_image_block(images))

    def embed_text(self, tokens: Tensor) -> Tensor:
        """Global embeddings (B, D) of token ids (B, L): the end token."""
        return self._pooled_text(self._before_last_text_block(tokens), _end_position(tokens))

    def encode_image(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """Projected class and patch tokens (B, 1 + N, D) of images (B, 3, H, W).

        Args:
            images: Normalised images of ``spec.image_size``.
            keep: Indices (B, K) of the patches that enter the transformer; the result then has
                1 + K tokens, in this order.

        Raises:
            ValueError: If the images have another size.
        """
        x = self._before_last_image_block(images, keep)
        return self._project_image(run_block(self.visual.transformer.resblocks[-1], x))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Projected tokens (B, L, D) of token ids (B, L), L up to ``spec.context_length``.

        Raises:
            ValueError: If the captions are longer.
        """
        x = self._before_last_text_block(tokens)
        block = self.transformer.resblocks[-1]
        return self._project_text(run_block(block, x, causal=True))

    def _before_last_image_block(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        if tuple(images.shape[2:]) != self.spec.image_size:
            raise ValueError(
                f'expected images of {self.spec.image_size} (rows, columns), '
                f'got {tuple(images.shape[2:])}; resize them in the pipeline'
            )
        visual = self.visual
        if keep is None:
            x = visual.conv1(images).flatten(2).transpose(1, 2)
        else:
            x = self._embed_kept(images, keep)
        position = visual.positional_embedding.to(x.dtype)
        # Not position[1:][keep]: threads would add up its gradient in any order.
        x = x + (position[1:] if keep is None else F.embedding(keep, position[1:]))
        first = visual.class_embedding.to(x.dtype) + position[0]
        x = visual.ln_pre(torch.cat([first.expand(x.shape[0], 1, -1), x], dim=1))
        for block in visual.transformer.resblocks[:-1]:
            x = run_block(block, x)
        return x

    def _embed_kept(self, images: Tensor, keep: Tensor) -> Tensor:
        """What the convolution gives for the patches ``keep`` (B, K), without the others."""
        kernel = self.visual.conv1.weight
        step, columns = self.spec.stride, self.spec.grid_size[1]
        windows = images.unfold(2, kernel.shape[2], step).unfold(3, kernel.shape[3], step)
        batch = torch.arange(len(images), device=images.device)[:, None]
        patches = windows[batch, :, keep // columns, keep % columns]
        return F.linear(patches.flatten(2), kernel.flatten(1))

    def _before_last_text_block(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        if length > self.spec.context_length:
            raise ValueError(
                f'captions of {length} tokens exceed the context of {self.spec.context_length}'
            )
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        for block in self.transformer.resblocks[:-1]:
            x = run_block(block, x, causal=True)
        return x

    def _pooled_image(self, x: Tensor) -> Tensor:
        block = self.visual.transformer.resblocks[-1]
        return self._project_image(run_block(block, x, queries=x[:, :1]))[:, 0]

    def _pooled_text(self, x: Tensor, end: Tensor) -> Tensor:
        row = x[torch.arange(x.shape[0], device=x.device), end][:, None]
        seen = ~_after(end, x.shape[1])[:, None, None]
        block = self.transformer.resblocks[-1]
        return self._project_text(run_block(block, x, queries=row, attn_mask=seen))[:, 0]

    def _project_image(self, x: Tensor) -> Tensor:
        return self.visual.ln_post(x) @ self.visual.proj

    def _project_text(self, x: Tensor) -> Tensor:
        return self.ln_final(x) @ self.text_projection


def _end_position(tokens: Tensor) -> Tensor:
    # The end token has the highest id of the vocabulary.
    return tokens.argmax(dim=1)


def _after(end: Tensor, length: int) -> Tensor:
    """True (B, length) at the tokens that the causal mask hides from the end token."""
    return torch.arange(length, device=end.device) > end[:, None]


@torch.no_grad()
def _attention_row(
    block: nn.Module, x: Tensor, row: Tensor, hidden: Tensor | None = None
) -> Tensor:
    """Attention (B, L) of one token (B, 1, W) to all x, mean over heads."""
    keys = block.ln_1(x)
    return block.attn(block.ln_1(row), keys, keys, key_padding_mask=hidden)[1][:, 0]


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
