# First BERT stays as it is.
_base_ = [
    '../../../configs/_base_/models/clip.py', '../../../configs/_base_/datasets/pedes.py',
    '../../../configs/_base_/schedules/cosine_60e.py', '../../../configs/_base_/default_runtime.py'
]
custom_imports = dict(imports=['sen_toolbox.checkpoint', 'projects.timam'])
batch_size = 64
max_epochs = 50
image_size = (224, 224)
context_length = 100
crop_padding = 0
tokenizer = dict(_delete_=True, type='WordPieceTokenizer', context_length='$context_length', vocab_file='data/bert-base-uncased/vocab.txt')
_bert = dict(context_length='$context_length', frozen=True, dropout=0.1,
             pretrained='data/bert-base-uncased/model.safetensors')
_identity = dict(type='UnitClassifierHead', num_classes='$num_classes', smoothing=0.0, bias=True)
model = dict(
    data_preprocessor=dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], erasing_prob=0.0),
    backbone=dict(
        _delete_=True, type='DualEncoder', embed_dim=512,
        image=dict(type='ResNet', depth=101, image_size='$image_size',
                   pretrained='data/resnet101-63fe2227.pth'),  # torchvision's IMAGENET1K_V1
        text=dict(type='RecurrentBERT', bert=_bert, hidden_dim=512, bias=True,
                  average_directions=False, pooling='max')),
    heads=dict(
        cmpm=dict(type='MatchingHead', loss=dict(type='ProjectionMatchingLoss')),
        image_identity=dict(**_identity, modalities=['image']),
        text_identity=dict(**_identity, modalities=['text']),
        modality=dict(type='ModalityHead', hidden_dim=512)),
    loss_weights=dict(cmpm=1.0, image_identity=1.0, text_identity=1.0, modality=1.0))
param_scheduler = [dict(
    type='ReduceOnPlateauLR', monitor='t2i/R1', rule='greater', factor=0.1, patience=3, min_value=2e-6)]
optim_wrapper = dict(
    constructor='SGDAndAdamConstructor',
    optimizer=dict(_delete_=True, type='SGDAndAdam', adaptive='text', lr=2e-4, weight_decay=4e-4),
    paramwise_cfg=dict(rules=[]))
