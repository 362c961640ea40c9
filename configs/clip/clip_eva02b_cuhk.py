_base_ = './clip_vitb_cuhk.py'
clip_arch = 'EVA02-B-16'
pretrained = 'data/EVA02-B-16/open_clip_model.safetensors'
model = dict(backbone=dict(image=dict(type='OpenCLIPImageEncoder')))
