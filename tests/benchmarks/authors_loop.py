"""The peer of `bench_colearning`: float co-learning in PyTorch, in the paper's authors' style.

Written from the paper's description (arXiv 2310.06047) and from nobody's code: the autoencoder and
its seven float students, LeakyReLU(0.3), an Adam with weight decay for each network, a shuffling
`DataLoader`; for every batch one step of the teacher, then one step of every student towards
`log(1 + mse)` of the reconstruction that the teacher has just learned from. An epoch ends with the
losses on validation events, batch by batch; there is no checkpoint and no schedule. It needs
`torch` and NumPy, in an environment of its own (`requirements-peer.txt`):

    python authors_loop.py images.npz --epochs 6 --threads 2

where `images.npz` holds `images` and `validation`, (N, 28, 28, 1) in [0, 1]. Prints a line of JSON
that says what runs, then one for every epoch; with `--wait` an epoch begins when a line comes on
standard input.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BATCH, RATE, DECAY, SLOPE = 100, 1e-3, 1e-5, 0.3
# Convolutions as (channels, stride), "pool" between them: FACTS of the paper, table of students.
STUDENTS: dict[str, tuple[Any, ...]] = {
    "s1": ((8, 1), (16, 1), (16, 1), (16, 2), (8, 2)),
    "s2": ((8, 1), (8, 1), (8, 1), (8, 2), (4, 2)),
    "s3": ((8, 1), "pool", (8, 1), (4, 2)),
    "s4": ((4, 1), "pool", (8, 2), "pool"),
    "s5": ((4, 1), "pool", (4, 2), "pool"),
    "s6": ((2, 1), "pool", (4, 2), "pool"),
    "s7": ((2, 1), "pool", (2, 2), "pool"),
}


def convolutions(steps: tuple[Any, ...]) -> tuple[list[nn.Module], int, int]:
    """Layers, channels and side of what comes out for images of 28 x 28."""
    layers: list[nn.Module] = []
    channels, side = 1, 28
    for step in steps:
        if step == "pool":
            layers.append(nn.AvgPool2d(2))
            side //= 2
            continue
        wider, stride = step
        layers += [nn.Conv2d(channels, wider, 3, stride), nn.LeakyReLU(SLOPE)]
        channels, side = wider, (side - 3) // stride + 1
    return layers, channels, side


def student(steps: tuple[Any, ...]) -> nn.Module:
    """Event -> score, (N, 1, 28, 28) -> (N, 1)."""
    layers, channels, side = convolutions(steps)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, 1))


def teacher(latent: int = 20) -> nn.Module:
    """Event -> reconstruction, both (N, 1, 28, 28)."""
    encoder, channels, side = convolutions(((8, 1), (16, 1), (16, 1), (16, 2), (8, 2)))
    flat = channels * side * side
    decoder: list[nn.Module] = [nn.Linear(latent, flat), nn.LeakyReLU(SLOPE)]
    decoder.append(nn.Unflatten(1, (channels, side, side)))
    for narrow in (channels, 16, 16):
        decoder.append(nn.ConvTranspose2d(narrow, 16, 3, 2, padding=1, output_padding=1))
        decoder.append(nn.LeakyReLU(SLOPE))
    decoder += [nn.Conv2d(16, 8, 3), nn.LeakyReLU(SLOPE), nn.Conv2d(8, 1, 3), nn.Sigmoid()]
    return nn.Sequential(*encoder, nn.Flatten(), nn.Linear(flat, latent), *decoder)


def parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(each.numel() for each in network.parameters())


def adam(network: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of one network."""
    return torch.optim.Adam(network.parameters(), lr=RATE, weight_decay=DECAY)


def score(reconstruction: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """What students learn, (N,)."""
    with torch.no_grad():
        return torch.log1p(torch.square(reconstruction - images).mean(dim=(1, 2, 3)))


def train(
    loader: DataLoader[Any], networks: dict[str, nn.Module], optimizers: dict[str, Any]
) -> dict[str, float]:
    """An epoch of co-learning; mean losses."""
    reconstruction_loss, distance = nn.MSELoss(), nn.L1Loss()
    running = dict.fromkeys(networks, 0.0)
    for network in networks.values():
        network.train()
    for (images,) in loader:
        optimizers["teacher"].zero_grad()
        reconstruction = networks["teacher"](images)
        loss = reconstruction_loss(reconstruction, images)
        loss.backward()
        optimizers["teacher"].step()
        running["teacher"] += loss.item()
        for name in STUDENTS:
            optimizers[name].zero_grad()
            target = score(reconstruction, images)
            loss = distance(networks[name](images).squeeze(1), target)
            loss.backward()
            optimizers[name].step()
            running[name] += loss.item()
    return {name: total / len(loader) for name, total in running.items()}


@torch.no_grad()  # type: ignore[untyped-decorator]
def validate(loader: DataLoader[Any], networks: dict[str, nn.Module]) -> dict[str, float]:
    """Mean losses on events that nobody learns from."""
    running = dict.fromkeys(networks, 0.0)
    for network in networks.values():
        network.eval()
    for (images,) in loader:
        reconstruction = networks["teacher"](images)
        running["teacher"] += nn.functional.mse_loss(reconstruction, images).item()
        for name in STUDENTS:
            target = score(reconstruction, images)
            said = networks[name](images).squeeze(1)
            running[name] += nn.functional.l1_loss(said, target).item()
    return {name: total / len(loader) for name, total in running.items()}


def batches(images: Any, *, shuffle: bool) -> DataLoader[Any]:
    """Events (N, 28, 28, 1), a batch at a time."""
    events = torch.from_numpy(images.astype(np.float32).reshape(-1, 1, 28, 28))
    return DataLoader(TensorDataset(events), batch_size=BATCH, shuffle=shuffle)


def say(line: dict[str, Any]) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Train for some epochs and say how long each took."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("images")
    arguments.add_argument("--epochs", type=int, default=6)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--wait", action="store_true")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    with np.load(options.images) as stored:
        loader = batches(stored["images"], shuffle=True)
        judged = batches(stored["validation"], shuffle=False)
    networks = {"teacher": teacher()} | {name: student(own) for name, own in STUDENTS.items()}
    optimizers = {name: adam(network) for name, network in networks.items()}
    say(
        {
            "images": len(loader.dataset),  # type: ignore[arg-type]
            "validation": len(judged.dataset),  # type: ignore[arg-type]
            "batches": len(loader),
            "threads": torch.get_num_threads(),
            "parameters": {name: parameters(network) for name, network in networks.items()},
            "torch": torch.__version__,
        }
    )
    for _ in range(options.epochs):
        if options.wait and not sys.stdin.readline():
            break
        started, worked = time.perf_counter(), time.process_time()
        losses, validation = train(loader, networks, optimizers), validate(judged, networks)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - worked
        say(
            {
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "losses": losses,
                "validation": validation,
            }
        )


if __name__ == "__main__":
    main()
