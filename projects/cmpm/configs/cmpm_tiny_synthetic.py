_base_ = [
    './cmpm_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_7e.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_7e'))
image_size = (64, 32)
model = dict(
    backbone=dict(
        depth=10,
        embed_dim=128,
        word_dim=128,
        hidden_dim=128,
        dropout=0.0,
        pretrained='work_dirs/cmpm_tiny_synthetic_pretraining/epoch_12.pth'))
# Decay would move the words that a batch lacks.
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0))
