_base_ = [
    '../_base_/models/clip_tiny.py', '../_base_/datasets/pedes.py',
    '../_base_/schedules/cosine_60e.py', '../_base_/default_runtime.py'
]
dataset_type = 'SyntheticPedes'
data_root = 'data/synthetic'
num_classes = 1500
num_workers = 2
max_epochs = 20
model = dict(
    heads=dict(contrast=dict(type='MatchingHead', loss=dict(type='InfoNCELoss', temperature=0.05))),
    loss_weights=dict(contrast=1.0))
param_scheduler = [
    dict(type='OneCycleLR', eta_max=1.5e-3, total_steps='$max_epochs', convert_to_iter_based=True)
]
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1.5e-3, eps=1e-8, weight_decay=0.05, betas=(0.9, 0.98)),
    paramwise_cfg=dict(rules=[dict(pattern=r'(bias|ln_\w+\.weight|embedding(\.weight)?)$', decay_mult=0)]))
