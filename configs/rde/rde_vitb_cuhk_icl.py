# ICL without its interaction. Its repository has the file in RDA_data.zip.
_base_ = './rde_vitb_cuhk.py'
rewritten_captions = 'data/CUHK-PEDES/r_cuhk_1110_dec_1110.json'
model = dict(heads=dict(bge=dict(second_weight=1.0), tse=dict(second_weight=1.0)))
_fade = dict(type='FadeHook', step=0.03, least=0.1)
default_hooks = dict(
    fade_bge=dict(_fade, target='heads.bge.second_weight'),
    fade_tse=dict(_fade, target='heads.tse.second_weight'))
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImage'),
            dict(type='ResizeImage', size='$image_size'),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PadCrop', padding='$crop_padding'),
            dict(type='Tokenize', tokenizer='$tokenizer'),
            dict(type='RewrittenCaption', tokenizer='$tokenizer', file='$rewritten_captions'),
            dict(type='CorruptWords', tokenizer='$tokenizer', rate=0.2),
            dict(type='CorruptWords', tokenizer='$tokenizer', rate=0.2, key='second_tokens'),
            dict(type='PackPair', per_image=['sample_idx'], per_caption=['second_tokens']),
        ]))
