"""Honest: labels that depend on every value of the batch, numpy int64, four patches per request."""

import numpy as np


class Model:
    batch_size = 4
    superpatch_size = 20

    def __init__(self, submission_dir, device):
        pass

    def predict(self, batch):
        labels = []
        for aerial, metadata, *series in zip(
            batch["aerial"],
            batch["metadata"],
            batch["sentinel"],
            batch["sentinel_masks"],
            batch["sentinel_dates"],
            strict=True,
        ):
            key = sum(int(values.numpy().astype(np.int64).sum()) for values in series)
            key += sum(len(str(value)) for value in metadata.values())
            labels.append((aerial.numpy().astype(np.int64).sum(axis=0) + key) % 13)
        return np.stack(labels)
