# The towers of NAM, trained on LUPerson-MLLM: huggingface.co/TwT-6/MLLM4Text-ReID has the file.
_base_ = './sen_vitb_cuhk.py'
pretrained = 'weights/nam.pth'
