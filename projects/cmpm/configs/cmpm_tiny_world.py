# Pretrains the tiny encoders as clip_tiny_world.py does the tiny towers: InfoNCE, the drawn world.
_base_ = '../../../configs/clip/clip_tiny_world.py'
custom_imports = dict(imports=['sen_toolbox.checkpoint.registration', 'projects.cmpm'])
image_size = (64, 32)
model = dict(
    backbone=dict(
        _delete_=True,
        type='DualEncoder',
        embed_dim=128,
        projection_norm=dict(),
        image=dict(type='ResNet', depth=10, image_size='$image_size'),
        text=dict(
            type='TwoLSTMs', tokenizer='$tokenizer', word_dim=128, hidden_dim=128)))
optim_wrapper = dict(
    paramwise_cfg=dict(rules=[
        dict(pattern=r'(bias|(bn\d|norm)\.weight|embedding\.weight|starts)$', decay_mult=0),
        dict(pattern=r'word_embedding', lr_mult=3),
    ]))
