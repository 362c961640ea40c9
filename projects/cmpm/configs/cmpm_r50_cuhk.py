_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.cmpm'])
image_size = (224, 224)
context_length = 100
batch_size = 16
max_epochs = 50
crop_padding = 0
vocab_file = 'data/CUHK-PEDES/frequent_words.json'  # tools/make_vocabulary.py makes it
tokenizer = dict(
    _delete_=True, type='VocabularyTokenizer', context_length='$context_length',
    vocab_file='$vocab_file', unknown_id=True, pad_is_first_word=True, start=True,
    counting=dict(least_count=3, order='frequency'))
model = dict(
    data_preprocessor=dict(  # as torchvision's weights expect
        mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder', embed_dim=512,
        projection_norm=dict(eps=1e-3, momentum=3e-4),
        image=dict(
            type='ResNet', depth=50, image_size='$image_size',
            pretrained='data/resnet50-0676ba61.pth'),  # torchvision's IMAGENET1K_V1
        text=dict(type='TwoLSTMs', tokenizer='$tokenizer', dropout=0.3)),
    heads=dict(
        cmpm=dict(type='MatchingHead', loss=dict(type='ProjectionMatchingLoss')),
        cmpc=dict(type='CMPCHead', num_classes='$num_classes')),
    loss_weights=dict(cmpm=1.0, cmpc=1.0))
param_scheduler = []  # a constant rate
optim_wrapper = dict(
    optimizer=dict(lr=2e-4, eps=1e-8),
    paramwise_cfg=dict(rules=[  # only convolutions and projections decay
        dict(pattern='', decay_mult=0),
        dict(pattern=r'^backbone\.image\.(conv1|.*(conv\d|downsample\.0))\.weight$', decay_mult=1),
        dict(pattern=r'_projection\.linear\.weight$', decay_mult=1),
    ]))
