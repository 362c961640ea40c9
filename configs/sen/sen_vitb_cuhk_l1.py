_base_ = './sen_vitb_cuhk.py'
model = dict(heads=dict(restoration=dict(loss=dict(type='MaskedPixelL1Loss'))))
