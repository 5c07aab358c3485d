"""How sure an answer about classes is, in columns of a table."""

DOUBTFUL_LEAD = 0.2
"""An answer that leads by less is in doubt."""


def certain_columns(probability: float, lead: float, spread: float | None) -> dict[str, object]:
    """`probability`, `spread` if there are several views or models, and `in_doubt`: 1 where the answer leads by less
    than 0.2, or by less than twice the spread, else 0.

    Args:
        probability: of what is said.
        lead: by how much it is above the next answer: 0 where both are alike, 1 where it is certain; counted from the
            thresholds, where the model has some.
        spread: the standard deviation of the probability.
    """
    in_doubt = lead < DOUBTFUL_LEAD or (spread is not None and lead < 2 * spread)
    apart = {} if spread is None else {"spread": f"{spread:.6g}"}
    return {"probability": f"{probability:.6g}", **apart, "in_doubt": int(in_doubt)}
