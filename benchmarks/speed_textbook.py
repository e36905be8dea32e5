"""The steps as a reader of the papers writes them: what our steps are measured against.

Separate forward passes in float32, Fourier work per image in NumPy, loops over weights, every loss
read back for the log. The terms and their weights are those of the papers: without the trust that
:mod:`dim_monai.methods` puts into the teacher, so our gradient is another. :class:`Switches` turns
on one by one what makes a step faster; of each the same gradient must come out.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dim_monai.mixing import mix, mix_amplitude, random_amplitude_shares, random_boxes
from dim_monai.objectives import pseudo_label, segmentation_loss, sigmoid_ramp

DECAY = 0.99
PROGRESS = 0.5  # of the training, in every step that is measured
THRESHOLD, RAMP_LENGTH, WIDTH = 0.9, 0.3, 0.025  # of train.yaml
# image, target, trust in it, weight of the term
Term = tuple[Tensor, Tensor, Tensor | None, float | Tensor]


@dataclass(frozen=True)
class Switches:
    """What makes a textbook step faster; all off is the textbook.

    Attributes:
        batched: one forward pass of the teacher and one of the student.
        inference: the teacher in inference mode.
        autocast: bfloat16 for the forward passes.
        channels_last: memory format of network and images.
        compiled: ``torch.compile`` for both networks.
        foreach: optimizer, teacher and climb by operations on lists of tensors.
        tensors: mixing of amplitudes on tensors, all images at once.
        no_reads: the losses stay on the device.
    """

    batched: bool = False
    inference: bool = False
    autocast: bool = False
    channels_last: bool = False
    compiled: bool = False
    foreach: bool = False
    tensors: bool = False
    no_reads: bool = False


def mix_amplitude_numpy(image: Tensor, style: Tensor, share: Tensor, width: float) -> Tensor:
    """Do what ``mixing.mix_amplitude`` does, image by image (two axes)."""
    results = []
    for x, u, r in zip(image.cpu().numpy(), style.cpu().numpy(), share.numpy(), strict=True):
        low = np.minimum(x, u).min(axis=(1, 2), keepdims=True)
        high = np.maximum(x, u).max(axis=(1, 2), keepdims=True)
        spectrum = np.fft.fftshift(np.fft.fft2(x - low), axes=(1, 2))
        wanted = np.fft.fftshift(np.abs(np.fft.fft2(u - low)), axes=(1, 2))
        amplitude, phase = np.abs(spectrum), np.angle(spectrum)
        height, breadth = x.shape[1:]
        b = int(min(height, breadth) * width)
        rows = slice(height // 2 - b, height // 2 + b + 1)
        columns = slice(breadth // 2 - b, breadth // 2 + b + 1)
        window = (slice(None), rows, columns)
        amplitude[window] = (1 - r) * amplitude[window] + r * wanted[window]
        spectrum = np.fft.ifftshift(amplitude * np.exp(1j * phase), axes=(1, 2))
        mixed = np.fft.ifft2(spectrum).real + low
        results.append(np.clip(mixed, low, high).astype(np.float32))
    return torch.from_numpy(np.stack(results)).to(image.device)


def compile_roles(*networks: nn.Module) -> None:
    """Compile each network by itself.

    What PyTorch compiles belongs to the code of ``forward``, which all networks of a class share,
    and of one code it keeps eight versions by default: the rows of one process, each with a student
    and a teacher of its own modes and shapes, are more, and the last would silently run uncompiled.
    """
    for network in networks:
        network.compile(dynamic=False, isolate_recompiles=True)


class Textbook:
    """One training by the textbook, step by step.

    Args:
        network: the student, on its device.
        method: "mean_teacher", "midss", or "sam", which is SAM on all terms of MiDSS.
        switches: what is done faster.
        rho: radius of SAM.
    """

    def __init__(
        self, network: nn.Module, method: str, switches: Switches | None = None, rho: float = 0.2
    ) -> None:
        self.method, self.rho, self.switches = method, rho, switches or Switches()
        if self.switches.channels_last:
            network.to(memory_format=torch.channels_last)
        self.student, self.teacher = network, copy.deepcopy(network).eval().requires_grad_(False)
        if self.switches.compiled:
            compile_roles(self.student, self.teacher)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), 1e-3, foreach=self.switches.foreach
        )
        self.generator = torch.Generator().manual_seed(0)
        self.device = next(network.parameters()).device

    def step(self, batch: dict[str, Any]) -> None:
        """Make one step."""
        labelled, unlabelled = (
            {name: self._place(value) for name, value in batch[stream].items()}
            for stream in ("labelled", "unlabelled")
        )
        mixes = self.method != "mean_teacher"
        terms = (self._midss if mixes else self._mean_teacher)(labelled, unlabelled)
        self.optimizer.zero_grad()
        self._backward(terms)
        if self.method == "sam":
            self._second_pass(terms)
        self.optimizer.step()
        self._follow()

    def gradient(self) -> Tensor:
        """Return the gradient that the optimizer got, as one vector."""
        return torch.cat(
            [w.grad.flatten() for w in self.student.parameters() if w.grad is not None]
        )

    def _place(self, value: Tensor) -> Tensor:
        value = value.to(self.device)
        return (
            value.contiguous(memory_format=torch.channels_last)
            if self.switches.channels_last
            else value
        )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.switches.autocast
        )

    def _ask(self, network: nn.Module, images: list[Tensor]) -> list[Tensor]:
        with self._autocast():
            if not self.switches.batched:
                return [network(image) for image in images]
            return list(torch.split(network(torch.cat(images)), [len(i) for i in images]))

    def _teach(self, *images: Tensor) -> list[Tensor]:
        with torch.inference_mode() if self.switches.inference else torch.no_grad():
            logits = self._ask(self.teacher, list(images))
        with torch.no_grad():
            return [torch.softmax(values.float(), dim=1) for values in logits]

    def _mean_teacher(
        self, labelled: dict[str, Tensor], unlabelled: dict[str, Tensor]
    ) -> list[Term]:
        label, sure = pseudo_label(*self._teach(unlabelled["weak"]), THRESHOLD)
        ramp = sigmoid_ramp(PROGRESS, length=RAMP_LENGTH)
        return [
            (labelled["strong"], labelled["label"], None, 1.0),
            (unlabelled["strong"], label, sure, ramp),
        ]

    def _midss(self, labelled: dict[str, Tensor], unlabelled: dict[str, Tensor]) -> list[Term]:
        x, y = labelled["weak"], labelled["label"]
        weak, strong = unlabelled["weak"], unlabelled["strong"]
        boxes = random_boxes(len(x), tuple(x.shape[2:]), self.generator).to(x.device)
        shares = random_amplitude_shares(len(x), PROGRESS, self.generator)
        styled = (
            mix_amplitude(x, weak, shares, width=WIDTH)
            if self.switches.tensors
            else mix_amplitude_numpy(x, weak, shares, WIDTH)
        )
        plain, outside, inside = self._teach(weak, mix(x, weak, boxes), mix(weak, x, boxes))
        label, sure = pseudo_label(plain, THRESHOLD)
        merged, merged_sure = pseudo_label(mix(inside, outside, boxes), THRESHOLD)
        agreed = merged_sure * sure * (merged == label)
        lam, full = sigmoid_ramp(PROGRESS, length=RAMP_LENGTH), torch.ones_like(sure)
        return [
            (labelled["strong"], y, None, 1.0),
            (mix(styled, strong, boxes), mix(y, label, boxes), mix(full, sure, boxes), lam),
            (mix(strong, styled, boxes), mix(label, y, boxes), mix(sure, full, boxes), lam),
            (strong, merged, agreed, lam * lam),
        ]

    def _backward(self, terms: list[Term]) -> None:
        logits = self._ask(self.student, [image for image, *_ in terms])
        losses = [
            segmentation_loss(output, target, trust).mean()
            for output, (_, target, trust, _) in zip(logits, terms, strict=True)
        ]
        total = torch.stack(
            [term[3] * loss for term, loss in zip(terms, losses, strict=True)]
        ).sum()
        total.backward()
        if not self.switches.no_reads:
            self.log = [value.item() for value in (total, *losses)]

    @torch.no_grad()
    def _climb(self, gradients: list[Tensor], weights: list[nn.Parameter]) -> list[Tensor]:
        """Move the weights to the worse point; return where they were."""
        before = [weight.clone() for weight in weights]
        if self.switches.foreach:
            norm = torch.stack(torch._foreach_norm(gradients)).norm()
            torch._foreach_add_(weights, torch._foreach_mul(gradients, self.rho / (norm + 1e-12)))
        else:
            norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.add_(gradient * (self.rho / (norm + 1e-12)))
        return before

    def _second_pass(self, terms: list[Term]) -> None:
        weights = [weight for weight in self.student.parameters() if weight.grad is not None]
        before = self._climb([w.grad for w in weights if w.grad is not None], weights)
        self.optimizer.zero_grad()
        self._backward(terms)
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the teacher follow the student."""
        teacher, student = list(self.teacher.parameters()), list(self.student.parameters())
        if self.switches.foreach:
            torch._foreach_mul_(teacher, DECAY)
            torch._foreach_add_(teacher, student, alpha=1 - DECAY)
            return
        for old, new in zip(teacher, student, strict=True):
            old.mul_(DECAY).add_(new, alpha=1 - DECAY)


FLOAT32 = Switches(batched=True, inference=True, tensors=True, foreach=True, no_reads=True)
SWITCHED = {
    "batched forward": Switches(batched=True),
    "teacher in inference mode": Switches(inference=True),
    "mixing on tensors": Switches(tensors=True),
    "foreach optimizer and EMA": Switches(foreach=True),
    "no read of a loss": Switches(no_reads=True),
    "channels last": Switches(channels_last=True),
    "bfloat16": Switches(autocast=True),
    "torch.compile": Switches(compiled=True),
    "all in eager float32": FLOAT32,
    "all": replace(FLOAT32, channels_last=True, autocast=True, compiled=True),
}
