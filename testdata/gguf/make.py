"""Writes all_types.gguf with the `gguf` package: every value type, several tensor types and shapes."""

import sys

import numpy
from gguf import GGMLQuantizationType, GGUFWriter

writer = GGUFWriter(sys.argv[1], "llama")
writer.add_custom_alignment(64)
writer.add_uint8("a.u8", 255)
writer.add_int8("a.i8", -128)
writer.add_uint16("a.u16", 65535)
writer.add_int16("a.i16", -32768)
writer.add_uint32("a.u32", 2**32 - 1)
writer.add_int32("a.i32", -(2**31))
writer.add_float32("a.f32", 0.1)
writer.add_uint64("a.u64", 2**64 - 1)
writer.add_int64("a.i64", -(2**63))
writer.add_float64("a.f64", 0.1)
writer.add_bool("a.bool", True)
writer.add_string("a.text", "häl\nlo")
writer.add_string("a.empty", "")
writer.add_array("a.numbers", [1, -2, 3])
writer.add_array("a.floats", [0.5, -0.25])
writer.add_array("a.bools", [True, False])
writer.add_array("a.tokens", ["<s>", "▁x", ""])
writer.add_array("a.nested", [[1, 2], [3]])
writer.add_tensor("token_embd.weight", numpy.arange(96, dtype=numpy.float32).reshape(3, 32))
writer.add_tensor("half", numpy.arange(5, dtype=numpy.float16))
writer.add_tensor("ids", numpy.arange(3, dtype=numpy.int32))
blocks = numpy.arange(2 * 2 * 34, dtype=numpy.uint8).reshape(2, 2, 34)
writer.add_tensor("experts", blocks, raw_dtype=GGMLQuantizationType.Q8_0)
writer.add_tensor("last", numpy.array([1], dtype=numpy.int8))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
