"""Any model of open_clip as it is, by open_clip's own forward pass."""

from copy import deepcopy

from mmengine.logging import print_log
from torch import Tensor, nn

from sen_toolbox.checkpoint import check_keys
from sen_toolbox.checkpoint.values import named_faults
from sen_toolbox.models.features import (
    ALWAYS_PROVIDED,
    EMBEDDINGS,
    ImageFeatures,
    ImageSpec,
    PairFeatures,
    PairSpec,
    TextFeatures,
    TextSpec,
)
from sen_toolbox.models.open_clip_config import open_clip_config, refuse_downloads
from sen_toolbox.models.open_clip_package import open_clip
from sen_toolbox.models.pretrained_file import find_pretrained
from sen_toolbox.models.weights import EXPECTED_UNUSED, read_state
from sen_toolbox.registry import BACKBONES
from sen_toolbox.text.tokens import Tokens

# What embeds nothing: the scale of a loss, and the captioner of CoCa.
UNUSED = ('logit_scale', 'logit_bias', 'text_decoder')


@BACKBONES.register_module()
class OpenCLIPPair(nn.Module):
    """Both towers of a model of open_clip, of which the embeddings alone are known.

    It takes what the encoders of this toolbox refuse (SigLIP, CLIPA, CoCa, ...), on pictures of the
    model's own size and captions of its own length; names of parameters are open_clip's.

    Args:
        arch: open_clip's name of the model, or its config as a dict (``embed_dim``, ``vision_cfg``,
            ``text_cfg``, ...).
        pretrained: Weights of both towers loaded before training: a file that open_clip reads, or
            a model by name (``open_clip:NAME/TAG``, ``hf-hub:ORG/NAME``). None for random weights.

    Raises:
        KeyError: If open_clip has no such model.
        ValueError: If a tower of it is a download of its own.
    """

    def __init__(self, *, arch: str | dict, pretrained: str | None = None) -> None:
        super().__init__()
        self.arch, self.pretrained = arch, pretrained
        config = open_clip_config(arch)
        refuse_downloads(arch, config)
        self.model = _build(config)
        for name in UNUSED:
            # A name without value stays for open_clip's code to look at.
            if getattr(self.model, name, None) is not None:
                setattr(self.model, name, None)
        size, embed_dim = self.model.visual.image_size, config['embed_dim']
        text = getattr(self.model, 'text', self.model)
        self.spec = PairSpec(
            embed_dim,
            ImageSpec(embed_dim, (size, size) if isinstance(size, int) else tuple(size)),
            TextSpec(
                width=embed_dim,
                vocab_size=text.vocab_size,
                context_length=text.context_length,
                cuts_padding=False,
            ),
        )
        self.provides = ALWAYS_PROVIDED

    @property
    def word_embedding(self) -> nn.Embedding:
        """The table of words."""
        return getattr(self.model, 'text', self.model).token_embedding

    def load_weights(self) -> None:
        """Loads ``pretrained`` as open_clip does.

        Raises:
            FileNotFoundError: If the weights are not to be had; names the file to put where.
            ValueError: If the file is damaged, or keys or shapes do not match; names them.
        """
        if self.pretrained is None:
            return
        path = find_pretrained(self.pretrained, self.arch)
        state, _ = read_state(path)
        with named_faults(path):
            state = open_clip.convert.convert_state_dict(self.model, state)
            if 'positional_embedding' in state and not hasattr(self.model, 'positional_embedding'):
                state = open_clip.model.convert_to_custom_text_state_dict(state)
            open_clip.model.resize_pos_embed(state, self.model)
            open_clip.model.resize_text_pos_embed(state, self.model)
        state = {
            key: value
            for key, value in state.items()
            if key not in EXPECTED_UNUSED and not key.startswith(UNUSED)
        }
        check_keys(self.model, state, path)
        self.model.load_state_dict(state)
        print_log(f'both towers from {path}: {len(state)} tensors', logger='current')

    def forward(
        self,
        images: Tensor | None,
        tokens: Tokens | None,
        reads: frozenset[str] = EMBEDDINGS,
        image_of: Tensor | None = None,
    ) -> PairFeatures:
        """Encodes images (B, 3, H, W) and T captions; either may be None."""
        image = None if images is None else self.encode_image(images, reads)
        text = None if tokens is None else self.encode_text(tokens, reads)
        return PairFeatures(image, text, image_of)

    def encode_image(
        self, images: Tensor, reads: frozenset[str] = EMBEDDINGS, keep: Tensor | None = None
    ) -> ImageFeatures:
        """Embeddings of normalised images (B, 3, H, W); ``keep`` must be None.

        Raises:
            ValueError: If the images have another size.
        """
        if keep is not None or tuple(images.shape[2:]) != self.spec.image.image_size:
            raise ValueError(
                f'OpenCLIPPair encodes whole images of {self.spec.image.image_size} (rows, '
                f'columns), got {tuple(images.shape[2:])}; resize them in the pipeline'
            )
        return ImageFeatures(self.model.encode_image(images))

    def encode_text(self, tokens: Tokens, reads: frozenset[str] = EMBEDDINGS) -> TextFeatures:
        """Embeddings of T captions in rows of ``context_length`` tokens.

        Raises:
            ValueError: If the rows have another length.
        """
        length, wanted = tokens.ids.shape[1], self.spec.text.context_length
        if length != wanted:
            raise ValueError(f'OpenCLIPPair reads rows of {wanted} tokens, got {length}')
        embedding = self.model.encode_text(tokens.ids)
        return TextFeatures(embedding, mask=tokens.mask, end=tokens.end)


def _build(config: dict) -> nn.Module:
    """The module that open_clip builds of a config, with random weights."""
    config = deepcopy(config)
    is_custom = config.pop('custom_text', False)
    is_captioner = 'multimodal_cfg' in config
    custom = open_clip.coca_model.CoCa if is_captioner else open_clip.model.CustomTextCLIP
    config['vision_cfg'] = {**config['vision_cfg'], 'timm_model_pretrained': False}
    return (custom if is_custom else open_clip.model.CLIP)(**config)
