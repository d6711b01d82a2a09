//! Checkpoints in other forms than plain numbers in the newest spelling: quantized ones against formulas written here,
//! multimodal ones and older configurations against the plain ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gguf_toolkit::TensorType;
use gguf_toolkit::convert::{Conversion, Folder as Checkpoint, Options, OutputType};
use gguf_toolkit::formats;
use gguf_toolkit::gguf::Reader;
use gguf_toolkit::quantize::{RunOptions, Source};
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::{Value as Json, json};

use super::folder::Folder;
use super::goldens::checkpoint;
use super::shared::json as read_json;

/// A tensor to be written.
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

type Tensors = BTreeMap<String, Tensor>;

/// The tensors of a written checkpoint.
fn read(folder: &Path) -> Tensors {
    let bytes = std::fs::read(folder.join("model.safetensors")).expect("weights");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
    let tensors = file.tensors().into_iter().map(|(name, view)| {
        let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        (name, Tensor { dtype, shape, bytes })
    });
    tensors.collect()
}

fn write(folder: &Path, tensors: &Tensors, config: &Json) {
    let views = tensors
        .iter()
        .map(|(name, t)| (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).expect("a tensor of its shape")));
    serialize_to_file(views, None, &folder.join("model.safetensors")).expect("written");
    std::fs::write(folder.join("config.json"), config.to_string()).expect("written");
}

fn convert(from: &Path, to: &Path, output_type: OutputType) -> Result<Reader, String> {
    let options = Options { output_type, ..Options::default() };
    let conversion = Conversion::new(Checkpoint::open(from).expect("a folder"), &options).map_err(|e| e.to_string())?;
    let plan = conversion.plan(&[]).map_err(|e| e.to_string())?;
    conversion
        .write(&plan, to, &RunOptions { force: true, ..RunOptions::default() }, &|_| true)
        .map_err(|e| e.to_string())?;
    Ok(Reader::open(to).expect("opens"))
}

/// All numbers of a tensor of a file.
fn numbers(file: &Reader, name: &str) -> (TensorType, Vec<f32>) {
    let info = file.tensors().iter().find(|t| t.name == name).unwrap_or_else(|| panic!("{name}"));
    let mut numbers = vec![0.0; usize::try_from(info.shape.iter().product::<u64>()).expect("small")];
    formats::decode(info.ty, &file.data(info).expect("data"), &mut numbers);
    (info.ty, numbers)
}

/// Integers from 0 to `below`, from a linear congruential generator that starts at the name.
fn integers(name: &str, below: u32) -> impl FnMut() -> u32 {
    let mut x = name.bytes().fold(7u32, |x, b| x.wrapping_mul(31).wrapping_add(u32::from(b)));
    move || {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 8) % below
    }
}

fn tensor(dtype: Dtype, shape: &[usize], bytes: impl IntoIterator<Item = u8>) -> Tensor {
    Tensor { dtype, shape: shape.to_vec(), bytes: bytes.into_iter().collect() }
}

fn words(shape: [usize; 2], word: impl Fn(usize, usize) -> u32) -> Tensor {
    let all = (0..shape[0]).flat_map(|i| (0..shape[1]).map(move |j| (i, j)));
    tensor(Dtype::I32, &shape, all.flat_map(|(i, j)| word(i, j).to_le_bytes()))
}

/// Puts the tensors that make up a weight into a checkpoint, and returns its numbers, `[outputs, inputs]`.
type Quantize = fn(&mut Tensors, &str, [usize; 2]) -> Vec<f32>;

/// The 4-bit integers, zeros and scales of a weight in groups of 32 inputs.
struct Groups {
    codes: Vec<u32>,
    zeros: Vec<u32>,
    scales: Vec<f16>,
}

