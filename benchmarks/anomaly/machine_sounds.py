"""Synthetic sounds of a small motor, sound or with a fault, as the log-mel windows of MLPerf Tiny's anomaly detection.

A motor is a row of harmonics of its speed, which drifts, over brush noise and the noise of a room. A fault is one of
three, of random strength: a bearing rings at every turn of its balls, a bent shaft beats, a loose mount adds half the
speed. Two seconds at 16 kHz become windows of five frames with 128 mel bands each, in dB.

Source of the features: Koizumi et al., DCASE 2020 task 2 baseline, 2020; Banbury et al., MLPerf Tiny Benchmark, 2021.
"""

import numpy as np
from numpy.typing import NDArray

RATE, SECONDS = 16_000, 2.0
FRAME, HOP, BANDS, FRAMES = 1024, 512, 128, 5
HARMONICS = 24

Array = NDArray[np.float64]


def clip(random: np.random.Generator, *, faulty: bool) -> Array:
    """Return one sound (samples,)."""
    time = np.arange(int(RATE * SECONDS)) / RATE
    speed = random.uniform(90, 130)
    drift = 1 + 0.01 * np.sin(2 * np.pi * random.uniform(0.2, 0.8) * time + random.uniform(0, 2 * np.pi))
    turns = np.cumsum(speed * drift) / RATE  # revolutions so far
    order = np.arange(1, HARMONICS + 1)
    loudness = order**-0.8 * (1 + 0.6 * (order % 3 == 0)) * random.lognormal(0, 0.25, HARMONICS)
    motor = np.sum(
        loudness[:, None] * np.sin(2 * np.pi * (order[:, None] * turns + random.uniform(0, 1, (HARMONICS, 1)))), 0
    )
    brushes = random.normal(0, 1, len(time)) * (1 + 0.5 * np.sin(2 * np.pi * 3 * turns))
    sound = motor + random.uniform(0.2, 0.4) * brushes + random.uniform(0.3, 0.6) * _room(random, len(time))
    if faulty:
        strength = random.lognormal(np.log(0.35), 0.7)
        sound = sound + strength * (_bearing, _bent_shaft, _loose_mount)[random.integers(3)](random, time, turns)
    return random.lognormal(-2, 0.2) * sound


def _room(random: np.random.Generator, length: int) -> Array:
    """Return noise whose power falls with the frequency, of unit variance."""
    spectrum = np.fft.rfft(random.normal(0, 1, length))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 20))
    noise = np.fft.irfft(spectrum, length)
    return np.asarray(noise / noise.std())


def _bearing(random: np.random.Generator, time: Array, turns: Array) -> Array:
    passing = random.uniform(3.1, 4.9) * turns
    since = (passing % 1) / (random.uniform(3.1, 4.9) * 110)  # seconds since the last ball
    return np.asarray(2 * np.exp(-since * 900) * np.sin(2 * np.pi * random.uniform(2500, 5000) * since))


def _bent_shaft(random: np.random.Generator, time: Array, turns: Array) -> Array:
    return np.asarray(np.sin(2 * np.pi * random.uniform(0.1, 0.3) * turns) * np.sin(2 * np.pi * 7.5 * turns) * 2)


def _loose_mount(random: np.random.Generator, time: Array, turns: Array) -> Array:
    halves = np.arange(1, 12) - 0.5
    return np.asarray(np.sum(np.sin(2 * np.pi * halves[:, None] * turns) / np.sqrt(halves[:, None]), 0) * 0.7)


def mel_filters() -> Array:
    """Return triangular filters (bands, bins), evenly spread on the mel scale m = 2595 log10(1 + f / 700)."""
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, FRAME // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


def windows(sound: Array, filters: Array) -> NDArray[np.float32]:
    """Return the log-mel windows of a sound (windows, 640) in dB; they do not overlap."""
    starts = np.arange(0, len(sound) - FRAME + 1, HOP)
    frames = sound[starts[:, None] + np.arange(FRAME)] * np.hanning(FRAME)
    power = np.abs(np.fft.rfft(frames)) ** 2 @ filters.T
    decibel = 10 * np.log10(power + 1e-8)
    whole = len(decibel) // FRAMES * FRAMES
    return decibel[:whole].reshape(-1, FRAMES * BANDS).astype(np.float32)


def clips(seed: int, normal: int, faulty: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return windows (N, 640), whether each is of a faulty motor (N,), and the clip each was cut from (N,)."""
    random, filters = np.random.default_rng(seed), mel_filters()
    cut = [windows(clip(random, faulty=number >= normal), filters) for number in range(normal + faulty)]
    count = len(cut[0])
    number = np.repeat(np.arange(normal + faulty), count)
    return np.concatenate(cut), (number >= normal).astype(np.int64), number
