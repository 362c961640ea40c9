# Stage II from the start, all of it random.
_base_ = ['./dual_path_r50_cuhk.py', '../../../configs/_base_/datasets/drawn.py']
_base_.update(_base_.pop('drawn'))
load_from = None
image_size = (64, 32)
embed_dim = 256
max_epochs = 10
tokenizer = dict(_delete_=True, type='CLIPTokenizer', context_length='$context_length')
model = dict(
    backbone=dict(
        image=dict(depth=10, trunk_momentum=0.1),
        text=dict(word_dim=64, units=[(32, 64, 1), (64, 128, 2), (32, 128, 1), (128, 256, 2)])),
    heads=dict(instance=dict(dropout=0.2)))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=1, end='$max_epochs', convert_to_iter_based=True),
]
# Weights start at random, so all move alike.
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', constructor='RuleOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4),
    paramwise_cfg=dict(rules=[dict(pattern=r'word_(embedding\.weight|bias)$', lr_mult=10)]))