impl Groups {
    fn new(module: &str, [outputs, inputs]: [usize; 2]) -> Self {
        let mut next = integers(module, 16);
        let groups = inputs / 32;
        Self {
            codes: (0..outputs * inputs).map(|_| next()).collect(),
            zeros: (0..outputs * groups).map(|_| next().max(1)).collect(),
            scales: (0..outputs * groups).map(|_| f16::from_f32(0.01 + next() as f32 / 512.0)).collect(),
        }
    }

    fn numbers(&self, [outputs, inputs]: [usize; 2], group: impl Fn(usize) -> usize) -> Vec<f32> {
        let at = |o: usize, i: usize| {
            let g = group(i) * outputs + o;
            (self.codes[o * inputs + i] as f32 - self.zeros[g] as f32) * self.scales[g].to_f32()
        };
        (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))).map(|(o, i)| at(o, i)).collect()
    }

    fn scales(&self, outputs: usize) -> Tensor {
        let bytes = self.scales.iter().flat_map(|s| s.to_le_bytes());
        tensor(Dtype::F16, &[self.scales.len() / outputs, outputs], bytes)
    }
}

fn gptq(tensors: &mut Tensors, module: &str, shape: [usize; 2], in_turn: bool) -> Vec<f32> {
    let [outputs, inputs] = shape;
    let groups = Groups::new(module, shape);
    let count = inputs / 32;
    let group = |i: usize| if in_turn { i % count } else { i / 32 };
    let code = |o: usize, i: usize| groups.codes[o * inputs + i];
    let pack = |r: usize, o: usize| (0..8).map(|k| code(o, 8 * r + k) << (4 * k)).sum::<u32>();
    tensors.insert(format!("{module}.qweight"), words([inputs / 8, outputs], pack));
    let zero = |g: usize, c: usize| (0..8).map(|k| (groups.zeros[g * outputs + 8 * c + k] - 1) << (4 * k)).sum::<u32>();
    tensors.insert(format!("{module}.qzeros"), words([count, outputs / 8], zero));
    tensors.insert(format!("{module}.scales"), groups.scales(outputs));
    if in_turn {
        let index = (0..inputs).flat_map(|i| u32::try_from(group(i)).expect("small").to_le_bytes());
        tensors.insert(format!("{module}.g_idx"), tensor(Dtype::I32, &[inputs], index));
    }
    groups.numbers(shape, group)
}

fn awq(tensors: &mut Tensors, module: &str, shape: [usize; 2]) -> Vec<f32> {
    const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
    let [outputs, inputs] = shape;
    let groups = Groups::new(module, shape);
    let pack = |value: &dyn Fn(usize) -> u32, c: usize| (0..8).map(|k| value(8 * c + ORDER[k]) << (4 * k)).sum::<u32>();
    let codes = words([inputs, outputs / 8], |i, c| pack(&|o| groups.codes[o * inputs + i], c));
    let zeros = words([inputs / 32, outputs / 8], |g, c| pack(&|o| groups.zeros[g * outputs + o], c));
    tensors.insert(format!("{module}.qweight"), codes);
    tensors.insert(format!("{module}.qzeros"), zeros);
    tensors.insert(format!("{module}.scales"), groups.scales(outputs));
    groups.numbers(shape, |i| i / 32)
}

/// Value of an E4M3 byte, by its definition.
fn e4m3(byte: u32) -> f32 {
    let (sign, exponent, mantissa) = (byte >> 7, byte >> 3 & 15, (byte & 7) as f32);
    let power = |e: i32| 2f32.powi(e);
    let value = if exponent == 0 {
        mantissa / 8.0 * power(-6)
    } else {
        (1.0 + mantissa / 8.0) * power(i32::try_from(exponent).expect("small") - 7)
    };
    if sign == 0 { value } else { -value }
}

