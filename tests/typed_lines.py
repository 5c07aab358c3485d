"""Ten lines as people write them, for a strict type checker; read by `tests/test_typed.py`, never run."""

import numpy as np
import torch

import xt

image = xt.open_image("scene.tif")
height, width = image.shape
pixels: np.ndarray = image.crop(0, 0, 512, 512).read(0, 0, 256, 256)
model: xt.XT = xt.create_model("convnext_atto", context="mamba", head="classification", num_classes=10)
logits = model(image)
loss = torch.nn.functional.cross_entropy(logits, torch.tensor([3]))
planned: xt.Plan = xt.plan(model, (height, width), "8GB")
result = xt.predict("runs/first", ["a.tif", "b.tif"], "found", progress=xt.ProgressLines())
answers: list[str] = [str(each.values["predicted"]) for each in result.images]
trained = xt.train(xt.load_config("mine.yaml"))
measured = xt.evaluate("runs/first", "slides.csv", out="seen")
mask = xt.DensePredictor(xt.load_model("nuclei.safetensors")).predict(
    image, "out", xt.DenseOptions(outlines=(1,))
)
