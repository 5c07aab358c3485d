"""The model, in the figure's order: `xt.model.xt.xt`; answers about every place: `xt.model.xt.dense`."""