/// With blocks of 48 rows and 40 columns, one scale a row, or one for all.
fn fp8(tensors: &mut Tensors, module: &str, shape: [usize; 2], block: [usize; 2], suffix: &str) -> Vec<f32> {
    let [outputs, inputs] = shape;
    let mut next = integers(module, 0x7f);
    let codes: Vec<u32> = (0..outputs * inputs).map(|i| next() | u32::from(i % 3 == 0) << 7).collect();
    let blocks = [outputs.div_ceil(block[0]), inputs.div_ceil(block[1])];
    let scales: Vec<f32> = (0..blocks[0] * blocks[1]).map(|_| next() as f32 / 4096.0).collect();
    let bytes = codes.iter().map(|&c| u8::try_from(c).expect("a byte"));
    tensors.insert(format!("{module}.weight"), tensor(Dtype::F8_E4M3, &shape, bytes));
    let bytes = scales.iter().flat_map(|s| s.to_le_bytes());
    let scale_shape = if scales.len() == 1 { vec![] } else { blocks.to_vec() };
    tensors.insert(format!("{module}.{suffix}"), tensor(Dtype::F32, &scale_shape, bytes));
    let scale = |o: usize, i: usize| scales[o / block[0] * blocks[1] + i / block[1]];
    let all = (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i)));
    all.map(|(o, i)| e4m3(codes[o * inputs + i]) * scale(o, i)).collect()
}

/// A stream of integers of `bits` bits, the lowest first, in words of 32.
fn stream(codes: impl Iterator<Item = u32>, bits: u32) -> Vec<u8> {
    let all: Vec<bool> = codes.flat_map(|code| (0..bits).map(move |bit| code >> bit & 1 == 1)).collect();
    let words = all.chunks(32).map(|word| word.iter().rev().fold(0u32, |sum, &bit| sum << 1 | u32::from(bit)));
    words.flat_map(u32::to_le_bytes).collect()
}

/// Floats from 0 to 1, in half precision.
fn halves(name: &str, count: usize) -> Vec<f16> {
    let mut next = integers(name, 512);
    (0..count).map(|_| f16::from_f32(next() as f32 / 512.0)).collect()
}

fn half_tensor(shape: &[usize], values: &[f16]) -> Tensor {
    tensor(Dtype::F16, shape, values.iter().flat_map(|x| x.to_le_bytes()))
}

/// MLX's affine form. The layout was compared with `mlx.core.quantize` of mlx 0.32.4 for all numbers of bits.
fn mlx(tensors: &mut Tensors, module: &str, [outputs, inputs]: [usize; 2], bits: u32) -> Vec<f32> {
    let groups = inputs / 32;
    let mut next = integers(module, 1 << bits);
    let codes: Vec<u32> = (0..outputs * inputs).map(|_| next()).collect();
    let (scales, biases) = (halves(module, outputs * groups), halves(&module[1..], outputs * groups));
    let bytes = codes.chunks(inputs).flat_map(|row| stream(row.iter().copied(), bits));
    let words = inputs * bits as usize / 32;
    tensors.insert(format!("{module}.weight"), tensor(Dtype::U32, &[outputs, words], bytes));
    tensors.insert(format!("{module}.scales"), half_tensor(&[outputs, groups], &scales));
    tensors.insert(format!("{module}.biases"), half_tensor(&[outputs, groups], &biases));
    let number = |i: usize| {
        let group = i / inputs * groups + i % inputs / 32;
        codes[i] as f32 * scales[group].to_f32() + biases[group].to_f32()
    };
    (0..outputs * inputs).map(number).collect()
}

