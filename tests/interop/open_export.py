"""Opens exported samples with other tools, without glue: HuggingFace's datasets, WebDataset, pandas and Cleanlab.

    open_export.py FOLDER TAR CHANGED

FOLDER and TAR hold the same 60 samples of the classes a, b and c; of the first, the label is that of its image but for one, which is wrong on
purpose. Writes to CHANGED a table with the label of that one corrected.
"""
import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

os.environ["HF_DATASETS_OFFLINE"] = "1"

import datasets
import numpy as np
import pandas as pd
import webdataset
from cleanlab.filter import find_label_issues

folder, tar, changed = sys.argv[1:]
CLASSES = ["a", "b", "c"]

# HuggingFace: a folder of images with metadata, and a WebDataset.
images = datasets.load_dataset("imagefolder", data_dir=folder, split="train", cache_dir=folder + "-cache")
assert len(images) == 60 and images[0]["image"].size == (8, 8), images
assert {"why", "label", "device", "predicted", "prob_a"} <= set(images.column_names), images.column_names
packed = datasets.load_dataset("webdataset", data_files={"train": tar}, split="train", cache_dir=folder + "-cache")
assert len(packed) == 60 and packed[0]["png"].size == (8, 8), packed

# WebDataset: images as arrays, descriptions as JSON, classes as numbers.
samples = list(webdataset.WebDataset(tar, shardshuffle=False, empty_check=False).decode("rgb8"))
assert len(samples) == 60, len(samples)
for sample in samples:
    assert sample["png"].shape == (8, 8, 3) and sample["__key__"] == sample["json"]["image"], sample["__key__"]
    assert len(sample["json"]["probs"]) == 3 and len(sample["json"]["embedding"]) == 2
    assert CLASSES[sample["cls"]] == sample["json"]["label"], sample["json"]

# Cleanlab: the labels and the probabilities of the table; it finds the wrong one.
table = pd.read_csv(f"{folder}/metadata.csv", dtype={"label": str})
probs = table[[f"prob_{name}" for name in CLASSES]].to_numpy()
assert np.allclose(probs.sum(axis=1), 1)
embeddings = table.filter(regex="^embedding_").to_numpy()
assert (embeddings[:, 0] == np.arange(60)).all() and (embeddings[:, 1] == 0.5).all(), embeddings
labels = table["label"].map(CLASSES.index).to_numpy()
wrong = find_label_issues(labels=labels, pred_probs=probs, return_indices_ranked_by="self_confidence")
assert list(wrong) == [7], wrong

# Label Studio's tasks, in the format that its own documentation gives, and FiftyOne's labels.
for task in json.loads(Path(folder, "label_studio.json").read_text()):
    assert task["data"]["shown"].startswith("data:image/png;base64,"), task
    assert task["annotations"][0]["result"][0]["value"]["choices"][0] in CLASSES, task
    # What is to judge the model comes without its word.
    assert ("predictions" in task) == (task["data"]["why"] != "audit"), task
interface = ElementTree.parse(f"{folder}/label_studio.xml").getroot()
assert [choice.get("value") for choice in interface.iter("Choice")][:3] == CLASSES
seen = json.loads(Path(folder, "labels.json").read_text())
assert set(seen["labels"]) == {path.stem for path in Path(folder, "images").iterdir()} and seen["classes"] == CLASSES

table.loc[7, "label"] = table.loc[7, "predicted"]
table.to_csv(changed, index=False)
