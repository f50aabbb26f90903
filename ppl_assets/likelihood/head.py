"""Negative log-likelihoods (nats) from hidden states, without ever holding a [tokens, vocabulary] tensor.

The last hidden state of *any* causal LM is what its output layer is called with, so it is caught there instead of being
asked of the architecture. What the architecture does to logits after that layer (a scale, a soft cap, nothing) is found
by feeding it chosen values, and the whole plan is checked against the model's own logits; where it does not reproduce
them, the model's own logits are used. The log-sum-exp over the vocabulary is taken block by block, in float32 whatever
the model's dtype: relative to the target's logit where that is in float32's range, else to the largest of each block.

Axes: B texts, T positions, R scored positions, D width, V vocabulary.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Rows x vocabulary entries of logits held at once. On CPU the buffer (4 MB in float32) stays in the second-level cache:
# 1.0-1.3 times the bare matmul, against 1.2-5 times for a whole cross-entropy. On a GPU large blocks keep it busy.
CPU_BLOCK = (1024, 1024)
GPU_BLOCK = (4096, 16384)
# Rows of a block that are reduced at once on CPU: their float32 (1 MB) stays in the second-level cache from the first
# pass over them to the last, 1.3 times as fast in bf16 as the whole block.
CPU_REDUCED_ROWS = 256
# Largest deviation from the model's own logits, relative to the largest of them: rounding of one matmul and no more.
LOGIT_TOLERANCE = {"float64": 1e-6, "float32": 1e-4, "bfloat16": 2e-2, "float16": 4e-3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How logits come from what is caught: ``g(h @ weight.T + bias)`` with ``g(z) = cap tanh(scale z / cap)``.

    Attributes:
        layer: the output layer at which hidden states are caught; None where only the model's own logits will do.
        scale: factor after the layer.
        cap: soft cap after the scale, None for none.
    """

    layer: Any
    scale: float = 1.0
    cap: float | None = None


@contextmanager
def eval_mode(model: Any) -> Iterator[None]:
    """Dropout off and autograd off, the mode of each module put back afterwards."""
    import torch

    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _forward_replaced(layer: Any, forward: Callable[["torch.Tensor"], "torch.Tensor"]) -> Iterator[None]:
    # An instance attribute shadows the class's method and leaves hooks, device placement and weights alone. Where one
    # is there already (accelerate sets it), it is put back.
    previous = vars(layer).get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if previous is not None:
            layer.forward = previous


@contextmanager
def hidden_states(model: Any, head: Head) -> Iterator[Callable[["torch.Tensor"], "torch.Tensor"]]:
    """A function from ids_BT to what `nll_of_rows` takes: hidden_BTD, or logits_BTV for a head without a layer.

    The model's output layer is disarmed inside the context: one context per model at a time.
    """
    if head.layer is None:
        yield lambda ids_BT: model_logits(model, ids_BT)
        return
    caught: list[torch.Tensor] = []

    def catch(hidden: "torch.Tensor") -> "torch.Tensor":
        caught.append(hidden)
        return hidden

    def hidden_of(ids_BT: "torch.Tensor") -> "torch.Tensor":
        _forward(model, ids_BT)
        # A model spread over devices may call its output layer with a tensor of another one.
        return caught.pop().reshape(*ids_BT.shape, -1).to(head.layer.weight.device)

    with _forward_replaced(head.layer, catch):
        yield hidden_of


def model_logits(model: Any, ids_BT: "torch.Tensor") -> "torch.Tensor":
    """logits_BTV as the model itself computes them."""
    return _forward(model, ids_BT).logits


def _forward(model: Any, ids_BT: "torch.Tensor") -> Any:
    # No attention mask: a causal model never looks right, so right padding cannot matter, and a mask would forbid the
    # fused causal kernels.
    accepted = inspect.signature(model.forward).parameters
    options = {name: value for name, value in (("use_cache", False), ("return_dict", True)) if name in accepted}
    return model(input_ids=ids_BT, **options)


def find_head(model: Any, ids_BT: "torch.Tensor") -> Head:
    """The plan that reproduces the model's own logits on the probe `ids_BT` (a few short rows), within `eval_mode`."""
    import torch

    layer = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    weight = getattr(layer, "weight", None)
    tolerance = LOGIT_TOLERANCE.get(str(getattr(weight, "dtype", None)).removeprefix("torch."))
    if not isinstance(layer, torch.nn.Linear) or tolerance is None:  # quantised weights, or a layer of another kind
        return Head(layer=None)
    expected = model_logits(model, ids_BT)
    try:
        scale, cap = _after_layer(model, layer, ids_BT)
        head = Head(layer=layer, scale=scale, cap=cap)
        with hidden_states(model, head) as hidden_of:
            logits = _logits(hidden_of(ids_BT), head)
    # Architectures that index or reshape logits by vocabulary fail on other shapes; their own logits serve.
    except (RuntimeError, IndexError, ValueError, AttributeError):
        return Head(layer=None)
    if logits.shape != expected.shape or not logits.isfinite().all():
        return Head(layer=None)
    atol = tolerance * float(logits.abs().max())
    same = torch.allclose(logits, expected.to(logits.dtype), rtol=0, atol=atol)
    return head if same else Head(layer=None)


