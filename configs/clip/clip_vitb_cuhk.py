_base_ = [
    '../_base_/models/clip.py', '../_base_/datasets/pedes.py',
    '../_base_/schedules/cosine_60e.py', '../_base_/default_runtime.py'
]
batch_size = 64
model = dict(
    heads=dict(
        contrast=dict(
            type='MatchingHead',
            loss=dict(type='InfoNCELoss', temperature=0.02, positives='pair'))),
    loss_weights=dict(contrast=1.0))
