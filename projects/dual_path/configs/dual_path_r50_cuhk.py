# Stage II: the ranking loss beside the instance loss; the ResNet is trained.
_base_ = './_base_/dual_path.py'
load_from = 'work_dirs/dual_path_r50_cuhk_stage1/epoch_150.pth'
max_epochs = 60  # of the release's 61; it tests epoch 60
model = dict(
    heads=dict(
        instance=dict(text_weight=0.5),
        ranking=dict(type='GivenNegativeHead', loss=dict(type='GivenNegativeLoss', margin=1.0))),
    loss_weights=dict(ranking=1.0))  # the release's 2, of a sum over half of the rows
train_dataloader = dict(sampler=dict(negatives=True))
param_scheduler = [dict(type='MultiStepLR', milestones=[40], gamma=0.1)]
# The release sets the ResNet's factors by the parity of a parameter's number.
optim_wrapper = dict(
    paramwise_cfg=dict(rules=[
        *_base_.optim_wrapper.paramwise_cfg.rules,
        dict(pattern=r'\.trunk\.', lr_mult=0.02),
        dict(pattern=r'\.trunk\.(.*\.)?(bn\d|downsample\.1)\.weight$', lr_mult=0.001),
        dict(pattern=r'\.trunk\.conv1\.weight$', lr_mult=0.0001),
    ]))
