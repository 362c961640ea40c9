"""BERT, frozen or trained."""

import torch
from torch import Tensor, nn

from sen_toolbox.models.features import TextFeatures, TextSpec
from sen_toolbox.models.pretrained import load_pretrained
from sen_toolbox.models.requests import check_text_request
from sen_toolbox.registry import TEXT_ENCODERS
from sen_toolbox.text.tokens import Tokens

POOLED = ('cls', 'pooler')
# Of BertConfig's many words those that change what is computed here. Others, such as the name of an
# implementation of attention, may have transformers fetch code from Hugging Face.
SIZES = frozenset({
    'hidden_act', 'hidden_size', 'initializer_range', 'intermediate_size', 'layer_norm_eps',
    'max_position_embeddings', 'num_attention_heads', 'num_hidden_layers', 'pad_token_id',
    'type_vocab_size', 'vocab_size',
})  # fmt: skip
WANTED = 'model.safetensors or pytorch_model.bin of google-bert/bert-base-uncased on Hugging Face'
# Heads of pretraining, and a buffer that older versions of transformers saved.
UNUSED = ('cls.', 'embeddings.position_ids')
# How the parameters of a norm are called in files that were converted from TensorFlow.
OLD_NAMES = {'LayerNorm.gamma': 'LayerNorm.weight', 'LayerNorm.beta': 'LayerNorm.bias'}


@TEXT_ENCODERS.register_module()
class BERT(nn.Module):
    """The transformer of Devlin et al., NAACL 2019; names of parameters are transformers'.

    A token attends to the real tokens of its caption. Features: ``tokens`` are the last hidden
    states, ``extra.hidden_I`` those behind block I; ``extra.hidden_0`` are the embeddings that
    enter the first block (word, position and type, normalised). ``extra.head_attention`` (T, L, H)
    is the attention of each head of the last block, before its dropout. ``embeddings`` holds the
    tables.

    Args:
        config: Sizes in the words of transformers' ``BertConfig``; what is missing is that of
            bert-base-uncased (``hidden_size`` 768, ``num_hidden_layers`` 12, ``vocab_size`` 30522).
        context_length: Longest caption, in tokens; None for as many as BERT has positions.
        frozen: Whether its parameters stay as they are.
        dropout: Share of embeddings, outputs of layers and attention weights that training drops.
            Dropout is on in a frozen BERT, too: several releases train so.
        pooled: The embedding: 'cls', the last hidden state of the first token, or 'pooler', that
            state through BERT's own linear layer and tanh.
        cuts_padding: Whether nothing depends on how many padding tokens follow a caption. True of
            BERT; set False where what reads the tokens takes padding for words.
        pretrained: Weights loaded before training: a local file with bert-base-uncased in the
            format of transformers, or a checkpoint of this toolbox with this encoder. None for
            random weights.

    Raises:
        ValueError: If ``pooled`` is another word, ``config`` has one that is not a size, or there
            are fewer positions than tokens.
    """

    def __init__(
        self,
        *,
        config: dict | None = None,
        context_length: int | None = None,
        frozen: bool = False,
        dropout: float = 0.1,
        pooled: str = 'cls',
        cuts_padding: bool = True,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        # Takes seconds, which users of other encoders need not wait.
        from transformers import BertConfig, BertModel

        if pooled not in POOLED:
            raise ValueError(f'pooled is one of {list(POOLED)}, got {pooled!r}')
        if unknown := sorted(set(config or {}) - SIZES):
            raise ValueError(f'config takes {sorted(SIZES)}, got {unknown}')
        sizes = BertConfig(
            **(config or {}),
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            attn_implementation='sdpa',
        )
        positions = sizes.max_position_embeddings
        if context_length is not None and context_length > positions:
            raise ValueError(f'context_length {context_length} exceeds the {positions} positions')
        bert = BertModel(sizes, add_pooling_layer=pooled == 'pooler')
        self.embeddings, self.encoder, self.pooler = bert.embeddings, bert.encoder, bert.pooler
        self.pretrained = pretrained
        self.requires_grad_(not frozen)
        self.provides = frozenset({'tokens', 'attention', 'extra.head_attention'}) | {
            f'extra.hidden_{number}' for number in range(sizes.num_hidden_layers + 1)
        }
        self.spec = TextSpec(
            width=sizes.hidden_size,
            vocab_size=sizes.vocab_size,
            context_length=context_length or positions,
            cuts_padding=cuts_padding,
        )

    @property
    def word_embedding(self) -> nn.Embedding:
        """The table of words."""
        return self.embeddings.word_embeddings

    def load_weights(self) -> None:
        """Loads ``pretrained``; keys may begin with ``bert.``.

        Raises:
            FileNotFoundError: If there is no such file; says which to get.
            ValueError: If keys or shapes do not match; names them.
        """
        unused = UNUSED if self.pooler is not None else (*UNUSED, 'pooler.')
        load_pretrained(self, 'text', WANTED, _new_names, unused)

    def forward(self, tokens: Tokens, reads: frozenset[str] = frozenset()) -> TextFeatures:
        """Encodes captions of up to ``spec.context_length`` tokens, the first of which is [CLS].

        Args:
            tokens: The captions.
            reads: Names of features.

        Raises:
            ValueError: If the captions are longer, or if it has no such features.
        """
        check_text_request(self, tokens, reads)
        # Not BertModel.forward, which looks whether anything is masked and so waits for the GPU.
        seen = tokens.mask[:, None, None]
        x = self.embeddings(tokens.ids)
        extra, attention = {}, None
        for number, layer in enumerate(self.encoder.layer):
            if f'extra.hidden_{number}' in reads:
                extra[f'hidden_{number}'] = x
            before, x = x, layer(x, seen)
        if f'extra.hidden_{number + 1}' in reads:
            extra[f'hidden_{number + 1}'] = x
        if {'attention', 'extra.head_attention'} & reads:
            of_heads = _attention_rows(layer, before, seen)
        if 'attention' in reads:
            attention = of_heads.mean(dim=1)
        if 'extra.head_attention' in reads:
            extra['head_attention'] = of_heads.transpose(1, 2)
        return TextFeatures(
            x[:, 0] if self.pooler is None else self.pooler(x),
            tokens=x if 'tokens' in reads else None,
            mask=tokens.mask,
            end=tokens.end,
            attention=attention,
            extra=extra,
        )


@torch.no_grad()
def _attention_rows(layer: nn.Module, x: Tensor, seen: Tensor) -> Tensor:
    """Attention (T, H, L) of [CLS] to the tokens in x (T, L, W) by each head, without dropout."""
    attention = layer.attention.self
    query, key = (
        part.unflatten(2, (attention.num_attention_heads, -1)).transpose(1, 2)
        for part in (attention.query(x[:, :1]), attention.key(x))
    )
    scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
    return scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)[:, :, 0]


def _new_names(state: dict[str, Tensor], is_ours: bool) -> dict[str, Tensor]:
    return {_new_name(key): value for key, value in state.items()}


def _new_name(key: str) -> str:
    key = key.removeprefix('bert.')
    for old, new in OLD_NAMES.items():
        key = key.replace(old, new)
    return key