def _after_layer(model: Any, layer: Any, ids_BT: "torch.Tensor") -> tuple[float, float | None]:
    """Scale and soft cap that the model applies after its output layer, from its answers to chosen layer outputs.

    ``g(z) = cap tanh(scale z / cap)`` has slope `scale` at 0 and limit `cap` at infinity.

    Raises:
        ValueError: the answers are not of that form.
    """
    import torch

    def answer(value: float) -> float:
        # float32 even for a bf16 model: the scale must be known better than bf16 can say it.
        def constant(hidden: "torch.Tensor") -> "torch.Tensor":
            return torch.full((*hidden.shape[:-1], layer.out_features), value, device=hidden.device)

        with _forward_replaced(layer, constant):
            return float(model_logits(model, ids_BT).flatten()[0])

    small, large = 2.0**-10, 2.0**14
    scale, limit = answer(small) / small, answer(large)
    cap = limit if limit < 0.5 * scale * large else None
    middle = (cap or 1.0) / scale if scale else 0.0
    if not math.isclose(answer(middle), cap * math.tanh(1) if cap else 1.0, rel_tol=1e-3):
        raise ValueError("logits are neither scaled nor soft-capped")
    return scale, cap


def _logits(hidden: "torch.Tensor", head: Head) -> "torch.Tensor":
    import torch

    logits = torch.nn.functional.linear(hidden, head.layer.weight, head.layer.bias).to(_reduction_dtype(hidden))
    return _shape_logits(logits, head)


def _shape_logits(logits: "torch.Tensor", head: Head) -> "torch.Tensor":
    """Scale and soft cap, in place."""
    if head.scale != 1.0:
        logits.mul_(head.scale)
    if head.cap is not None:
        logits.div_(head.cap).tanh_().mul_(head.cap)
    return logits


def _reduction_dtype(tensor: "torch.Tensor") -> "torch.dtype":
    import torch

    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def nll_of_rows(rows: "torch.Tensor", target_R: "torch.Tensor", head: Head) -> "torch.Tensor":
    """-log p(target) in nats, float32 [R] (float64 for a float64 model).

    `rows` is hidden_RD, or logits_RV for a head without a layer.
    """
    import torch

    on_cpu = rows.device.type == "cpu"
    n_rows, n_vocabulary = CPU_BLOCK if on_cpu else GPU_BLOCK
    # To ask whether a token is lost to the range of float32 would make the host wait for a GPU.
    nll_of_block = _relative_to_target if on_cpu else _relative_to_largest
    nll_R = torch.empty(len(rows), dtype=_reduction_dtype(rows), device=rows.device)
    for start in range(0, len(rows), n_rows):
        block, target = rows[start : start + n_rows], target_R[start : start + n_rows]
        logit = _target_logit(block, target, head)
        nll_R[start : start + n_rows] = nll_of_block(block, target, logit, head, n_vocabulary)
    return nll_R


def _target_logit(rows: "torch.Tensor", target_R: "torch.Tensor", head: Head) -> "torch.Tensor":
    # In float32 even for a bf16 model: the rounding of this one logit would go straight into the NLL, whereas that of
    # the others averages out in the sum.
    dtype = _reduction_dtype(rows)
    if head.layer is None:
        return rows.gather(1, target_R[:, None]).squeeze(1).to(dtype)
    logit_R = (rows.to(dtype) * head.layer.weight[target_R].to(dtype)).sum(1)
    if head.layer.bias is not None:
        logit_R += head.layer.bias[target_R].to(dtype)
    return _shape_logits(logit_R, head)


