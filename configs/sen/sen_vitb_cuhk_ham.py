# The towers of HAM, trained on HAM-PEDES: the README of github.com/sssaury/HAM links the file.
_base_ = './sen_vitb_cuhk.py'
pretrained = 'weights/ham.pth'
