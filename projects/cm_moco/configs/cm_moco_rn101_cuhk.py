_base_ = './cm_moco_rn50_cuhk.py'
clip_arch = 'RN101'
