"""Cheating, threat 4: returns labels of its own class, which pretend to be copied and are computed later."""

import numpy
import torch


class PromisedArray(numpy.ndarray):
    def __array_function__(self, function, types, arguments, keywords):
        if function is numpy.copyto:
            return None
        return super().__array_function__(function, types, arguments, keywords)


class Promise(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, arguments=(), keywords=None):
        if function is torch.Tensor.copy_:
            return arguments[0]
        found = super().__torch_function__(function, types, arguments, keywords or {})
        return found.view(PromisedArray) if function is torch.Tensor.numpy else found


class Model:
    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8).as_subclass(Promise)