/// Packed integers of compressed-tensors in groups of 32 columns, or of columns that take turns.
fn packed_rows(tensors: &mut Tensors, module: &str, shape: [usize; 2], zeros: bool, in_turn: bool) -> Vec<f32> {
    let [outputs, inputs] = shape;
    let count = inputs / 32;
    let groups = Groups::new(module, shape);
    let group = |i: usize| if in_turn { i % count } else { i / 32 };
    let bytes = groups.codes.chunks(inputs).flat_map(|row| stream(row.iter().copied(), 4));
    tensors.insert(format!("{module}.weight_packed"), tensor(Dtype::I32, &[outputs, inputs / 8], bytes));
    let by_row = |o: usize, g: usize| groups.scales[g * outputs + o];
    let scales: Vec<f16> = (0..outputs).flat_map(|o| (0..count).map(move |g| by_row(o, g))).collect();
    tensors.insert(format!("{module}.weight_scale"), half_tensor(&[outputs, count], &scales));
    let shape_bytes = shape.iter().flat_map(|&n| (n as u64).to_le_bytes());
    tensors.insert(format!("{module}.weight_shape"), tensor(Dtype::I64, &[2], shape_bytes));
    if in_turn {
        let index = (0..inputs).flat_map(|i| u32::try_from(group(i)).expect("small").to_le_bytes());
        tensors.insert(format!("{module}.weight_g_idx"), tensor(Dtype::I32, &[inputs], index));
    }
    let zero = |o: usize, i: usize| if zeros { groups.zeros[group(i) * outputs + o] } else { 8 };
    if zeros {
        let words =
            words([outputs / 8, count], |w, g| (0..8).map(|k| groups.zeros[g * outputs + 8 * w + k] << (4 * k)).sum());
        tensors.insert(format!("{module}.weight_zero_point"), words);
    }
    let number =
        |o: usize, i: usize| (groups.codes[o * inputs + i] as f32 - zero(o, i) as f32) * by_row(o, group(i)).to_f32();
    (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))).map(|(o, i)| number(o, i)).collect()
}

/// Signed bytes with a scale a row.
fn bytes_by_row(tensors: &mut Tensors, module: &str, [outputs, inputs]: [usize; 2], scale: &str) -> Vec<f32> {
    let mut next = integers(module, 256);
    let codes: Vec<u8> = (0..outputs * inputs).map(|_| u8::try_from(next()).expect("a byte")).collect();
    let scales = halves(module, outputs);
    tensors.insert(format!("{module}.weight"), tensor(Dtype::I8, &[outputs, inputs], codes.iter().copied()));
    let bitsandbytes = scale == "SCB";
    let stored: Vec<u8> = scales.iter().flat_map(|x| x.to_f32().to_le_bytes()).collect();
    let shape = if bitsandbytes { vec![outputs] } else { vec![outputs, 1] };
    tensors.insert(format!("{module}.{scale}"), tensor(Dtype::F32, &shape, stored));
    let factor = if bitsandbytes { 1.0 / 127.0 } else { 1.0 };
    let number = |i: usize| f32::from(codes[i].cast_signed()) * (scales[i / inputs].to_f32() * factor);
    (0..outputs * inputs).map(number).collect()
}

/// Converts `qwen3moe` with all its projections quantized, and compares each with its formula.
fn check(name: &str, settings: &Json, quantize: Quantize) {
    let folder = Folder::new(&format!("sources-{name}"));
    let from = checkpoint(&folder, "qwen3moe");
    let mut tensors = read(&from);
    let mut config = read_json(&from.join("config.json"));
    config["quantization_config"] = settings.clone();
    let modules: Vec<String> =
        tensors.keys().filter_map(|k| k.strip_suffix("_proj.weight")).map(|k| format!("{k}_proj")).collect();
    let mut expected = BTreeMap::new();
    for module in modules {
        let plain = tensors.remove(&format!("{module}.weight")).expect("there");
        let shape = [plain.shape[0], plain.shape[1]];
        expected.insert(module.clone(), quantize(&mut tensors, &module, shape));
    }
    write(&from, &tensors, &config);
    let file = convert(&from, &folder.path("out.gguf"), OutputType::F32).unwrap_or_else(|e| panic!("{name}: {e}"));
    for block in 0..3 {
        let source = |part: &str| format!("model.layers.{block}.{part}");
        for (to, from) in [("attn_q", "q"), ("attn_k", "k"), ("attn_v", "v"), ("attn_output", "o")] {
            let found = numbers(&file, &format!("blk.{block}.{to}.weight")).1;
            assert!(found == expected[&source(&format!("self_attn.{from}_proj"))], "{name}: {to}");
        }
        for part in ["gate", "up", "down"] {
            let found = numbers(&file, &format!("blk.{block}.ffn_{part}_exps.weight")).1;
            let experts = (0..8).flat_map(|e| expected[&source(&format!("mlp.experts.{e}.{part}_proj"))].clone());
            assert!(found == experts.collect::<Vec<f32>>(), "{name}: {part}");
        }
    }
}

