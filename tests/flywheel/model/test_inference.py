from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import save_file

from flywheel.model.architecture import create
from flywheel.model.checkpoint import save_weights
from flywheel.model.folder import WEIGHTS, list_files, write_manifest
from flywheel.model.inference import ModelError, load_model, predict_logits, softmax
from flywheel.model.preprocessing import pack
from flywheel.records import Preprocessing, TrainedModel

PREPROCESSING = Preprocessing(8, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


@pytest.fixture
def folder(tmp_path):
    network = create("airbench_small", 3, 8)
    save_weights(network.state_dict(), tmp_path / WEIGHTS)
    model = TrainedModel(
        *("model-1", tmp_path, "ds-1", "task-1", "airbench_small", ("a", "b", "c"), PREPROCESSING),
        *(10, 0, 1, "cpu", 1, 1, 0.5, "", 1.0, 2.0),
    )
    write_manifest(tmp_path, model, list_files(tmp_path, [WEIGHTS]), {})
    return tmp_path


def test_a_loaded_model_answers_as_the_network_did(folder, coloured):
    images, _ = coloured(10)
    classifier = load_model(folder)
    outputs = classifier.predict_packed(images)
    assert outputs.logits.shape == (10, 3)
    assert outputs.logits.dtype == outputs.embeddings.dtype == np.float32
    assert np.array_equal(outputs.logits, predict_logits(classifier.network, images, PREPROCESSING))
    head = classifier.network.get_classifier().weight.numpy()
    assert np.allclose(outputs.embeddings @ head.T / 9, outputs.logits, atol=1e-5)


def test_the_batch_size_doesnt_change_an_answer(folder, coloured):
    images, _ = coloured(70)
    classifier = load_model(folder)
    whole = classifier.predict_packed(images)
    for size in (1, 7, 64):
        parts = classifier.predict_packed(images, batch_size=size)
        assert np.abs(parts.logits - whole.logits).max() <= 1e-4
        assert np.abs(parts.embeddings - whole.embeddings).max() <= 1e-4


def test_both_sides_are_looked_at_where_the_model_says_so(folder, coloured):
    images, _ = coloured(10)
    classifier = load_model(folder)
    one = classifier.predict_packed(images)
    other = classifier.predict_packed(np.ascontiguousarray(images[:, :, ::-1]))
    both = replace(classifier, model=replace(classifier.model, both_sides=True)).predict_packed(images)
    assert np.allclose(both.logits, (one.logits + other.logits) / 2, atol=1e-5)
    assert np.allclose(both.embeddings, (one.embeddings + other.embeddings) / 2, atol=1e-5)
    assert not np.allclose(both.logits, one.logits, atol=1e-3)


def test_decoded_images_of_any_size_are_packed_first(folder):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((8, 8), (31, 5), (64, 64))]
    classifier = load_model(folder)
    expected = classifier.predict_packed(pack(images, PREPROCESSING))
    assert np.array_equal(classifier.classify(images).logits, expected.logits)


def test_no_image_is_no_answer(folder):
    outputs = load_model(folder).classify([])
    assert (outputs.logits.shape, outputs.embeddings.shape) == ((0, 3), (0, 64))


def test_another_size_is_refused(folder):
    with pytest.raises(ModelError, match=r"uint8\[N, 8, 8, 3\] expected, uint8\[1, 9, 9, 3\] found"):
        load_model(folder).predict_packed(np.zeros((1, 9, 9, 3), np.uint8))


def test_damaged_weights_are_refused(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256"):
        load_model(folder)


def test_weights_of_another_network_are_refused(folder):
    model = load_model(folder).model
    save_file(create("airbench", 3, 8).state_dict(), folder / WEIGHTS)
    write_manifest(folder, replace(model), list_files(folder, [WEIGHTS]), {})
    with pytest.raises(ModelError, match="weights of airbench_small expected"):
        load_model(folder)


def test_softmax_by_hand_and_for_large_logits():
    assert softmax(np.log(np.array([[1, 2, 5]], np.float32))).tolist() == [pytest.approx([0.125, 0.25, 0.625])]
    assert softmax(np.array([[1000, 1000]], np.float32)).tolist() == [[0.5, 0.5]]
