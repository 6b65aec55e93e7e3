"""The model as a submission carries it: U-T&T, its parts, their inference; packaging.py copies this folder.

It imports torch, torchvision, segmentation_models_pytorch, timm, numpy and safetensors, and nothing else of
the kit. Everything in flair_baseline, starting_kit/ and benchmarks/ may import it.
"""
