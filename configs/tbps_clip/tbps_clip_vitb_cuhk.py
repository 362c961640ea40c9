_base_ = [
    '../_base_/models/clip.py', './_base_/pedes_views.py', './_base_/adamw_5e.py',
    '../_base_/default_runtime.py'
]
image_size = (224, 224)
model = dict(
    backbone=dict(text=dict(attention_dropout=0.05)),
    data_preprocessor=dict(  # ImageNet's
        mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], erasing_prob=0.0, also=['views']),
    heads=dict(
        contrast=dict(
            type='ScaledMatchingHead',
            losses=dict(
                nitc=dict(type='NITCLoss', softness=0.5),
                ritc=dict(type='RITCLoss', epsilon=0.01),
                citc=dict(type='CITCLoss', in_modal=0.25, cross_modal=0.25)),
            weights=dict(nitc=1.0, ritc=1.0, citc=0.1),
            initial_scale=100.0,
            views=dict(nitc=0)),
        self_supervision=dict(
            type='SelfSupervisionHead',
            loss=dict(type='SimCLRLoss', temperature=0.1),
            views=(1, 2),
            hidden_dim=128)),
    loss_weights=dict(contrast=1.0, self_supervision=0.4))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='RampHook', target='heads.contrast.losses.nitc.softness', epochs=1),
]
