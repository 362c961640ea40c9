# All starts at random.
_base_ = [
    './cm_moco_rn50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
image_size = (64, 32)
pretrained = None
clip_arch = dict(
    _delete_=True, embed_dim=128, vision_cfg=dict(layers=[1, 1, 1, 1], width=16, head_width=32))
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
model = dict(
    backbone=dict(
        embed_dim=128, text=dict(word_dim=128, hidden_dim=128, word_vectors=None)),
    heads=dict(moco=dict(size=512, momentum=0.99)))
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0))