#[test]
fn integers_in_groups_are_decoded() {
    let gptq_settings = json!({ "quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": false });
    check("gptq", &gptq_settings, |tensors, module, shape| gptq(tensors, module, shape, false));
    check("gptq-act", &gptq_settings, |tensors, module, shape| gptq(tensors, module, shape, true));
    let awq_settings = json!({ "quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm" });
    check("awq", &awq_settings, awq);
}

#[test]
fn eight_bit_floats_are_decoded() {
    let blocks = json!({ "quant_method": "fp8", "weight_block_size": [48, 40] });
    check("fp8-blocks", &blocks, |tensors, module, shape| fp8(tensors, module, shape, [48, 40], "weight_scale_inv"));
    let floats = json!({ "quant_method": "compressed-tensors", "format": "float-quantized" });
    check("fp8-rows", &floats, |tensors, module, shape| fp8(tensors, module, shape, [1, shape[1]], "weight_scale"));
    check("fp8-all", &floats, |tensors, module, shape| fp8(tensors, module, shape, shape, "weight_scale"));
}

#[test]
fn integers_along_rows_are_decoded() {
    let mlx_settings = |bits: u32| json!({ "group_size": 32, "bits": bits });
    check("mlx-2", &mlx_settings(2), |tensors, module, shape| mlx(tensors, module, shape, 2));
    check("mlx-3", &mlx_settings(3), |tensors, module, shape| mlx(tensors, module, shape, 3));
    check("mlx-4", &mlx_settings(4), |tensors, module, shape| mlx(tensors, module, shape, 4));
    check("mlx-5", &mlx_settings(5), |tensors, module, shape| mlx(tensors, module, shape, 5));
    check("mlx-6", &mlx_settings(6), |tensors, module, shape| mlx(tensors, module, shape, 6));
    check("mlx-8", &mlx_settings(8), |tensors, module, shape| mlx(tensors, module, shape, 8));
    // Some modules have other integers.
    let own =
        json!({ "group_size": 32, "bits": 4, "model.layers.1.self_attn.q_proj": { "group_size": 32, "bits": 8 } });
    check("mlx-own", &own, |tensors, module, shape| {
        mlx(tensors, module, shape, if module == "model.layers.1.self_attn.q_proj" { 8 } else { 4 })
    });
    let rows = |format: &str, weights: Json| {
        json!({ "quant_method": "compressed-tensors", "format": format,
            "config_groups": { "group_0": { "targets": ["Linear"], "weights": weights } } })
    };
    let weights = |symmetric: bool| json!({ "num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": symmetric });
    check("rows", &rows("pack-quantized", weights(true)), |tensors, module, shape| {
        packed_rows(tensors, module, shape, false, false)
    });
    check("rows-zeros", &rows("pack-quantized", weights(false)), |tensors, module, shape| {
        packed_rows(tensors, module, shape, true, false)
    });
    check("rows-turns", &rows("pack-quantized", weights(true)), |tensors, module, shape| {
        packed_rows(tensors, module, shape, false, true)
    });
    let bytes = json!({ "num_bits": 8, "type": "int", "strategy": "channel", "symmetric": true });
    check("bytes", &rows("int-quantized", bytes), |tensors, module, shape| {
        bytes_by_row(tensors, module, shape, "weight_scale")
    });
    let bitsandbytes = json!({ "quant_method": "bitsandbytes", "load_in_8bit": true });
    check("bitsandbytes", &bitsandbytes, |tensors, module, shape| bytes_by_row(tensors, module, shape, "SCB"));
}

