//! Plain numbers: F32, F16 and BF16, rounded to nearest, ties to even.

use half::{bf16, f16};

use super::{Format, Written};
use crate::TensorType;

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct BF16;

impl Format for F32 {
    const TY: TensorType = TensorType::F32;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    }
}

impl Written for F32 {
    fn encode_block(x: &[f32], _importance: Option<&[f32]>, block: &mut [u8]) {
        block.copy_from_slice(&x[0].to_le_bytes());
    }
}

impl Format for F16 {
    const TY: TensorType = TensorType::F16;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        out[0] = f16::from_le_bytes([block[0], block[1]]).to_f32();
    }
}

impl Written for F16 {
    fn encode_block(x: &[f32], _importance: Option<&[f32]>, block: &mut [u8]) {
        block.copy_from_slice(&f16::from_f32(x[0]).to_le_bytes());
    }
}

impl Format for BF16 {
    const TY: TensorType = TensorType::BF16;

    fn decode_block(block: &[u8], out: &mut [f32]) {
        out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32();
    }
}

impl Written for BF16 {
    fn encode_block(x: &[f32], _importance: Option<&[f32]>, block: &mut [u8]) {
        block.copy_from_slice(&bf16::from_f32(x[0]).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use crate::TensorType;
    use crate::quant::codec;

    #[test]
    fn rounding_is_to_even() {
        for (ty, x, bits) in [
            (TensorType::F16, 1.0 + 1.0 / 2048.0, 0x3c00_u16),
            (TensorType::F16, 1.0 + 3.0 / 2048.0, 0x3c02),
            (TensorType::F16, 65520.0, 0x7c00),
            (TensorType::F16, -0.0, 0x8000),
            (TensorType::BF16, 1.0 + 1.0 / 256.0, 0x3f80),
            (TensorType::BF16, 1.0 + 3.0 / 256.0, 0x3f82),
        ] {
            let mut out = [0; 2];
            (codec(ty).and_then(|codec| codec.encode).expect("encoder"))(&[x], None, &mut out);
            assert_eq!(u16::from_le_bytes(out), bits, "{ty} {x}");
        }
    }
}
