_base_ = [
    './vitaa_words_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
# All of it starts at random.
image_size = (96, 32)
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
_depth = dict(_delete_=True, block='basic', blocks=(1, 1, 1, 1), widths=(32, 64, 128, 128))
model = dict(
    backbone=dict(
        embed_dim=128, image=dict(depth=_depth, branch_width=128, pretrained=None),
        text=dict(word_dim=128, hidden_dim=64)),
    heads=dict(attributes=dict(width=32)))
optim_wrapper = dict(optimizer=dict(lr=4e-4, weight_decay=0), paramwise_cfg=dict(rules=[]))
