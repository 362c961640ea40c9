"""Image encoders: normalised images in, embeddings, tokens and feature maps out."""

from sen_toolbox.lazy_names import lazy_names

# The registry looks up a part here, too, and imports its module alone.
HOMES = {
    'CLIPResNet': 'clip_resnet',
    'CLIPVisionTransformer': 'clip_vit',
    'OpenCLIPImageEncoder': 'open_clip',
    'ResNet': 'resnet',
    'TimmViT': 'timm',
}
__all__ = [*HOMES]
__getattr__ = lazy_names(__name__, HOMES)
