_base_ = [
    './vitaa_words_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py',
    '../../../configs/_base_/models/small_encoders.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
_resnet = _base_.pop('small_resnet')
_base_.pop('small_bert')
# All of it starts at random.
image_size = (96, 32)
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
model = dict(
    backbone=dict(
        embed_dim=128, image=dict(**_resnet, branch_width=128),
        text=dict(word_dim=128, hidden_dim=64)),
    heads=dict(attributes=dict(width=32)))
optim_wrapper = dict(optimizer=dict(lr=4e-4, weight_decay=0), paramwise_cfg=dict(rules=[]))
