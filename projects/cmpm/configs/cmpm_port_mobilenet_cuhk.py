_base_ = './cmpm_port_r50_cuhk.py'
model = dict(
    backbone=dict(
        image=dict(
            _delete_=True, type='MobileNetV1', image_size='$image_size', dropout=0.001,
            pretrained='data/mobilenet_v1.pth')))
