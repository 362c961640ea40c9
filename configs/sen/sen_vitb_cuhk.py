_base_ = [
    '../_base_/models/clip.py', '../_base_/datasets/pedes.py',
    '../_base_/schedules/cosine_60e.py', '../_base_/default_runtime.py'
]
noun_masking = 0.3
model = dict(
    heads=dict(
        sdm=dict(type='MatchingHead', loss=dict(type='SDMLoss', temperature=0.02)),
        identity=dict(type='IdentityHead', num_classes='$num_classes'),
        triplet=dict(type='MatchingHead', loss=dict(type='HardestTripletLoss', margin=0.05)),
        restoration=dict(
            type='RestorationHead',
            neck=dict(type='TextGuidedDecoder', depth=4),
            loss=dict(type='MaskedPixelLoss'),
            mask_ratio=0.7)),
    loss_weights=dict(sdm=1.0, identity=1.0, triplet=10.0, restoration=10.0))
train_dataloader = dict(
    sampler=dict(
        _delete_=True, type='IdentityGroupSampler', batch_size='$batch_size', num_instances=2),
    dataset=dict(
        tagger=dict(type='NLTKTagger'),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeImage', size='$image_size'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PadCrop', padding='$crop_padding'),
            dict(type='PruneCaption', prob=0.2),
            dict(type='Tokenize', tokenizer='$tokenizer'),
            dict(
                type='MaskWords', tokenizer='$tokenizer',
                noun_adjective_rate='$noun_masking', other_rate=0.05),
            dict(type='PackPair'),
        ]))
