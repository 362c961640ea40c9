_base_ = [
    './ssan_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
# Encoders start at random, so all learn at one rate; the map has six rows.
image_size = (96, 32)
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
_depth = dict(_delete_=True, block='basic', blocks=(1, 1, 1, 1), widths=(32, 64, 128, 128))
model = dict(
    backbone=dict(
        image=dict(depth=_depth, last_stride=1, pretrained=None),
        text=dict(word_dim=128, hidden_dim=128, input_dropout=0.0)),
    heads=dict(parts=dict(neck=dict(width=128, non_local_width=64))))
optim_wrapper = dict(paramwise_cfg=dict(rules=[]))
