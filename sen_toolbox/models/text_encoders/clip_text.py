"""CLIP's text transformer on captions of any length."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sen_toolbox.checks import checked_share
from sen_toolbox.models.blocks import attention_row, run_block
from sen_toolbox.models.features import TextFeatures, TextSpec
from sen_toolbox.models.open_clip_config import (
    build_transformer,
    make_norm,
    open_clip_config,
    tower_settings,
)
from sen_toolbox.models.requests import check_text_request
from sen_toolbox.models.weights import load_tower, resize_text_position_embedding
from sen_toolbox.registry import TEXT_ENCODERS
from sen_toolbox.text.tokenizers import CLIPTokenizer
from sen_toolbox.text.tokens import Tokens

POSITION_KEY = 'positional_embedding'
# Settings of open_clip's towers with its defaults.
DEFAULTS = dict(
    context_length=77, vocab_size=CLIPTokenizer.vocab_size, width=512, heads=8, layers=12,
    mlp_ratio=4.0, ls_init_value=None, no_causal_mask=False, act_kwargs=None, norm_kwargs=None,
)  # fmt: skip
# Those that change what the forward pass here computes.
PLAIN = dict(
    hf_model_name=None, embed_cls=False, pool_type='argmax', proj_bias=False, proj_type='linear',
    final_ln_after_pool=False, block_type=None, qk_norm=False, scaled_cosine_attn=False,
    scale_heads=False, scale_attn_inner=False, scale_attn=False, scale_fc=False,
)  # fmt: skip
# Those of other towers, and what is chosen otherwise here.
UNREAD = (
    'hf_tokenizer_name', 'tokenizer_mode', 'tokenizer_kwargs', 'pad_id', 'eos_id', 'output_tokens',
    'hf_model_pretrained', 'hf_proj_type', 'hf_pooler_type',
)  # fmt: skip


@TEXT_ENCODERS.register_module()
class CLIPTextTransformer(nn.Module):
    """A text transformer that returns every token projected to the joint space.

    Names and initial weights are those of open_clip, which projects only the pooled token and
    insists on captions of full length.

    Args:
        arch: Name of an open_clip model with CLIP's text transformer, for instance
            'ViT-B-16-quickgelu' or 'EVA02-B-16', or 'tiny', or its config as a dict
            (``embed_dim``, ``text_cfg``, ``quick_gelu``).
        context_length: Tokens of the longest caption; None for the architecture's own. CLIP knows
            77; pretrained positions are resized linearly.
        attention_dropout: Share of the attention weights that training drops.
        pretrained: Weights loaded before training; as for ``CLIPVisionTransformer``, of which only
            the text tower is taken.

    Raises:
        KeyError: If open_clip has no such model.
        ValueError: If the architecture is another kind of text tower, or ``attention_dropout`` not
            in 0..1.
    """

    provides = frozenset({'tokens', 'attention'})

    def __init__(
        self,
        *,
        arch: str | dict,
        context_length: int | None = None,
        attention_dropout: float = 0.0,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        checked_share('attention_dropout', attention_dropout)
        config = open_clip_config(arch)
        settings, odd = tower_settings(config['text_cfg'], DEFAULTS, PLAIN, UNREAD)
        _require_plain(arch, odd)
        if context_length is not None:
            settings.context_length = context_length
        self.arch, self.pretrained = arch, pretrained
        width = settings.width
        self.token_embedding = nn.Embedding(settings.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(settings.context_length, width))
        self.transformer = build_transformer(
            settings, settings.heads, quick_gelu=config.get('quick_gelu', False)
        )
        for block in self.transformer.resblocks:
            block.attn.dropout = attention_dropout
        self.ln_final = make_norm(settings)(width)
        self.text_projection = nn.Parameter(torch.empty(width, config['embed_dim']))
        self._draw_weights()
        self.causal = not settings.no_causal_mask
        self.spec = TextSpec(
            width=config['embed_dim'],
            vocab_size=settings.vocab_size,
            context_length=settings.context_length,
            # Without a causal mask words attend to the padding, which pretraining had too.
            cuts_padding=self.causal,
        )

    def _draw_weights(self) -> None:
        """Standard deviations of OpenAI's CLIP, in the order of open_clip."""
        blocks = self.transformer.resblocks
        width = self.text_projection.shape[0]
        output_std = width**-0.5 * (2 * len(blocks)) ** -0.5
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        for block in blocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=output_std)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=output_std)
        nn.init.normal_(self.text_projection, std=width**-0.5)

    @property
    def word_embedding(self) -> nn.Embedding:
        """The table of words."""
        return self.token_embedding

    def load_weights(self) -> None:
        """Loads ``pretrained``; the position embedding is resized to the context.

        Raises:
            FileNotFoundError: If the weights are not to be had; names the file to put where.
            ValueError: If keys or shapes do not match; names them.
        """
        if self.pretrained is not None:
            load_tower(self, 'text', self.pretrained, self.arch, self._fit)

    def _fit(self, state: dict[str, Tensor], is_ours: bool) -> str:
        given, length = len(state[POSITION_KEY]), self.spec.context_length
        if given == length:
            return 'position embedding as it is'
        state[POSITION_KEY] = resize_text_position_embedding(state[POSITION_KEY], length)
        return f'position embedding resized from {given} to {length} tokens'

    def forward(self, tokens: Tokens, reads: frozenset[str] = provides) -> TextFeatures:
        """Encodes captions; the last block runs on the end token alone if nothing reads others.

        Args:
            tokens: Captions of up to ``spec.context_length`` tokens.
            reads: Names of features.

        Raises:
            ValueError: If the captions are longer, or if it has no such features.
        """
        check_text_request(self, tokens, reads)
        *blocks, last = self.transformer.resblocks
        ids, length = tokens.ids, tokens.ids.shape[1]
        if not self.causal:
            ids = F.pad(ids, (0, self.spec.context_length - length))
        x = self.token_embedding(ids) + self.positional_embedding.narrow(0, 0, ids.shape[1])
        for block in blocks:
            x = run_block(block, x, causal=self.causal)
        # Not len(x), which would fix the number of captions of an exported model.
        rows = torch.arange(x.shape[0], device=x.device)
        row = x[rows, tokens.end][:, None]
        hidden = self._hidden_from_end(tokens, x.shape[1])
        attention = None
        if 'attention' in reads:
            attention = attention_row(last, x, row, hidden)[:, :length]
        if 'tokens' in reads:
            every = self._project(run_block(last, x, causal=self.causal))
            pooled, every = every[rows, tokens.end], every[:, :length]
        else:
            seen = None if hidden is None else ~hidden[:, None, None]
            pooled = self._project(run_block(last, x, queries=row, attn_mask=seen))[:, 0]
            every = None
        return TextFeatures(
            pooled, tokens=every, mask=tokens.mask, end=tokens.end, attention=attention
        )

    def _hidden_from_end(self, tokens: Tokens, length: int) -> Tensor | None:
        """True (T, length) at the tokens that the causal mask hides from the end token."""
        if not self.causal:
            return None
        return torch.arange(length, device=tokens.end.device) > tokens.end[:, None]

    def _project(self, x: Tensor) -> Tensor:
        return self.ln_final(x) @ self.text_projection


def _require_plain(arch: str | dict, odd: list[str]) -> None:
    if odd:
        raise ValueError(
            f"CLIPTextTransformer takes CLIP's text transformer; {arch!r} differs in "
            f'{", ".join(odd)}'
        )
