//! The form of a checkpoint's weights, from `quantization_config`, and the tensors of each weight.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value as Json;

use super::integers::{Integers, Zero};
use super::packed::{Order, Packed, Packing};
use super::{Stored, fp8::Fp8, mxfp4::Mxfp4};
use crate::arch::Config;
use crate::convert::Error;
use crate::convert::names::text_name;
use crate::safetensors::{Dtype, TensorInfo};

/// The supported forms, for messages.
const KNOWN: &str = "fp8, mxfp4, gptq, awq, MLX in mode affine, bitsandbytes with 8 bits, compressed-tensors in \
                     float-quantized, int-quantized or pack-quantized";

/// A checkpoint's tensors by their names in rules, with their positions in the checkpoint.
pub(in super::super) type Tensors<'a> = HashMap<String, (usize, &'a TensorInfo)>;

/// A weight that was found.
pub(in super::super) struct FoundWeight {
    pub(in super::super) stored: Stored,
    /// Position of its last tensor.
    pub(in super::super) place: usize,
    /// All tensors that belong to it.
    pub(in super::super) names: Vec<String>,
}

/// The form of quantized weights. Other weights are plain numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Scheme {
    /// Plain numbers.
    Plain,
    /// Eight-bit floats; rows and columns of a block.
    Fp8([u64; 2]),
    /// MXFP4.
    Mxfp4,
    /// GPTQ or AWQ.
    Packed(Packing),
    /// MLX: bits of an integer, and the bits of modules with other numbers, by their names in rules.
    Mlx(u32, HashMap<String, u32>),
    /// compressed-tensors: bits of a packed integer, and whether it is signed.
    Rows(u32, bool),
    /// compressed-tensors in signed bytes.
    Bytes,
    /// bitsandbytes in signed bytes.
    BitsAndBytes,
}

impl Scheme {
    /// The form in `config`; messages name `path`.
    ///
    /// # Errors
    /// When the form is not supported.
    pub(in super::super) fn of(path: &Path, config: &Config) -> Result<Self, Error> {
        // MLX names no method, and has the same settings under both names.
        let mlx = |name: &str| config.get(name).filter(|s| s.get("quant_method").is_none() && s.get("bits").is_some());
        if let Some(mlx) = mlx("quantization").or_else(|| mlx("quantization_config")) {
            let unknown = |method| Error::UnknownQuantization { path: path.to_owned(), method, known: KNOWN };
            return mlx_affine(mlx).map_err(unknown);
        }
        let Some(settings) = config.get("quantization_config") else { return Ok(Self::Plain) };
        let text = |name: &str| settings.get(name).and_then(Json::as_str);
        let unknown = |method: &str| Error::UnknownQuantization {
            path: path.to_owned(),
            method: method.to_owned(),
            known: KNOWN,
        };
        match text("quant_method").unwrap_or("none") {
            "fp8" | "fbgemm_fp8" => Ok(Self::Fp8(blocks(settings.get("weight_block_size")))),
            "compressed-tensors" => match text("format").unwrap_or("none") {
                "float-quantized" | "naive-quantized" => {
                    let groups = settings.get("config_groups").and_then(Json::as_object);
                    let weights = groups.and_then(|groups| groups.values().next()?.get("weights"));
                    match weights.and_then(|weights| weights.get("type")).and_then(Json::as_str) {
                        Some("int") => rows(weights, true).map_err(|what| unknown(&what)),
                        _ => Ok(Self::Fp8(blocks(weights.and_then(|weights| weights.get("block_structure"))))),
                    }
                }
                format @ ("pack-quantized" | "int-quantized") => {
                    let groups = settings.get("config_groups").and_then(Json::as_object);
                    let Some(groups) = groups.filter(|groups| groups.len() == 1) else {
                        return Err(unknown("compressed-tensors with several config_groups"));
                    };
                    let weights = groups.values().next().and_then(|group| group.get("weights"));
                    rows(weights, format == "int-quantized").map_err(|what| unknown(&what))
                }
                other => Err(unknown(&format!("compressed-tensors in {other}"))),
            },
            "modelopt" if text("quant_algo") == Some("FP8") => Ok(Self::Fp8(blocks(None))),
            "mxfp4" => Ok(Self::Mxfp4),
            "bitsandbytes" if settings.get("load_in_8bit").and_then(Json::as_bool) == Some(true) => {
                Ok(Self::BitsAndBytes)
            }
            "bitsandbytes" => Err(unknown("bitsandbytes with 4 bits")),
            method @ ("gptq" | "awq") => {
                let packing = packing(method, settings).ok_or_else(|| {
                    let bits = settings.get("bits").map_or_else(|| "unknown".to_owned(), Json::to_string);
                    unknown(&format!("{method} with {bits} bits, version {}", text("version").unwrap_or("none")))
                })?;
                Ok(Self::Packed(packing))
            }
            other => Err(unknown(other)),
        }
    }

