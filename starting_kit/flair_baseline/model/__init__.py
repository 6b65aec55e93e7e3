"""The model as a submission carries it: U-T&T, its parts, their inference. packaging.py copies this folder.

Imports torch, torchvision, segmentation_models_pytorch, numpy and safetensors, nothing else of the kit. All
of flair_baseline may import it.
"""
