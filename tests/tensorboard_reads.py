"""Reads what tests/tensorboard_reads.rs writes with TensorBoard's own code: python tensorboard_reads.py DIR."""

import io
import math
import sys
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.data_compat import migrate_event
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.util import tensor_util

SIZES = {"scalars": 0, "histograms": 0, "images": 0, "tensors": 0}
START = 1_800_000_000.0


def check_events(folder):
    files = list(folder.glob("events.out.tfevents.*"))
    assert len(files) == 1, files
    events = EventAccumulator(str(folder), size_guidance=SIZES)
    events.Reload()
    tags = events.Tags()
    assert tags["scalars"] == ["pretrain/loss"] and tags["images"] == ["centroids", "colour"], tags
    loss = events.Scalars("pretrain/loss")
    assert [event.step for event in loss] == list(range(101))
    assert all(event.wall_time == START + event.step for event in loss)
    assert all(math.isclose(event.value, 1 / (event.step + 1), rel_tol=1e-7) for event in loss[:100])
    assert math.isnan(loss[100].value)
    (histogram,) = events.Histograms("confidence")
    value = histogram.histogram_value
    expected = (np.arange(1000, dtype="f4") / np.float32(1000)) ** 2
    assert histogram.step == 7 and value.num == 1000 and sum(value.bucket) == 1000
    assert math.isclose(value.sum, expected.sum(dtype="f8"), rel_tol=1e-6)
    edges = [value.min, *value.bucket_limit]
    assert np.array_equal(value.bucket, np.histogram(expected, edges)[0]) and edges[-1] == value.max
    assert events.Histograms("same")[0].histogram_value.bucket == [10.0]
    (image,) = events.Images("centroids")
    pixels = np.arange(240).reshape(10, 4, 6)
    grid = np.zeros((12, 24))
    for tile in range(10):
        y, x = 4 * (tile // 4), 6 * (tile % 4)
        grid[y : y + 4, x : x + 6] = pixels[tile]
    assert (image.width, image.height, image.step) == (24, 12, 3)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.encoded_image_string))), grid)
    colour = Image.open(io.BytesIO(events.Images("colour")[0].encoded_image_string))
    assert colour.mode == "RGB" and list(np.asarray(colour).ravel()) == [255, 0, 0, 0, 255, 0]
    check_migration(files[0])


def check_migration(path):
    """As the web page gets them: all of the newer kind, each for its tab."""
    plugins = {}
    for event in event_file_loader.LegacyEventFileLoader(str(path)).Load():
        for value in migrate_event(event).summary.value:
            plugins[value.tag] = value.metadata.plugin_data.plugin_name
            assert tensor_util.make_ndarray(value.tensor) is not None
    assert plugins == {
        "pretrain/loss": "scalars",
        "confidence": "histograms",
        "same": "histograms",
        "centroids": "images",
        "colour": "images",
    }, plugins


def check_projector(folder):
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    rows = np.loadtxt(folder / embedding.tensor_path, delimiter="\t")
    assert np.allclose(rows, (np.arange(30) / 7 - 2).reshape(10, 3), rtol=0, atol=1e-6)
    table = (folder / embedding.metadata_path).read_text().splitlines()
    assert table[0] == "cluster\tclass" and table[5] == "1\tclass 4" and len(table) == 11, table
    sprite = Image.open(folder / embedding.sprite.image_path)
    assert list(embedding.sprite.single_image_dim) == [6, 4] and sprite.size == (24, 16)


def main():
    folder = Path(sys.argv[1])
    check_events(folder)
    check_projector(folder)
    print("scalars, histograms, images and projector as expected")


if __name__ == "__main__":
    main()