#[test]
fn mxfp4_goes_into_the_file_as_it_is() {
    const VALUES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let folder = Folder::new("sources-mxfp4");
    let from = checkpoint(&folder, "gptoss");
    let mut tensors = read(&from);
    let mut config = read_json(&from.join("config.json"));
    config["quantization_config"] = json!({ "quant_method": "mxfp4" });
    let mut expected = BTreeMap::new();
    for block in 0..3 {
        for (part, rows, cols) in [("gate_up_proj", 320, 64), ("down_proj", 64, 160)] {
            let module = format!("model.layers.{block}.mlp.experts.{part}");
            tensors.remove(&module).expect("there");
            let mut next = integers(&module, 256);
            let mut bytes =
                |count: usize| -> Vec<u8> { (0..count).map(|_| u8::try_from(next()).expect("a byte")).collect() };
            let (codes, scales) = (bytes(4 * rows * cols / 2), bytes(4 * rows * cols / 32));
            let scales: Vec<u8> = scales.into_iter().map(|s| 110 + s % 16).collect();
            let number = |i: usize| {
                let code = usize::from(codes[i / 2] >> (4 * (i % 2)) & 15);
                let value = VALUES[code % 8] * 2f32.powi(i32::from(scales[i / 32]) - 127);
                if code < 8 { value } else { -value }
            };
            expected.insert(module.clone(), (0..4 * rows * cols).map(number).collect::<Vec<f32>>());
            tensors.insert(format!("{module}_blocks"), tensor(Dtype::U8, &[4, rows, cols / 32, 16], codes));
            tensors.insert(format!("{module}_scales"), tensor(Dtype::U8, &[4, rows, cols / 32], scales));
        }
    }
    write(&from, &tensors, &config);
    let to = folder.path("out.gguf");
    let file = convert(&from, &to, OutputType::F16).expect("converts");
    assert!(file.tensors()[0].name.contains("_exps.weight"), "what is quantized comes first");
    for block in 0..3 {
        let source = |part: &str| &expected[&format!("model.layers.{block}.mlp.experts.{part}")];
        let every_second = |start: usize| -> Vec<f32> {
            source("gate_up_proj").chunks_exact(64).skip(start).step_by(2).flatten().copied().collect()
        };
        let parts = [("gate", every_second(0)), ("up", every_second(1)), ("down", source("down_proj").clone())];
        for (part, expected) in parts {
            let (ty, found) = numbers(&file, &format!("blk.{block}.ffn_{part}_exps.weight"));
            assert_eq!(ty, TensorType::MXFP4, "{part}");
            assert!(found == expected, "{part}");
        }
    }
    gguf_toolkit::model::Model::load(&to).expect("a model that can be run");
}

