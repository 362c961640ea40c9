_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint', 'projects.caibc'])
batch_size = 64
context_length = 100
tokenizer = dict(_delete_=True, type='WordPieceTokenizer', context_length='$context_length', vocab_file='data/bert-base-uncased/vocab.txt')
_bert = dict(context_length='$context_length', frozen=True, dropout=0.1,
             pretrained='data/bert-base-uncased/model.safetensors')
model = dict(
    data_preprocessor=dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder', embed_dim=512,
        image=dict(type='ResNet', depth=50, image_size='$image_size',
                   pretrained='data/resnet50-0676ba61.pth'),  # torchvision's IMAGENET1K_V1
        text=dict(type='RecurrentBERT', bert=_bert, kind='gru', hidden_dim=512, bias=True)),
    heads=dict(branches=dict(
        type='ColourBranchesHead', num_classes='$num_classes',
        loss=dict(type='HardestTripletLoss', margin=0.2))),
    loss_weights=dict(branches=1.0))
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImage'), dict(type='ResizeImage', size='$image_size'), dict(type='RandomFlip', prob=0.5),
    dict(type='Tokenize', tokenizer='$tokenizer'), dict(type='HideColours', tokenizer='$tokenizer'),
    dict(type='PackPair', per_caption=['second_tokens'])]))
param_scheduler = [dict(type='MultiStepLR', milestones=[20, 40], gamma=0.1)]
optim_wrapper = dict(optimizer=dict(lr=1e-3, eps=1e-8, weight_decay=0), paramwise_cfg=dict(rules=[
    dict(pattern=r'^backbone\.image\.', lr_mult=0.1),
    dict(pattern=r'\.trunk\.image\.', lr_mult=0.1, optional=True)]))
