"""Embeddings of sounds: MFCC statistics of recordings that are shown by their spectrograms.

    python docs/examples/audio_embeddings.py

FiftyOne's samples need a file to show. A spectrogram is one that people can read, and the path of
the recording is a field beside it. The embeddings are mel-frequency cepstral coefficients (Davis
and Mermelstein 1980), their mean and spread over time; ``embed_sound`` is the place for another
model (CLAP, PANNs, ImageBind's audio side), whose embeddings are stored the same way.
"""

import tempfile
import wave
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from PIL import Image
from scipy.fft import dct

# Samples per second, of a frame and between two, mel bands, and coefficients that are kept.
RATE, FRAME, HOP, BANDS, COEFFICIENTS = 16_000, 512, 256, 40, 13


def power_spectrogram(sound: np.ndarray) -> np.ndarray:
    """``(num_frames, FRAME / 2 + 1)`` of a sound in [-1, 1]."""
    count = max(1 + (len(sound) - FRAME) // HOP, 1)
    sound = np.pad(sound, (0, max(0, FRAME - len(sound))))
    frames = np.stack([sound[start : start + FRAME] for start in np.arange(count) * HOP])
    return np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1)) ** 2


def mel_filters() -> np.ndarray:
    """``(BANDS, FRAME / 2 + 1)`` triangles that are evenly spaced as pitch is heard."""
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(FRAME, 1 / RATE)
    low, middle, high = (edges[start : start + BANDS, None] for start in range(3))
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return np.maximum(0, np.minimum(rising, falling))


def embed_sound(sound: np.ndarray) -> np.ndarray:
    """``(2 * COEFFICIENTS,)`` float32; without the first coefficient, which is the loudness."""
    bands = np.log(power_spectrogram(sound) @ mel_filters().T + 1e-10)
    coefficients = dct(bands, axis=1, norm="ortho")[:, 1 : COEFFICIENTS + 1]
    return np.concatenate([coefficients.mean(axis=0), coefficients.std(axis=0)]).astype(np.float32)


def write_sound(path: Path, sound: np.ndarray) -> None:
    """Stores a sound in [-1, 1] as WAV of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound * 32767).astype("<i2").tobytes())


def read_sound(path: Path) -> np.ndarray:
    """A WAV file of one channel and 16 bits as numbers in [-1, 1]."""
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767


def draw_spectrogram(path: Path, sound: np.ndarray) -> None:
    """Time to the right, pitch upward, 60 decibels from black to white."""
    decibels = 10 * np.log10(power_spectrogram(sound).T[::-1] + 1e-10)
    shades = np.clip((decibels - decibels.max() + 60) / 60, 0, 1) * 255
    Image.fromarray(shades.astype(np.uint8)).resize((128, 128)).save(path)


def add_sounds(dataset: fo.Dataset, files: dict[Path, str], folder: Path) -> None:
    """Adds recordings with their labels as samples, shown by spectrograms in a folder."""
    samples = []
    for recording, label in files.items():
        sound = read_sound(recording)
        image = folder / f"{recording.stem}.png"
        draw_spectrogram(image, sound)
        sample = fo.Sample(str(image), recording=str(recording), mfcc=embed_sound(sound))
        sample["instrument"] = fo.Classification(label=label)
        samples.append(sample)
    dataset.add_samples(samples)


def find_odd_sounds(dataset: fo.Dataset) -> dict:
    """Says what the embeddings are, and which recordings do not sound like their label."""
    describe = foo.get_operator("@embedding/quality/describe_embeddings")
    describe(dataset, embeddings="mfcc", model="mfcc 13, mean and spread", of="audio")
    call = {"embeddings": "mfcc", "label_field": "instrument"}
    separability = foo.get_operator("@embedding/quality/compute_separability")(dataset, **call)
    issues = foo.get_operator("@embedding/quality/find_label_issues")(dataset, **call)
    accuracy = separability["overall"]["balanced_accuracy"]
    print(f"instruments are recognized with a balanced accuracy of {100 * accuracy:.0f} %;")
    print(f"{issues['flagged']} labels look wrong: saved view 'label_issues: flagged'")
    return {"balanced_accuracy": accuracy, "flagged": issues["flagged"]}


def tone(kind: str, pitch: float, random: np.random.Generator) -> np.ndarray:
    """Half a second of a synthesized flute, clarinet or violin in [-1, 1]."""
    time = np.arange(RATE // 2) / RATE
    # A flute has few overtones, a clarinet the odd ones, a violin all.
    strength = {
        "flute": lambda n: 0.1 ** (n - 1),
        "clarinet": lambda n: (n % 2) / n,
        "violin": lambda n: 1 / n,
    }[kind]
    waves = [
        strength(number) * np.sin(2 * np.pi * (number * pitch * time + random.uniform()))
        for number in range(1, int(RATE / 2 / pitch))
    ]
    sound = (
        np.sum(waves, axis=0) * np.minimum(1, time / 0.02) * np.exp(-random.uniform(0, 4) * time)
    )
    sound += random.normal(scale=0.01, size=len(sound))
    return 0.9 * sound / np.abs(sound).max()


def record(folder: Path, number: int = 60, seed: int = 51) -> dict[Path, str]:
    """Writes tones of instruments; returns their labels, of which every twentieth is wrong."""
    random = np.random.default_rng(seed)
    kinds = ("flute", "clarinet", "violin")
    files = {}
    for index in range(number):
        kind = kinds[index % 3]
        path = folder / f"{index:03}.wav"
        write_sound(path, tone(kind, random.uniform(200, 800), random))
        files[path] = kinds[(index + 1) % 3] if index % 20 == 7 else kind
    return files


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = fo.Dataset()
        add_sounds(dataset, record(Path(folder)), Path(folder))
        find_odd_sounds(dataset)
        dataset.delete()


if __name__ == "__main__":
    main()