#[test]
fn unknown_and_broken_forms_are_refused_by_name() {
    let folder = Folder::new("sources-refused");
    let from = checkpoint(&folder, "qwen3moe");
    let tensors = read(&from);
    let mut config = read_json(&from.join("config.json"));
    let mut refused = |settings: Json, tensors: &Tensors| {
        config["quantization_config"] = settings;
        write(&from, tensors, &config);
        convert(&from, &folder.path("out.gguf"), OutputType::F16).err().unwrap_or_else(|| "converts".into())
    };
    let unknown = |name: &str| format!("quantization {name} is not known");
    for (settings, name) in [
        (json!({ "quant_method": "bitsandbytes", "load_in_4bit": true }), "bitsandbytes with 4 bits"),
        (json!({ "quant_method": "hqq" }), "hqq"),
        (json!({ "bits": 4, "group_size": 32, "mode": "mxfp4" }), "MLX with 4 bits in mode mxfp4"),
        (json!({ "quant_method": "compressed-tensors", "format": "marlin-24" }), "compressed-tensors in marlin-24"),
        (
            json!({ "quant_method": "compressed-tensors", "format": "pack-quantized" }),
            "compressed-tensors with several config_groups",
        ),
        (json!({ "quant_method": "awq", "bits": 4, "version": "gemv" }), "awq with 4 bits, version gemv"),
        (json!({ "quant_method": "gptq", "bits": 3 }), "gptq with 3 bits, version none"),
    ] {
        let error = refused(settings, &tensors);
        assert!(error.contains(&unknown(name)), "{error}");
    }
    let mut broken = read(&from);
    let module = "model.layers.0.self_attn.q_proj";
    broken.remove(&format!("{module}.weight"));
    awq(&mut broken, module, [128, 64]);
    broken.insert(format!("{module}.scales"), tensor(Dtype::F16, &[2, 64], vec![0; 256]));
    let error = refused(json!({ "quant_method": "awq", "bits": 4, "group_size": 32 }), &broken);
    assert!(error.contains("q_proj.qweight: its scales, zeros or shapes do not fit it"), "{error}");
}