    /// The weight with this name in rules, or `None` if there is none.
    ///
    /// # Errors
    /// When its tensors do not fit each other.
    pub(in super::super) fn find(
        &self,
        path: &Path,
        tensors: &Tensors<'_>,
        name: &str,
    ) -> Result<Option<FoundWeight>, Error> {
        if matches!(self, Self::Mlx(..) | Self::Rows(..) | Self::Bytes | Self::BitsAndBytes) {
            return self.find_integers(path, tensors, name);
        }
        let misfit = |name: &str| Error::BadQuantization { path: path.to_owned(), name: name.to_owned() };
        let companion = |name: String| tensors.get(&name).map(|&(place, tensor)| (name, place, tensor));
        if let Some(&(place, tensor)) = tensors.get(name) {
            let mut names = vec![name.to_owned()];
            let scale_of = |suffixes: &[&str]| {
                suffixes.iter().find_map(|suffix| companion(format!("{}{suffix}", name.trim_end_matches("_blocks"))))
            };
            if let (true, Some((scale, at, scales))) = (name.ends_with("_blocks"), scale_of(&["_scales"])) {
                let stored = Mxfp4::new(tensor, scales).ok_or_else(|| misfit(name))?;
                names.push(scale);
                return Ok(Some(FoundWeight { stored: Stored::Mxfp4(stored), place: place.max(at), names }));
            }
            let Self::Fp8(block) = *self else {
                return Ok(Some(FoundWeight { stored: Stored::Plain(tensor.clone()), place, names }));
            };
            for part in ["input_scale", "input_scale_inv", "weight_zero_point", "output_scale", "k_scale", "v_scale"] {
                let beside = name.strip_suffix("weight").map(|module| format!("{module}{part}"));
                names.extend(beside.filter(|name| tensors.contains_key(name)));
            }
            if tensor.dtype != Dtype::F8_E4M3 {
                return Ok(Some(FoundWeight { stored: Stored::Plain(tensor.clone()), place, names }));
            }
            let (scale, at, scales) = scale_of(&["_scale_inv", "_scale"]).ok_or_else(|| misfit(name))?;
            let stored = Fp8::new(tensor, scales, block).ok_or_else(|| misfit(name))?;
            names.push(scale);
            return Ok(Some(FoundWeight { stored: Stored::Fp8(stored), place: place.max(at), names }));
        }
        let (&Self::Packed(packing), Some(module)) = (self, name.strip_suffix("weight")) else { return Ok(None) };
        let Some((words_name, place, words)) = companion(format!("{module}qweight")) else { return Ok(None) };
        let part = |part: &str| companion(format!("{module}{part}")).ok_or_else(|| misfit(&words_name));
        let (zeros, scales) = (part("qzeros")?, part("scales")?);
        let groups = companion(format!("{module}g_idx"));
        let packed = Packed {
            words: words.clone(),
            zeros: zeros.2.clone(),
            scales: scales.2.clone(),
            groups: groups.as_ref().map(|(_, _, tensor)| (*tensor).clone()),
            packing,
        };
        if !packed.fits() {
            return Err(misfit(&words_name));
        }
        let place = place.max(zeros.1).max(scales.1);
        let names = [Some(words_name), Some(zeros.0), Some(scales.0), groups.map(|(name, _, _)| name)];
        let stored = Stored::Packed(Box::new(packed));
        Ok(Some(FoundWeight { stored, place, names: names.into_iter().flatten().collect() }))
    }

    /// As [`Self::find`], for the forms of integers along rows.
    fn find_integers(&self, path: &Path, tensors: &Tensors<'_>, name: &str) -> Result<Option<FoundWeight>, Error> {
        let module = name.strip_suffix("weight").unwrap_or(name);
        let part = |part: &str| {
            let name = format!("{module}{part}");
            tensors.get(&name).map(|&(place, tensor)| (name, place, tensor.clone()))
        };
        let packed = matches!(self, Self::Rows(..));
        let codes = part(if packed { "weight_packed" } else { "weight" }).filter(|_| module != name);
        let scales = part(match self {
            Self::Mlx(..) => "scales",
            Self::BitsAndBytes => "SCB",
            _ => "weight_scale",
        });
        let (Some(codes), Some(scales)) = (codes, scales) else {
            let plain = tensors.get(name);
            return Ok(plain.map(|&(place, tensor)| {
                let names = vec![name.to_owned()];
                FoundWeight { stored: Stored::Plain(tensor.clone()), place, names }
            }));
        };
        let misfit = || Error::BadQuantization { path: path.to_owned(), name: codes.2.name.clone() };
        let bits = match self {
            Self::Mlx(bits, own) => *own.get(name).unwrap_or(bits),
            Self::Rows(bits, _) => *bits,
            _ => 8,
        };
        let beside = match self {
            Self::Mlx(..) => part("biases"),
            Self::Rows(_, false) => part("weight_zero_point"),
            _ => None,
        };
        let zero = match (self, &beside) {
            (Self::Mlx(..), Some((_, _, biases))) => Zero::Added(biases.clone()),
            (Self::Rows(_, false), Some((_, _, zeros))) => Zero::Packed(zeros.clone()),
            (Self::Rows(_, true), _) => Zero::Middle,
            (Self::Bytes | Self::BitsAndBytes, _) => Zero::Signed,
            _ => return Err(misfit()),
        };
        let order = part("weight_g_idx").filter(|_| packed);
        let groups = order.as_ref().map(|(_, _, tensor)| tensor.clone());
        let factor = if *self == Self::BitsAndBytes { 1.0 / 127.0 } else { 1.0 };
        let integers = Integers { codes: codes.2.clone(), bits, scales: scales.2, zero, groups, factor };
        if !integers.fits() {
            return Err(misfit());
        }
        let idle = ["weight_shape", "weight_format", "input_scale", "output_scale", "input_zero_point"];
        let idle = idle.iter().filter_map(|name| part(name)).map(|(name, _, _)| name);
        let place = beside.iter().map(|(_, place, _)| *place).fold(codes.1.max(scales.1), usize::max);
        let names = [Some(codes.0), Some(scales.0), beside.map(|(name, _, _)| name), order.map(|(name, _, _)| name)];
        let names = names.into_iter().flatten().chain(idle).collect();
        Ok(Some(FoundWeight { stored: Stored::Integers(Box::new(integers)), place, names }))
    }
}

