"""Makes ``kl.json``: the KL objective and its gradient in float64, by hand, without torch.

    python tests/golden/make_kl.py

z = W e / |e| + b, L = sum over images of mean over tokens of KL(1/d || softmax(z / T)). With p the softmax,
u = e / |e| and N tokens: dL/dz = (p - 1/d) / (N T), dL/du = W' dL/dz, dL/de = (dL/du - u (u . dL/du)) / |e|.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def main() -> None:
    """Write the file."""
    random = np.random.default_rng(0)
    images, tokens, width, latents, temperature = 2, 3, 5, 7, 1.0
    e = random.normal(size=(images, tokens, width)) * 3
    weight, bias = random.normal(size=(latents, width)), random.normal(size=latents)
    length = np.linalg.norm(e, axis=-1, keepdims=True)
    u = e / length
    z = (u @ weight.T + bias) / temperature
    shares = np.exp(z - z.max(axis=-1, keepdims=True))
    shares /= shares.sum(axis=-1, keepdims=True)
    loss = (np.log(1 / latents / shares) / latents).sum(axis=-1).mean(axis=-1).sum()
    by_z = (shares - 1 / latents) / (tokens * temperature)
    by_u = by_z @ weight
    gradient = (by_u - u * (u * by_u).sum(axis=-1, keepdims=True)) / length
    data = {
        "embeddings": e.tolist(),
        "head_weight": weight.tolist(),
        "head_bias": bias.tolist(),
        "temperature": temperature,
        "loss": float(loss),
        "gradient": gradient.tolist(),
    }
    Path(__file__).with_name("kl.json").write_text(json.dumps(data) + "\n")


if __name__ == "__main__":
    main()
