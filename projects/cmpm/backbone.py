"""The encoders of CMPM/C: an ImageNet ResNet and a bidirectional LSTM."""

from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.checkpoint.loading import load_checkpoint_file
from sen_toolbox.models.batch_norm import GlobalBatchNorm
from sen_toolbox.models.features import GLOBAL_FEATURES, BackboneSpec, PairFeatures
from sen_toolbox.registry import BACKBONES

# Block and blocks a stage. 50 is He et al.'s; 10 trains on a CPU.
TRUNKS = {10: (BasicBlock, [1, 1, 1, 1]), 50: (Bottleneck, [3, 4, 6, 3])}
COUNTER = 'num_batches_tracked'
# Before the names of the encoders in a checkpoint of the toolbox.
PREFIX = 'backbone.'


@BACKBONES.register_module()
class ResNetLSTM(nn.Module):
    """ResNet and BiLSTM, each projected linearly to the joint space; global embeddings only.

    Args:
        depth: Layers of the ResNet, 10 or 50.
        image_size: Input image as (rows, columns), in pixels.
        context_length: Longest caption, in tokens.
        embed_dim: Width of the joint space. 512 in the release, as the next two.
        word_dim: Width of a word embedding.
        hidden_dim: Width of the LSTM in each direction.
        dropout: Probability at the LSTM's input and output, in 0..1. 0.3 in the release.
        vocab_size: Number of token ids; CLIP's, which ``Tokenize`` writes.
        pretrained: File with torchvision's ImageNet weights of the ResNet, or a checkpoint of a
            training with these encoders; None for random weights.

    Raises:
        ValueError: If there is no ResNet of this depth.
    """

    def __init__(
        self,
        *,
        depth: int,
        image_size: tuple[int, int],
        context_length: int,
        embed_dim: int = 512,
        word_dim: int = 512,
        hidden_dim: int = 512,
        dropout: float = 0.3,
        vocab_size: int = 49408,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        if depth not in TRUNKS:
            raise ValueError(f'there is no ResNet of depth {depth}, choose from {list(TRUNKS)}')
        self.pretrained = pretrained
        self.trunk = ResNet(*TRUNKS[depth], norm_layer=GlobalBatchNorm)
        self.image_projection = nn.Linear(self.trunk.fc.in_features, embed_dim)
        self.trunk.fc = nn.Identity()
        self.word_embedding = nn.Embedding(vocab_size, word_dim)
        nn.init.xavier_uniform_(self.word_embedding.weight)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(word_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.text_projection = nn.Linear(2 * hidden_dim, embed_dim)
        self.spec = BackboneSpec(
            embed_dim=embed_dim,
            image_size=tuple(image_size),
            patch_size=0,
            grid_size=(0, 0),  # no patches
            stride=0,
            vocab_size=vocab_size,
            context_length=context_length,
        )

    def init_weights(self) -> None:
        """Loads the weights of both encoders, or of the ResNet without its classifier.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If keys or shapes do not match; names them.
        """
        if self.pretrained is None:
            return
        path = Path(self.pretrained).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"no weights at {path}; put torchvision's file or a checkpoint there or set "
                f'model.backbone.pretrained to its path, or to None for random weights'
            )
        state = load_checkpoint_file(str(path), map_location='cpu')
        if 'state_dict' in state:
            of = self
            state = {
                key.removeprefix(PREFIX): value
                for key, value in state['state_dict'].items()
                if key.startswith(PREFIX)
            }
        else:
            of = self.trunk
            state = {key: value for key, value in state.items() if not key.startswith('fc.')}
            # Older files of torchvision lack the counters of batch norm, which nothing reads.
            own = of.state_dict().items()
            state = {key: value for key, value in own if key.endswith(COUNTER)} | state
        check_keys(of, state, path)
        of.load_state_dict(state)
        print_log(f'Weights from {path}: {len(state)} tensors', logger='current')

    def forward(
        self,
        images: Tensor | None,
        tokens: Tensor | None,
        reads: frozenset[str] = GLOBAL_FEATURES,
    ) -> PairFeatures:
        """Encodes images (B, 3, H, W) and token ids (B, L); None leaves out a modality.

        Raises:
            ValueError: If ``reads`` names more than the global embeddings.
        """
        if more := sorted(reads - GLOBAL_FEATURES):
            raise ValueError(f'ResNetLSTM has no {more}, only {sorted(GLOBAL_FEATURES)}')
        return PairFeatures(
            image=None if images is None else self.embed_image(images),
            text=None if tokens is None else self.embed_text(tokens),
        )

    def embed_image(self, images: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, 3, H, W): the mean over the last feature map."""
        return self.image_projection(self.trunk(images))

    def embed_text(self, tokens: Tensor) -> Tensor:
        """Embeddings (B, D) of token ids (B, L): the maximum over the states of its words."""
        # The end token has the highest id of the vocabulary.
        lengths = tokens.argmax(dim=1).cpu() + 1
        words = self.dropout(self.word_embedding(tokens))
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        packed, _ = self.lstm(packed)
        packed = packed._replace(data=self.dropout(packed.data))
        states, _ = pad_packed_sequence(packed, batch_first=True, padding_value=-torch.inf)
        return self.text_projection(states.max(dim=1).values)
