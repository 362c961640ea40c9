_base_ = [
    './manet_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py',
    '../../../configs/_base_/models/pretrained_small_encoders.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
_resnet, _bert = _base_.pop('small_resnet'), _base_.pop('small_bert')
# As the release does: a ResNet and a BERT that are pretrained, and BERT stays as it is.
image_size = (96, 32)
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
model = dict(
    backbone=dict(image=_resnet, text=dict(bert=_bert, hidden_dim=128)),
    heads=dict(parts=dict(neck=dict(part_width=64, narrow=16, squeezed=16))))
optim_wrapper = dict(paramwise_cfg=dict(rules=[]))
