_base_ = [
    './cmpm_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py',
    '../../../configs/_base_/schedules/drawn_5e.py'
]
_base_.update(_base_.pop('drawn'), **_base_.pop('drawn_5e'))
image_size = (64, 32)
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
_pretrained = 'work_dirs/cmpm_tiny_world/epoch_4.pth'
model = dict(
    backbone=dict(
        embed_dim=128,
        pretrained=_pretrained,
        projection_norm=dict(momentum=0.01),  # 940 steps would leave 3e-4 at its start
        image=dict(depth=10, pretrained=_pretrained),
        text=dict(word_dim=128, hidden_dim=128, dropout=0.0, pretrained=_pretrained)))
# Decay would move the words that a batch lacks.
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0), paramwise_cfg=dict(rules=[]))
