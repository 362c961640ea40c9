"""The image's and the caption's parts of one transformer."""

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from sen_toolbox.models.features import TextFeatures
from sen_toolbox.models.image_encoders import TimmViT
from sen_toolbox.models.pretrained import find_weights, load_weights, read_weights
from sen_toolbox.models.requests import check_text_request
from sen_toolbox.models.text_encoders import BERT
from sen_toolbox.registry import IMAGE_ENCODERS, TEXT_ENCODERS
from sen_toolbox.text.tokens import Tokens


@IMAGE_ENCODERS.register_module()
class TypedViT(TimmViT):
    """Adds a second position embedding, which says of all patches that they are of an image.

    Args:
        **options: Those of ``TimmViT``.
    """

    adds = frozenset({'type_embed'})

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.type_embed = nn.Parameter(torch.empty_like(self.pos_embed))
        nn.init.trunc_normal_(self.type_embed, std=0.02)

    def positions(self) -> Tensor:
        """The sum of both embeddings."""
        return self.pos_embed + self.type_embed


@TEXT_ENCODERS.register_module()
class BorrowingBERT(nn.Module):
    """BERT's embeddings and MLPs; attention and norms are those of an image encoder.

    The embedding is the first token's, behind the last norm. Before it is called :meth:`borrow`
    says of whom.

    Args:
        config: Sizes in the words of transformers' ``BertConfig``, as those of ``BERT``.
        context_length: Longest caption, in tokens.
        dropout: Share of the embeddings that training drops.
        pretrained: Weights loaded before training: a local file with bert-base-uncased in the
            format of transformers, or a checkpoint of this toolbox with this encoder. None for
            random weights.
    """

    provides = frozenset({'tokens'})

    def __init__(
        self,
        *,
        config: dict | None = None,
        context_length: int | None = None,
        dropout: float = 0.1,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        bert = BERT(config=config, context_length=context_length, dropout=dropout)
        self.config, self.pretrained, self.spec = config, pretrained, bert.spec
        self.embeddings = bert.embeddings
        inner = bert.encoder.layer[0].intermediate.dense.out_features
        self.mlps = nn.ModuleList(Mlp(bert.spec.width, inner) for _ in bert.encoder.layer)

    def borrow(self, image: TimmViT) -> None:
        """Takes attention and norms of this encoder, which stay parts of it.

        Raises:
            ValueError: If it has another width or number of blocks.
        """
        widths = image.spec.width, self.spec.width
        counts = len(image.blocks), len(self.mlps)
        if widths[0] != widths[1] or counts[0] != counts[1]:
            raise ValueError(
                f'one transformer has one width and depth for both: images have {widths[0]} and '
                f'{counts[0]} blocks, captions {widths[1]} and {counts[1]} (hidden_size, '
                'num_hidden_layers)'
            )
        self._lender = [image]  # in a list, because it is not a part of this encoder

    @property
    def word_embedding(self) -> nn.Embedding:
        """The table of words."""
        return self.embeddings.word_embeddings

    def load_weights(self) -> None:
        """Loads ``pretrained``; of a BERT its embeddings and the MLPs of its layers.

        Raises:
            FileNotFoundError: If there is no such file; says which to get.
            ValueError: If keys or shapes do not match; names them.
        """
        if self.pretrained is None:
            return
        wanted = 'model.safetensors of google-bert/bert-base-uncased on Hugging Face'
        path = find_weights(self.pretrained, 'text', wanted)
        state, is_ours = read_weights(path, 'text')
        if is_ours:
            load_weights(self, state, path)
            return
        bert = BERT(config=self.config, pretrained=self.pretrained)
        bert.load_weights()
        self.embeddings.load_state_dict(bert.embeddings.state_dict())
        for mlp, layer in zip(self.mlps, bert.encoder.layer, strict=True):
            mlp.fc1.load_state_dict(layer.intermediate.dense.state_dict())
            mlp.fc2.load_state_dict(layer.output.dense.state_dict())

    def forward(
        self, tokens: Tokens, reads: frozenset[str] = frozenset(), keep: Tensor | None = None
    ) -> TextFeatures:
        """Encodes captions of up to ``spec.context_length`` tokens, the first of which is [CLS].

        Args:
            tokens: The captions.
            reads: Names of features.
            keep: Columns (K,) of the tokens that enter the transformer beside the first, the same
                for all captions; None for all.

        Raises:
            ValueError: If the captions are longer, or if it has no such features.
        """
        check_text_request(self, tokens, reads)
        x, mask = self.embeddings(tokens.ids), tokens.mask
        if keep is not None:
            columns = torch.cat([keep.new_zeros(1), keep])
            x, mask = x.index_select(1, columns), mask.index_select(1, columns)
        image = self._lender[0]
        last = len(self.mlps) - 1
        for number, (block, mlp) in enumerate(zip(image.blocks, self.mlps, strict=True)):
            alone = number == last and 'tokens' not in reads
            x = _run(block, mlp, x, mask, alone=alone)
        x = image.norm(x)
        return TextFeatures(
            x[:, 0], tokens=x if 'tokens' in reads else None, mask=tokens.mask, end=tokens.end
        )


def _run(block: Block, mlp: nn.Module, x: Tensor, mask: Tensor, *, alone: bool) -> Tensor:
    """The block with another MLP on tokens (T, L, W), or on the first of them alone."""
    attention, keys = block.attn, block.norm1(x)
    weight, bias = attention.qkv.weight, attention.qkv.bias
    width = len(weight) // 3
    rows = keys[:, :1] if alone else keys
    x = x[:, :1] if alone else x
    query = F.linear(rows, weight[:width], bias[:width])
    key, value = F.linear(keys, weight[width:], bias[width:]).chunk(2, dim=2)
    query, key, value = (
        part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in (query, key, value)
    )
    mixed = F.scaled_dot_product_attention(query, key, value, mask[:, None, None])
    x = x + block.drop_path1(block.ls1(attention.proj(mixed.transpose(1, 2).flatten(2))))
    return x + block.drop_path2(block.ls2(mlp(block.norm2(x))))
