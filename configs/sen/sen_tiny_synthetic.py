_base_ = './sen_vitb_cuhk.py'
