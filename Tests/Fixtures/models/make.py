"""Makes the weight files of this folder with the libraries that define their formats, and notes where each tensor lies:

    python3 -m venv /tmp/models && /tmp/models/bin/pip install gguf safetensors numpy
    /tmp/models/bin/python Tests/Fixtures/models/make.py
"""

import json
import os
import struct

import gguf
import numpy
from safetensors.numpy import save_file

FOLDER = os.path.dirname(os.path.abspath(__file__))


def safetensors():
    path = os.path.join(FOLDER, "tiny.safetensors")
    save_file(
        {
            "embed.weight": numpy.arange(64, dtype=numpy.float32).reshape(8, 8),
            "layer.0.\"quoted\\name\".weight": numpy.arange(30, dtype=numpy.float16).reshape(5, 6),
            "empty": numpy.zeros((0, 4), dtype=numpy.float32),
            "scalar": numpy.array(7, dtype=numpy.int64),
        }, path, metadata={"format": "np", "note": "data_offsets: [1, 2]"})
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    starts = [8 + length + value["data_offsets"][0] for name, value in header.items()
              if name != "__metadata__" and value["data_offsets"][0] != value["data_offsets"][1]]
    return "tiny.safetensors", sorted(starts)


def gguf_file(name, alignment=None):
    path = os.path.join(FOLDER, name)
    writer = gguf.GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_uint32("llama.block_count", 2)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_string("general.name", "tiny \u00fc")
    writer.add_array("tokenizer.ggml.tokens", [f"token{index}" for index in range(50)])
    writer.add_array("tokenizer.ggml.scores", [float(index) for index in range(50)])
    writer.add_array("llama.some.integers", [1, 2, 3])
    for index, shape in enumerate([(4, 8), (3, 5), (16,)]):
        writer.add_tensor(f"blk.{index}.weight", numpy.arange(numpy.prod(shape), dtype=numpy.float32).reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return name, sorted(int(tensor.data_offset) for tensor in gguf.GGUFReader(path).tensors)


def main():
    starts = dict([safetensors(), gguf_file("tiny.gguf"), gguf_file("aligned.gguf", alignment=256)])
    with open(os.path.join(FOLDER, "starts.json"), "w") as file:
        json.dump(starts, file, indent=1, sort_keys=True)
        file.write("\n")


main()