/// A folder's file, converted.
fn converted(folder: &Folder, from: &Path, name: &str) -> Reader {
    convert(from, &folder.path(&format!("{name}.gguf")), OutputType::F16).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Fails unless both files hold the same but for the model's name.
fn assert_same(a: &Reader, b: &Reader, name: &str) {
    let keys = |file: &Reader| {
        let all = file.metadata().iter().filter(|(key, _)| *key != "general.name");
        all.map(|(key, value)| (key.to_owned(), format!("{value:?}"))).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(keys(a), keys(b), "{name}");
    let data = |file: &Reader| -> BTreeMap<String, Vec<u8>> {
        file.tensors().iter().map(|t| (t.name.clone(), file.data(t).expect("data").to_vec())).collect()
    };
    assert!(data(a) == data(b), "{name}: tensors");
}

fn folder_beside(folder: &Folder, from: &Path, name: &str) -> PathBuf {
    let to = folder.path("other").join(name);
    std::fs::create_dir_all(&to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
    to
}

#[test]
fn multimodal_checkpoints_give_their_text_part() {
    let folder = Folder::new("sources-multimodal");
    for (name, class) in [
        ("qwen35", "Qwen3_5ForConditionalGeneration"),
        ("qwen35moe", "Qwen3_5MoeForConditionalGeneration"),
        ("gemma4", "Gemma4ForConditionalGeneration"),
    ] {
        let from = checkpoint(&folder, name);
        let plain = converted(&folder, &from, name);
        let to = folder_beside(&folder, &from, name);
        let mut text = read_json(&from.join("config.json"));
        text.as_object_mut().expect("settings").remove("architectures");
        let config = json!({ "architectures": [class], "text_config": text, "vision_config": { "hidden_size": 8 } });
        let mut tensors: Tensors = read(&from)
            .into_iter()
            .map(|(name, tensor)| match name.strip_prefix("model.") {
                Some(rest) => (format!("model.language_model.{rest}"), tensor),
                None => (name, tensor),
            })
            .collect();
        for other in ["model.visual.patch_embed.weight", "model.vision_tower.x.weight", "mtp.layers.0.x.weight"] {
            tensors.insert(other.to_owned(), tensor(Dtype::F16, &[1], [0, 0]));
        }
        write(&to, &tensors, &config);
        assert_same(&plain, &converted(&folder, &to, &format!("{name}-multimodal")), name);
    }
}

#[test]
fn blocks_that_predict_further_tokens_may_be_left_out() {
    let folder = Folder::new("sources-mtp");
    for name in ["glm4moe", "qwen35", "qwen35moe", "qwen3next"] {
        let plain = converted(&folder, &checkpoint(&folder, name), name);
        let from = checkpoint(&folder, &format!("{name}mtp"));
        let conversion = |no_mtp| {
            let options = Options { output_type: OutputType::F16, no_mtp, ..Options::default() };
            Conversion::new(Checkpoint::open(&from).expect("a folder"), &options).unwrap_or_else(|e| panic!("{e}"))
        };
        let with = conversion(false);
        assert_eq!((with.predicting_blocks(), with.predicting_left_out()), (1, 0), "{name}");
        let without = conversion(true);
        let left_out = with.tensors().len() - plain.tensors().len();
        assert_eq!(without.predicting_blocks(), 0, "{name}");
        assert!(without.predicting_left_out() >= left_out, "{name}");
        let to = folder.path(&format!("{name}-without.gguf"));
        without.write(&without.plan(&[]).expect("a plan"), &to, &RunOptions::default(), &|_| true).expect("written");
        let data = |file: &Reader| -> BTreeMap<String, Vec<u8>> {
            file.tensors().iter().map(|t| (t.name.clone(), file.data(t).expect("data").to_vec())).collect()
        };
        assert!(data(&Reader::open(&to).expect("opens")) == data(&plain), "{name}");
    }
}

#[test]
fn tensors_read_in_pieces_are_the_same() {
    let folder = Folder::new("sources-pieces");
    for name in ["llama2", "falcon", "gptneox", "gptoss", "deepseek2", "qwen35", "granitehybrid", "gpt2"] {
        let from = Checkpoint::open(&checkpoint(&folder, name)).expect("a folder");
        let source = Conversion::new(from, &Options::default()).unwrap_or_else(|e| panic!("{e}"));
        for (i, tensor) in source.tensors().iter().enumerate().filter(|(_, tensor)| tensor.shape.len() > 1) {
            let bytes = |elements: u64| usize::try_from(tensor.ty.bytes_for(elements).expect("rows")).expect("small");
            let mut whole = vec![0; bytes(tensor.shape.iter().product())];
            source.read(i, 0, &mut whole).expect("readable");
            let granule = bytes(source.granule(i).min(tensor.shape.iter().product()));
            for pieces in [1, 2, 3, 7] {
                for (piece, expected) in whole.chunks(granule * pieces).enumerate() {
                    let mut found = vec![0; expected.len()];
                    source.read(i, (piece * pieces * granule) as u64, &mut found).expect("readable");
                    assert!(found == expected, "{name}: {} in pieces of {pieces}", tensor.name);
                }
            }
        }
    }
}

#[test]
fn older_configurations_mean_the_same() {
    let folder = Folder::new("sources-older");
    for name in ["qwen3moe", "qwen2moe", "deepseek2", "gptoss", "glm4moe", "lfm2", "qwen3next"] {
        let from = checkpoint(&folder, name);
        let plain = converted(&folder, &from, name);
        let to = folder_beside(&folder, &from, name);
        let mut config = read_json(&from.join("config.json"));
        let settings = config.as_object_mut().expect("settings");
        let dtype = settings.remove("dtype").expect("a type");
        settings.insert("torch_dtype".into(), dtype);
        let mut rope = settings.remove("rope_parameters").expect("rope");
        let rope = rope.as_object_mut().expect("rope");
        for moved in ["rope_theta", "partial_rotary_factor"] {
            if let Some(value) = rope.remove(moved) {
                settings.insert(moved.into(), value);
            }
        }
        let ty = rope.remove("rope_type").expect("a type");
        if ty != "default" {
            rope.insert("type".into(), ty);
            settings.insert("rope_scaling".into(), Json::Object(rope.clone()));
        }
        std::fs::write(to.join("config.json"), config.to_string()).expect("written");
        assert_same(&plain, &converted(&folder, &to, &format!("{name}-older")), name);
    }
}
