//! Which form a checkpoint's weights have, from `quantization_config`, and the tensors that make up each of them.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value as Json;

use super::packed::{Order, Packed, Packing};
use super::{Stored, fp8::Fp8, mxfp4::Mxfp4};
use crate::arch::Config;
use crate::convert::Error;
use crate::safetensors::{Dtype, TensorInfo};

/// What can be read, for messages.
const KNOWN: &str = "fp8, mxfp4, gptq, awq, compressed-tensors in float-quantized";

/// A checkpoint's tensors by the names that rules give them, with their place in the checkpoint.
pub(in super::super) type Tensors<'a> = HashMap<String, (usize, &'a TensorInfo)>;

/// A weight that was found.
pub(in super::super) struct Found {
    pub(in super::super) stored: Stored,
    /// Place of its last tensor.
    pub(in super::super) place: usize,
    /// All tensors that belong to it.
    pub(in super::super) names: Vec<String>,
}

/// The form of the weights. Those that are not in it are plain numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Scheme {
    /// Plain numbers.
    Plain,
    /// Eight-bit floats; rows and columns of a block.
    Fp8([u64; 2]),
    /// MXFP4.
    Mxfp4,
    /// GPTQ or AWQ.
    Packed(Packing),
}

impl Scheme {
    /// The form that `config` tells; `path` stands in messages.
    ///
    /// # Errors
    /// When it is none that can be read.
    pub(in super::super) fn of(path: &Path, config: &Config) -> Result<Self, Error> {
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
                    Ok(Self::Fp8(blocks(weights.and_then(|weights| weights.get("block_structure")))))
                }
                other => Err(unknown(&format!("compressed-tensors in {other}"))),
            },
            "modelopt" if text("quant_algo") == Some("FP8") => Ok(Self::Fp8(blocks(None))),
            "mxfp4" => Ok(Self::Mxfp4),
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

    /// The weight that rules call `name`, when it is there.
    ///
    /// # Errors
    /// When its tensors do not fit one another.
    pub(in super::super) fn find(self, path: &Path, tensors: &Tensors<'_>, name: &str) -> Result<Option<Found>, Error> {
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
                return Ok(Some(Found { stored: Stored::Mxfp4(stored), place: place.max(at), names }));
            }
            let Self::Fp8(block) = self else {
                return Ok(Some(Found { stored: Stored::Plain(tensor.clone()), place, names }));
            };
            for part in ["input_scale", "input_scale_inv", "weight_zero_point", "output_scale", "k_scale", "v_scale"] {
                let beside = name.strip_suffix("weight").map(|module| format!("{module}{part}"));
                names.extend(beside.filter(|name| tensors.contains_key(name)));
            }
            if tensor.dtype != Dtype::F8_E4M3 {
                return Ok(Some(Found { stored: Stored::Plain(tensor.clone()), place, names }));
            }
            let (scale, at, scales) = scale_of(&["_scale_inv", "_scale"]).ok_or_else(|| misfit(name))?;
            let stored = Fp8::new(tensor, scales, block).ok_or_else(|| misfit(name))?;
            names.push(scale);
            return Ok(Some(Found { stored: Stored::Fp8(stored), place: place.max(at), names }));
        }
        let (Self::Packed(packing), Some(module)) = (self, name.strip_suffix("weight")) else { return Ok(None) };
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
        Ok(Some(Found { stored, place, names: names.into_iter().flatten().collect() }))
    }
}

/// Rows and columns of a block: 128 each where nothing is said.
fn blocks(setting: Option<&Json>) -> [u64; 2] {
    let size = |i: usize| setting.and_then(|size| size.get(i)?.as_u64()).filter(|&n| n > 0).unwrap_or(128);
    [size(0), size(1)]
}

/// How GPTQ or AWQ packs integers, where it is a way that is known.
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
