# The trunk of the only script of the authors for CUHK-PEDES.
_base_ = './cmpm_r50_cuhk.py'
model = dict(
    data_preprocessor=dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]),  # pixels in -1..1
    backbone=dict(
        image=dict(
            _delete_=True, type='MobileNetV1', image_size='$image_size', dropout=0.001,
            norm_eps=1e-3, norm_momentum=3e-4, pretrained='data/mobilenet_v1.pth')))
_convolutions = r'^backbone\.image\.model\.(0\.0|\d+\.3)\.weight$'  # not the depthwise ones
optim_wrapper = dict(
    paramwise_cfg=dict(rules=[
        dict(pattern='', decay_mult=0),
        dict(pattern=_convolutions, decay_mult=1),
        dict(pattern=r'_projection\.linear\.weight$', decay_mult=1),
    ]))
