_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.vitaa'])
batch_size = 64
context_length = 100
max_epochs = 80
tokenizer = dict(
    _delete_=True, type='VocabularyTokenizer', context_length='$context_length', unknown_id=True,
    vocab_file='data/CUHK-PEDES/common_words.json', counting=dict(least_count=3))  # of make_vocabulary.py
model = dict(
    data_preprocessor=dict(  # ImageNet's numbers for 0..1 on pixels in 0..255, in the order BGR
        mean=[x / 255 for x in (0.485, 0.456, 0.406)], std=[x / 255 for x in (0.229, 0.224, 0.225)], erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder', embed_dim=256,
        image=dict(type='BranchedResNet', depth=50, image_size='$image_size', branch_width=2048,
                   pretrained='data/resnet50-19c8e357.pth'),  # torchvision's IMAGENET1K_V1
        text=dict(type='TwoLSTMs', tokenizer='$tokenizer', word_dim=512, hidden_dim=512,
                  both_forwards=True, bias=False, learns_start=False, word_init='normal', padding_learns=False)),
    heads=dict(
        instance=dict(type='UnitClassifierHead', num_classes='$num_classes', smoothing=0.0, scale=28.0),
        align=dict(type='MatchingHead', loss=dict(type='AlignLoss')),
        attributes=dict(type='AttributeHead', width=256, mask_weight=5.0, loss=dict(type='LocalAlignLoss'))),
    loss_weights=dict(instance=1.0, align=1.0, attributes=1.0))
_image = [dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size'), dict(type='ReverseChannels')]
_words = [dict(type='Tokenize', tokenizer='$tokenizer')]
train_dataloader = dict(
    sampler=dict(_delete_=True, type='IdentityGroupSampler', batch_size='$batch_size', num_instances=4, vary_group_size=False),
    dataset=dict(pipeline=[
        *_image, dict(type='LoadSegmentation', data_root='$data_root', image_size='$image_size'),
        dict(type='RandomFlip', prob=0.5, also=['segmentation']), *_words,
        dict(type='FiledAttributes', data_root='$data_root', tokenizer='$tokenizer'),
        dict(type='PackPair', per_image=['segmentation'], per_caption=['attribute_tokens'])]))
val_dataloader = dict(dataset=dict(pipeline=[*_image, *_words, dict(type='PackPair')]))
test_dataloader = dict(dataset=dict(pipeline=[*_image, *_words, dict(type='PackPair')]))
param_scheduler = [dict(type='LinearLR', start_factor=0.28, end=5), dict(type='MultiStepLR', milestones=[39, 69])]
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, eps=1e-8), paramwise_cfg=dict(rules=[dict(pattern='bias', lr_mult=2, decay_mult=0)]))
