_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.cm_moco'])
clip_arch = 'RN50'
context_length = 100
max_epochs = 80
vocab_file = 'data/CUHK-PEDES/common_words.json'  # tools/make_vocabulary.py makes it
tokenizer = dict(
    _delete_=True, type='VocabularyTokenizer', context_length='$context_length',
    vocab_file='$vocab_file', unknown_id=True, counting=dict(least_count=3))
model = dict(
    backbone=dict(
        _delete_=True, type='DualEncoder', embed_dim=256,
        image=dict(
            type='CLIPResNet', arch='$clip_arch', image_size='$image_size', last_stride=1,
            pretrained='$pretrained'),
        text=dict(
            type='RecurrentTextEncoder', tokenizer='$tokenizer', kind='gru', word_dim=512,
            hidden_dim=512, bias=False, pooling='padded_max', word_vectors='data/CUHK-PEDES/common_words.npy')),
    heads=dict(
        moco=dict(type='MomentumQueueHead', size=2048, momentum=0.999, temperature=0.07),
        instance=dict(type='UnitClassifierHead', num_classes='$num_classes', smoothing=0.1),
        align=dict(type='MatchingHead', loss=dict(type='AlignLoss'))),
    loss_weights=dict(moco=1.0, instance=1.0, align=1.0))
train_dataloader = dict(
    sampler=dict(
        _delete_=True, type='IdentityGroupSampler', batch_size='$batch_size', num_instances=4,
        vary_group_size=False))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, end=6),
    dict(type='MultiStepLR', milestones=[40, 70], gamma=0.1),
]
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, eps=1e-8),
    paramwise_cfg=dict(rules=[dict(pattern='bias', lr_mult=2, decay_mult=0)]))
randomness = dict(seed=0)
