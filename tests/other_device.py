"""A second device on a machine that has none, to see what a training does on a GPU.

A tensor of `Elsewhere` says that it is on ``meta`` and computes on the CPU. Inside `OtherDevice` a
tensor gets there by ``.to(DEVICE)``, as it would get to a GPU. An operation on tensors of both is
refused, as a GPU refuses it, and what would make the CPU wait for a GPU is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")
"""The one kind of device besides the CPU that every PyTorch has."""

aten = torch.ops.aten

COPIES = (aten._to_copy.default, aten.copy_.default, aten._foreach_copy_.default)
"""May have tensors of both devices."""

INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default)
"""May have indices of the CPU; the places of a mask must be read."""

TO_PYTHON = (aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default)
READS = (*TO_PYTHON, aten.nonzero.default, aten.masked_select.default)


class Elsewhere(Tensor):
    """A tensor of the other device, with its values on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> Elsewhere:
        """Look like ``values``, on the other device."""
        return Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
        )

    def __init__(self, values: Tensor) -> None:
        self.values = values

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{type(self).__name__}({self.values})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Refuse what is not seen by `OtherDevice`."""
        raise RuntimeError(f"{func} of the other device outside OtherDevice")


class OtherDevice(TorchDispatchMode):
    """Compute with tensors of the other device, refuse mixtures, count ``reads``."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation on the CPU, and put what it returns where a GPU would."""
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
        self._refuse_what_cannot_be(func, tensors, there)
        stays = _is_there_then(func, args, kwargs)
        masked = func in INDEXING and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if there and (func in READS or masked or (func in COPIES and not stays)):
            self.reads += 1
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        result = func(*_on_cpu(args), **_on_cpu(kwargs))
        if not stays or func in TO_PYTHON:
            return result
        result = tree_map_only(Tensor, Elsewhere, result)
        return return_and_correct_aliasing(func, args, kwargs, result)

    @staticmethod
    def _refuse_what_cannot_be(
        func: Any, tensors: Sequence[Tensor], there: Sequence[Tensor]
    ) -> None:
        here = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere)]
        if any(tensor.device == DEVICE for tensor in here):
            # From numbers of Python, as the index of `x[:, [0]]` or `torch.tensor(0, device=...)`:
            # no mode is asked, and there are no values.
            raise RuntimeError(f"{func}: a list became a tensor of the device")
        free = func in COPIES or (func in INDEXING and isinstance(tensors[0], Elsewhere))
        if there and not free and any(tensor.ndim for tensor in here):
            raise RuntimeError(f"{func}: tensors of two devices")


def _is_there_then(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether the result of an operation is on the other device."""
    if kwargs.get("device") is not None:
        return bool(kwargs["device"].type == DEVICE.type)
    leaves = tree_leaves(args[:1] if func in COPIES else (args, kwargs))
    return any(isinstance(leaf, Elsewhere) for leaf in leaves)


def _on_cpu(tree: Any) -> Any:
    return tree_map_only(Elsewhere, lambda tensor: tensor.values, tree)
