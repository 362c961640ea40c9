_base_ = './clip_vitb_cuhk.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='OpenCLIPBackbone',
        arch='EVA02-B-16',
        image_size='$image_size',
        pretrained='data/EVA02-B-16/open_clip_model.safetensors'))
