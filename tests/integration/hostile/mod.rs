//! Crafted and broken files: each is refused in one line that names the file, the place and the cause; none makes the
//! program panic, hang, or take much memory.

mod crafted;
mod families;
mod files;
mod hparams;
mod mutants;
mod mutated;
mod safetensors;

/// The bytes of a GGUF file in the making: nothing is checked.
#[derive(Clone)]
struct Raw(Vec<u8>);

impl Raw {
    /// A header that announces as many tensors and keys.
    fn new(tensors: u64, keys: u64) -> Self {
        Self::with_version(3, tensors, keys)
    }

    fn with_version(version: u32, tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(version).u64(tensors).u64(keys)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn string(self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        self.u64(text.len() as u64).bytes(text)
    }

    /// Name and type of a key; its value comes next.
    fn key(self, name: impl AsRef<[u8]>, value_type: u32) -> Self {
        self.string(name).u32(value_type)
    }

    fn tensor(self, name: impl AsRef<[u8]>, shape: &[u64], ty: u32, offset: u64) -> Self {
        let dims = u32::try_from(shape.len()).expect("few");
        let raw = shape.iter().fold(self.string(name).u32(dims), |raw, &dim| raw.u64(dim));
        raw.u32(ty).u64(offset)
    }

    /// Fills up to the default alignment, and adds as many bytes of data.
    fn data(mut self, bytes: usize) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(32) + bytes, 7);
        self.0
    }
}

/// Ids of value types.
const U8: u32 = 0;
const U32: u32 = 4;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const U64: u32 = 10;

/// Ids of tensor types.
const F32: u32 = 0;
const F16: u32 = 1;
const Q4_0: u32 = 2;
const F64: u32 = 28;

/// Checks what every message owes.
fn check_line(message: &str, name: &str) {
    assert!(message.starts_with(&format!("{name}: ")), "does not name the file: {message:?}");
    assert!(message.len() < 1000, "{message:?}");
    let control =
        message.chars().find(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}'));
    assert_eq!(control, None, "{message:?}");
}
