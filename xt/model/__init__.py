"""The model, in the figure's order: `xt.model.xt`; what it says about every place of an image: `xt.model.dense`."""
