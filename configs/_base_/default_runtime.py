default_scope = 'sen_toolbox'
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration'])
default_hooks = dict(
    runtime_info=dict(type='DeferredInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=20),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='SafeCheckpointHook', interval=1, every_iters=None, max_keep_ckpts=2,
        save_best='t2i/R1', rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    finite_loss=dict(type='FiniteLossHook'),
    provenance=dict(type='ProvenanceHook'),
    same_data=dict(type='SameDataHook', required=True),
    rate_check=dict(type='RateCheckHook'),
)
custom_hooks = [
    dict(type='StrictLoadHook'),
    dict(type='DatasetReportHook', num_classes='$num_classes'),
]
env_cfg = dict(cudnn_benchmark=True, dist_cfg=dict(backend='nccl'))
visualizer = dict(
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
log_level = 'INFO'
load_from = None
resume = False
work_dir = None
randomness = dict(seed=42)  # the SEN release's