def _relative_to_target(
    rows: "torch.Tensor", target_R: "torch.Tensor", target_logit_R: "torch.Tensor", head: Head, n_vocabulary: int
) -> "torch.Tensor":
    """log(1 + sum of exp(logit_v - target's logit) over the other entries v): a pass less than with the largest logit.

    A sure prediction costs 0 nats whatever the rounding of logits. Rows that cost more than the 88 nats of float32's
    range are taken relative to their largest logit.
    """
    import torch

    # By target, so that the targets within a block of the vocabulary stand in neighbouring rows.
    sorted_R, order_R = target_R.sort()
    sorted_rows, shift_R1 = rows[order_R], target_logit_R[order_R, None]
    starts = range(0, _vocabulary(rows, head), n_vocabulary)
    bounds = torch.searchsorted(sorted_R, torch.tensor([*starts, starts[-1] + n_vocabulary])).tolist()
    product_buffer = torch.empty(len(rows) * n_vocabulary, dtype=rows.dtype)
    logit_buffer = torch.empty(CPU_REDUCED_ROWS * n_vocabulary, dtype=target_logit_R.dtype)
    others_R = torch.zeros_like(target_logit_R)
    for start, first_own, end_own in zip(starts, bounds, bounds[1:], strict=False):
        products = _products(sorted_rows, head, start, n_vocabulary, product_buffer)
        for begin in range(0, len(rows), CPU_REDUCED_ROWS):
            part = slice(begin, begin + CPU_REDUCED_ROWS)
            logits = _float_logits(products[part], head, start, logit_buffer)
            low, high = max(begin, first_own), min(begin + len(logits), end_own)
            if low < high:
                logits[torch.arange(low - begin, high - begin), sorted_R[low:high] - start] = -torch.inf
            others_R[part] += logits.sub_(shift_R1[part]).exp_().sum(1)
    nll_R = torch.empty_like(others_R)
    nll_R[order_R] = others_R.log1p_()
    lost_R = ~nll_R.isfinite()
    if lost_R.any():
        nll_R[lost_R] = _relative_to_largest(rows[lost_R], target_R[lost_R], target_logit_R[lost_R], head, n_vocabulary)
    return nll_R


def _relative_to_largest(
    rows: "torch.Tensor", target_R: "torch.Tensor", target_logit_R: "torch.Tensor", head: Head, n_vocabulary: int
) -> "torch.Tensor":
    """log of the sum of exp(logit_v), block by block relative to the block's largest, less the target's logit.

    The target's own term is `target_logit_R`, so that a sure prediction costs 0 nats whatever the rounding of logits.
    """
    import torch

    lse_R = torch.full_like(target_logit_R, -torch.inf)
    # On a GPU the product comes out in float32 as it is.
    product_dtype = lse_R.dtype if rows.is_cuda else rows.dtype
    product_buffer = torch.empty(len(rows) * n_vocabulary, dtype=product_dtype, device=rows.device)
    in_place = product_dtype == lse_R.dtype and head.layer is not None
    logit_buffer = product_buffer if in_place else torch.empty_like(product_buffer, dtype=lse_R.dtype)
    for start in range(0, _vocabulary(rows, head), n_vocabulary):
        logits = _float_logits(_products(rows, head, start, n_vocabulary, product_buffer), head, start, logit_buffer)
        here_R1 = ((target_R >= start) & (target_R < start + n_vocabulary))[:, None]
        column_R1 = (target_R - start).clamp_(0, logits.shape[1] - 1)[:, None]
        logits.scatter_(1, column_R1, torch.where(here_R1, target_logit_R[:, None], logits.gather(1, column_R1)))
        lse_R = torch.logaddexp(lse_R, _log_sum_exp(logits, finite=head.layer is not None))
    return lse_R - target_logit_R


def _log_sum_exp(logits: "torch.Tensor", *, finite: bool) -> "torch.Tensor":
    """log of the sum of exp over the last axis; `finite` promises that no logit is an infinity (a masked entry)."""
    import torch

    if not finite:
        return logits.logsumexp(1)
    # What log-softmax takes off the first logit. A GPU computes it in one kernel, logsumexp in several passes over
    # memory: measured 1.9 times as fast with the product of a width of 768.
    return logits[:, 0] - torch.log_softmax(logits, 1)[:, 0]


def _vocabulary(rows: "torch.Tensor", head: Head) -> int:
    return rows.shape[1] if head.layer is None else head.layer.out_features


def _products(
    rows: "torch.Tensor", head: Head, start: int, n_vocabulary: int, buffer: "torch.Tensor"
) -> "torch.Tensor":
    """rows @ weight.T for `n_vocabulary` entries from `start`, in `buffer`; without a layer, the rows' own."""
    import torch

    if head.layer is None:
        return rows[:, start : start + n_vocabulary]
    weight = head.layer.weight[start : start + n_vocabulary].T
    # Preallocated: on CPU a fresh buffer per block costs more in page faults than the matmul.
    product = buffer[: len(rows) * weight.shape[1]].view(len(rows), weight.shape[1])
    if buffer.dtype != rows.dtype:
        return torch.mm(rows, weight, out_dtype=buffer.dtype, out=product)
    return torch.mm(rows, weight, out=product)


def _float_logits(products: "torch.Tensor", head: Head, start: int, buffer: "torch.Tensor") -> "torch.Tensor":
    """The logits that follow from `_products`: in place where those are floats of the head's own, else in `buffer`."""
    logits = products
    if head.layer is None or products.dtype != buffer.dtype:
        logits = buffer[: products.numel()].view(products.shape).copy_(products)
    if head.layer is not None and head.layer.bias is not None:
        logits.add_(head.layer.bias[start : start + products.shape[1]])
    return _shape_logits(logits, head)
