_base_ = './sen_vitb_cuhk.py'
model = dict(heads=dict(restoration=dict(target=dict(type='PatchFeatureTarget'))))
