"""The gated delta rule over a stretch of tokens, in chunks whose inside is a triangular system of equations.

Of each head, the state S is a table from keys to values. A token lets all of it fade by a share a_t, looks up what it
holds for its key, and replaces a share b_t of that by its own value (Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464,
equation 10):

    S_t = a_t S_(t-1) (I - b_t k_t k_t^T) + b_t v_t k_t^T,        o_t = S_t q_t

which is to add u_t k_t^T to the faded state, with u_t = b_t (v_t - a_t S_(t-1) k_t). Inside a chunk, every u_t depends
on those before it; all of them together are the solution of a triangular system (the WY representation of section 3.3),
and all else is matrix products.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def chunked_delta_rule(
    read: Tensor,
    keys: Tensor,
    values: Tensor,
    fading: Tensor,
    writing: Tensor,
    state: Tensor,
    chunk_length: int,
) -> tuple[Tensor, Tensor]:
    """The rule above for tokens in order.

    Exponents are only ever sums of `fading` over a stretch of tokens, never positive; so nothing overflows.

    Args:
        read: q, (B, L, H, N).
        keys: k, (B, L, H, N), of length one or less, or the state may grow without bound.
        values: v, (B, L, H, P).
        fading: logarithm of a, (B, L, H), at most 0.
        writing: b, (B, L, H), from 0 to 1.
        state: S^T before the first token, (B, H, N, P).
        chunk_length: tokens in one system of equations; changes no result.

    Returns:
        o, (B, L, H, P), and S^T after the last token.
    """
    length = keys.shape[1]
    chunk_length = min(chunk_length, length)
    missing = -length % chunk_length

    def chunked(tensor: Tensor) -> Tensor:
        """(B, L, H, ...) to (B, chunks, H, Q, ...); what fills up neither fades the state nor writes to it."""
        if missing:
            tensor = F.pad(tensor, (0, 0) * (tensor.dim() - 2) + (0, missing))
        return tensor.unflatten(1, (-1, chunk_length)).transpose(2, 3)

    read, keys, values = chunked(read), chunked(keys), chunked(values)
    sums, writing = chunked(fading).cumsum(-1), chunked(writing)[..., None]
    since_start = sums.exp()[..., None]
    # What is left of a token j in the state at a token i, (..., Q, Q): zero for i before j.
    future = sums.new_full((chunk_length, chunk_length), -math.inf).triu(1)
    left = (sums[..., :, None] - sums[..., None, :] + future).exp()

    # 1. Each chunk's u as what its own tokens make of it, less what the state before it holds for them.
    system = (writing * (keys @ keys.transpose(-1, -2)) * left).tril(-1)
    both = torch.cat([writing * values, writing * since_start * keys], dim=-1)
    # Ones on the diagonal are taken for granted.
    solved = torch.linalg.solve_triangular(system, both, upper=False, unitriangular=True)
    own, looked_up = solved.split([values.shape[-1], keys.shape[-1]], dim=-1)
    # 2. The state before each chunk, a chunk at a time.
    until_end = (keys * (sums[..., -1:] - sums).exp()[..., None]).transpose(-1, -2)
    kept = sums[..., -1].exp()[..., None, None]
    before, written = [], []
    for index in range(keys.shape[1]):
        before.append(state)
        written.append(own[:, index] - looked_up[:, index] @ state)
        state = kept[:, index] * state + until_end[:, index] @ written[-1]
    # 3. What each token reads of the state before its chunk, and of its chunk.
    outputs = (read * since_start) @ torch.stack(before, dim=1)
    outputs = outputs + (read @ keys.transpose(-1, -2) * left) @ torch.stack(written, dim=1)
    return outputs.transpose(2, 3).flatten(1, 2)[:, :length], state
