# Pretrains the encoders of pretrained_small_encoders.py as clip_tiny_world.py does the tiny towers:
# to them what ImageNet and BERT's books are to the real ones.
_base_ = ['./clip_tiny_world.py', '../_base_/models/pretrained_small_encoders.py']
_resnet, _bert = _base_.pop('small_resnet'), _base_.pop('small_bert')
_resnet['depth'].pop('_delete_')
# The mean and the scale are those of ImageNet, as most methods with these encoders take them.
model = dict(
    data_preprocessor=dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    backbone=dict(
        _delete_=True, type='DualEncoder', embed_dim=128,
        image=dict(_resnet, type='ResNet', image_size='$image_size', pretrained=None),
        text=dict(
            _bert, type='BERT', context_length='$context_length', pretrained=None,
            config=dict(_bert['config'], initializer_range=0.02))))
optim_wrapper = dict(paramwise_cfg=dict(rules=[
    dict(pattern=r'(bias|(bn\d|downsample\.1|Norm)\.weight|embeddings\.weight)$', decay_mult=0),
    dict(pattern=r'word_embeddings', lr_mult=3),
]))
