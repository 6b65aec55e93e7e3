"""Cheating, B3 4: a tensor of a class of its own that claims to have been copied, to be computed later."""

import torch


class Promise(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, arguments=(), keywords=None):
        if function is torch.Tensor.copy_:
            return arguments[0]
        return super().__torch_function__(function, types, arguments, keywords or {})


class Model:
    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        return torch.zeros(len(batch["metadata"]), 512, 512, dtype=torch.uint8).as_subclass(Promise)
