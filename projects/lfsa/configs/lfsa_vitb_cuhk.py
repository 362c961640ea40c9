_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.lfsa'])
model = dict(
    heads=dict(pairs=dict(
        type='CorruptedCaptionHead', num_classes='$num_classes',
        losses=dict(
            boundary=dict(type='BoundaryLoss', same_image=(0.6, 7.0), same_person=(0.45, 2.0), other=(0.4, 40.0)),
            hardest=dict(type='HardSampleLoss', drawn=False),
            drawn=dict(type='HardSampleLoss', drawn=True)))),
    loss_weights=dict(pairs=1.0))
train_dataloader = dict(
    sampler=dict(_delete_=True, type='IdentityGroupSampler', batch_size='$batch_size', num_instances=4, vary_group_size=False),
    dataset=dict(pipeline=[
        dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size'),
        dict(type='RandomFlip', prob=0.5), dict(type='PadCrop', padding='$crop_padding'),
        dict(type='Tokenize', tokenizer='$tokenizer'),
        dict(type='CorruptCaption', tokenizer='$tokenizer', tagger=dict(type='NLTKTagger'), synonyms=dict(type='WordNet'), rate=0.6),
        dict(type='PackPair', per_image=['image_id'], per_caption=['second_tokens'])]))
optim_wrapper = dict(optimizer=dict(weight_decay=5e-4), paramwise_cfg=dict(rules=[
    dict(pattern=r'\.classifier\.', lr_mult=5), dict(pattern=r'bias$', lr_mult=2, decay_mult=0)]))
randomness = dict(seed=1)  # the release's
