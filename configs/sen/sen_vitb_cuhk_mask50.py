_base_ = './sen_vitb_cuhk.py'
model = dict(heads=dict(restoration=dict(mask_ratio=0.5)))
