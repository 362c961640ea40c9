# Then BERT is trained, too.
_base_ = './timam_r101_cuhk_frozen.py'
load_from = 'work_dirs/timam_r101_cuhk_frozen/epoch_50.pth'
model = dict(backbone=dict(
    image=dict(pretrained=None), text=dict(bert=dict(frozen=False, pretrained=None))))
