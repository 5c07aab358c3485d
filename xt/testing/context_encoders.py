"""What every context encoder must do, as one test class to inherit.

class TestMine(ContextEncoderContract):
    def make(self, segment_length=5):
        return Mine(self.dim, depth=2, segment_length=segment_length)

    def naive(self, encoder, tokens, positions):
        return ...  # the same, slowly, step by step, straight from the paper
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from xt.context_encoders import ContextEncoder


class ContextEncoderContract:
    """Inherited by the test class of each context encoder.

    Attributes:
        dim: width of the tokens that `make` is for.
        length: tokens of the sequences tried; several segments, and not a multiple of one.
        mixes: whether tokens see each other at all.
        causal: whether tokens see only those before them.
        relative: whether moving all positions by the same distance changes nothing.
        any_length: whether it can be a graph that holds for every length, as torch.export makes it.
        bfloat16_tolerance: relative error under autocast: eight bits of mantissa, through a few layers.
    """

    dim = 16
    length = 23
    mixes = True
    causal = False
    relative = True
    any_length = True
    bfloat16_tolerance = 0.05

    def make(self) -> ContextEncoder:
        """A small encoder, float32, at random."""
        raise NotImplementedError

    def naive(self, encoder: ContextEncoder, tokens: Tensor, positions: Tensor) -> Tensor:
        """The encoder's output by another, slow and plain implementation, with the encoder's parameters."""
        raise NotImplementedError

    def in_other_segments(self) -> Sequence[ContextEncoder]:
        """Encoders like that of `make` that work in pieces of other sizes, which must change no result."""
        return ()

    def test_written_for_any_length_it_is_the_same(self) -> None:
        encoder = self._exact().eval()
        for length in (1, 2, 5, self.length) if self.any_length else ():
            tokens, positions = (values[:, :length] for values in self._tokens(1))
            with torch.no_grad():
                found = encoder.encode_any(tokens, positions)
            torch.testing.assert_close(found, encoder(tokens, positions))

    def test_padding_changes_nothing(self) -> None:
        encoder = self._exact()
        tokens, positions = self._tokens(3)
        mask = torch.arange(self.length) < torch.tensor([[self.length], [1], [self.length - 4]])
        alone = torch.zeros_like(tokens)
        for image, length in enumerate(mask.sum(1).tolist()):
            alone[image, :length] = encoder(
                tokens[image : image + 1, :length], positions[image : image + 1, :length]
            )[0]
        torch.testing.assert_close(encoder(tokens, positions, mask), alone)
        noise = torch.where(mask[..., None], tokens, torch.nan)
        torch.testing.assert_close(encoder(noise, positions, mask), alone)

    def test_batch_equals_one_by_one(self) -> None:
        encoder = self._exact()
        tokens, positions = self._tokens(3)
        parts = [encoder(tokens[i : i + 1], positions[i : i + 1]) for i in range(3)]
        torch.testing.assert_close(encoder(tokens, positions), torch.cat(parts), rtol=1e-9, atol=1e-9)

    def test_in_segments_equals_whole(self) -> None:
        encoder = self._exact()
        tokens, positions = self._tokens(2)
        expected = _with_gradients(encoder, encoder(tokens.requires_grad_(), positions), tokens)
        for other in self.in_other_segments():
            other.double().load_state_dict(encoder.state_dict())
            result = _with_gradients(other, other(tokens, positions), tokens)
            torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)

    def test_naive_twin_agrees(self) -> None:
        encoder = self._exact()
        tokens, positions = self._tokens(2)
        tokens.requires_grad_()
        expected = _with_gradients(encoder, self.naive(encoder, tokens, positions), tokens)
        result = _with_gradients(encoder, encoder(tokens, positions), tokens)
        torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)

    def test_gradients_reach_every_parameter(self) -> None:
        encoder = self.make()
        tokens, positions = self._tokens(2, torch.float32)
        encoder(tokens.requires_grad_(), positions).pow(2).sum().backward()
        for name, parameter in encoder.named_parameters():
            assert parameter.grad is not None, f"no gradient for {name}"
            assert parameter.grad.abs().max() > 0, f"only zeros as gradient for {name}"

    def test_no_gradients_changes_nothing(self) -> None:
        encoder = self._exact()
        tokens, positions = self._tokens(1)
        expected = encoder(tokens, positions).detach()
        with torch.no_grad():
            torch.testing.assert_close(encoder(tokens, positions), expected, rtol=1e-9, atol=1e-9)
        with torch.inference_mode():
            torch.testing.assert_close(encoder(tokens, positions), expected, rtol=1e-9, atol=1e-9)

    def test_any_length(self) -> None:
        encoder = self.make().eval()
        for length in (0, 1, 2, 3, self.length * 7):
            tokens, positions = (values[:, :length] for values in self._tokens(1, torch.float32, length or 1))
            with torch.no_grad():
                result = encoder(tokens, positions)
            assert result.shape == tokens.shape
            assert result.isfinite().all()

    def test_bfloat16_autocast_is_finite(self) -> None:
        encoder = self.make()
        tokens, positions = self._tokens(2, torch.float32)
        tokens.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            result = encoder(tokens, positions)
        exact = encoder(tokens, positions)
        assert (result - exact).norm() <= self.bfloat16_tolerance * exact.norm()
        result.float().pow(2).sum().backward()
        for gradient in (tokens.grad, *(parameter.grad for parameter in encoder.parameters())):
            assert gradient is not None
            assert gradient.isfinite().all()

    def test_backward_inside_autocast_equals_outside(self) -> None:
        encoder = self.make()
        tokens, positions = self._tokens(1, torch.float32)
        found = []
        for inside in (False, True):
            leaf = tokens.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16):
                loss = encoder(leaf, positions).float().pow(2).sum()
                if inside:
                    loss.backward()
            if not inside:
                loss.backward()
            gradients = [leaf.grad, *(parameter.grad for parameter in encoder.parameters())]
            assert all(gradient is not None for gradient in gradients)
            found.append(torch.cat([gradient.flatten() for gradient in gradients if gradient is not None]))
            encoder.zero_grad()
        # Inside, the products of the backward pass are rounded too.
        assert (found[1] - found[0]).norm() <= self.bfloat16_tolerance * found[0].norm()

    def test_frozen_parameters_get_no_gradient(self) -> None:
        encoder = self.make().requires_grad_(False)
        tokens, positions = self._tokens(1, torch.float32)
        encoder(tokens.requires_grad_(), positions).pow(2).sum().backward()
        assert tokens.grad is not None
        assert tokens.grad.abs().sum(2).min() > 0
        assert all(parameter.grad is None for parameter in encoder.parameters())

    def test_one_end_reaches_the_other(self) -> None:
        encoder = self._exact()
        tokens, positions = self._tokens(1)
        with torch.no_grad():
            before = encoder(tokens, positions)
            for here, there in ((0, self.length - 1), (self.length - 1, 0)):
                changed = tokens.clone()
                changed[:, here] *= -1
                difference = (encoder(changed, positions) - before)[:, there].abs().max()
                expected = self.mixes and not (self.causal and there < here)
                assert (difference > 1e-12) == expected

    def test_positions_matter_in_pixels(self) -> None:
        encoder = self._exact()
        tokens, positions = self._tokens(1)
        with torch.no_grad():
            before = encoder(tokens, positions)
            moved = encoder(tokens, positions + torch.tensor([4096.0, -1000.0]))
            spread = encoder(tokens, positions * torch.tensor([1.0, 2.0]))
        assert torch.allclose(moved, before, rtol=1e-6, atol=1e-9) == (self.relative or not self.mixes)
        assert torch.allclose(spread, before, rtol=1e-6, atol=1e-9) != self.mixes

    def test_positions_may_be_whole_numbers(self) -> None:
        encoder = self.make().eval()
        tokens, positions = self._tokens(1, torch.float32)
        with torch.no_grad():
            torch.testing.assert_close(encoder(tokens, positions.long()), encoder(tokens, positions))

    def test_bfloat16_weights(self) -> None:
        encoder = self.make().bfloat16()
        tokens, positions = self._tokens(1, torch.bfloat16)
        result = encoder(tokens.requires_grad_(), positions)
        result.pow(2).sum().backward()
        assert result.dtype == torch.bfloat16
        assert tokens.grad is not None
        assert tokens.grad.isfinite().all()

    def test_may_be_checkpointed(self) -> None:
        encoder = self._exact()
        tokens, positions = self._tokens(2)
        expected = _with_gradients(encoder, encoder(tokens.requires_grad_(), positions), tokens)
        again = checkpoint(encoder, tokens, positions, use_reentrant=False)
        torch.testing.assert_close(_with_gradients(encoder, again, tokens), expected)

    def test_saved_and_loaded_is_the_same(self) -> None:
        encoder = self._exact().eval()
        tokens, positions = self._tokens(1)
        torch.manual_seed(1234)
        other = self.make().double().eval()
        other.load_state_dict(encoder.state_dict())
        with torch.no_grad():
            expected = encoder(tokens, positions)
            assert torch.equal(encoder(tokens, positions), expected)
            assert torch.equal(other(tokens, positions), expected)

    def _exact(self) -> ContextEncoder:
        """In float64, with parameters that start at zero or one moved off, as those hide mistakes."""
        torch.manual_seed(0)
        encoder = self.make().double()
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return encoder

    def _tokens(
        self, images: int, dtype: torch.dtype = torch.float64, length: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Random tokens, and the positions of a raster of regions of 64 pixels, 5 in a row."""
        torch.manual_seed(1)
        length = length or self.length
        index = torch.arange(length)
        positions = torch.stack([index // 5, index % 5], dim=1).to(dtype) * 64 + 32
        return torch.randn(images, length, self.dim, dtype=dtype), positions.expand(images, -1, -1)


def _with_gradients(encoder: ContextEncoder, output: Tensor, tokens: Tensor) -> list[Tensor]:
    """The output, and the gradients of some function of it for tokens and parameters."""
    inputs = [tokens, *encoder.parameters()]
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return [output.detach(), *torch.autograd.grad((output * weights).sum() + output.pow(2).sum(), inputs)]