/// The form of MLX, or the setting that is not supported.
fn mlx_affine(settings: &Json) -> Result<Scheme, String> {
    let bits = |settings: &Json| {
        let bits = settings.get("bits").and_then(Json::as_u64).and_then(|bits| u32::try_from(bits).ok());
        let mode = settings.get("mode").and_then(Json::as_str).unwrap_or("affine");
        match bits {
            Some(bits @ (2..=6 | 8)) if mode == "affine" => Ok(bits),
            _ => Err(format!("MLX with {} bits in mode {mode}", bits.unwrap_or(0))),
        }
    };
    let modules = settings.as_object().into_iter().flatten().filter(|(_, own)| own.is_object());
    let own: Result<_, String> = modules
        .map(|(module, own)| {
            let weight = format!("{module}.weight");
            Ok((text_name(&weight).unwrap_or(weight), bits(own)?))
        })
        .collect();
    Ok(Scheme::Mlx(bits(settings)?, own?))
}

/// The form of compressed-tensors, in bytes or packed, or the setting that is not supported.
fn rows(weights: Option<&Json>, bytes: bool) -> Result<Scheme, String> {
    let get = |name: &str| weights.and_then(|weights| weights.get(name)).filter(|value| !value.is_null());
    let text = |name: &str, usual: &'static str| get(name).map_or(Some(usual), Json::as_str);
    let bits = get("num_bits").and_then(Json::as_u64).and_then(|bits| u32::try_from(bits).ok());
    let symmetric = get("symmetric").and_then(Json::as_bool).unwrap_or(true);
    let strategies = if bytes { &["tensor", "channel"][..] } else { &["tensor", "channel", "group"] };
    let known = text("type", "int") == Some("int") && text("strategy", "none").is_some_and(|s| strategies.contains(&s));
    match (bits, bytes) {
        (Some(8), true) if known && symmetric => Ok(Scheme::Bytes),
        (Some(bits @ (2 | 4 | 8)), false) if known => Ok(Scheme::Rows(bits, symmetric)),
        _ => Err(format!(
            "compressed-tensors with weights of {} bits, {}, by {}",
            bits.unwrap_or(0),
            if symmetric { "symmetric" } else { "asymmetric" },
            text("strategy", "none").unwrap_or("none")
        )),
    }
}

/// Rows and columns of a block; by default 128 each.
fn blocks(setting: Option<&Json>) -> [u64; 2] {
    let size = |i: usize| setting.and_then(|size| size.get(i)?.as_u64()).filter(|&n| n > 0).unwrap_or(128);
    [size(0), size(1)]
}

/// The packing of integers in GPTQ or AWQ, if it is supported.
fn packing(method: &str, settings: &Json) -> Option<Packing> {
    let number = |name: &str| settings.get(name).and_then(Json::as_i64);
    let text = |name: &str| settings.get(name).and_then(Json::as_str).unwrap_or_default();
    let bits = u32::try_from(number("bits").or_else(|| number("w_bit"))?).ok()?;
    let group = match number("group_size").or_else(|| number("q_group_size")).unwrap_or(128) {
        -1 => None,
        n => Some(u64::try_from(n).ok().filter(|&n| n > 0)?),
    };
    if method == "awq" {
        let known = bits == 4 && matches!(text("version").to_lowercase().as_str(), "" | "gemm");
        return known.then_some(Packing { bits, order: Order::Awq, group, zero_offset: 0 });
    }
    let zero_offset = u32::from(text("checkpoint_format") != "gptq_v2");
    matches!(bits, 2 | 4 | 8).then_some(Packing { bits, order: Order::Gptq, group, zero_offset })
}
