//! The instruction sets that the kernels are written for, and the choice among them.
//!
//! The choice is made once per process: the best set that the CPU has, or the one that the environment variable
//! `GGUF_CPU` names. Whatever is chosen, every kernel gives the same bits; only the speed differs.

use std::fmt;
use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use super::aarch64::neon;
use super::lanes::{Kernel, Lanes};
use super::scalar::Scalar;
#[cfg(target_arch = "x86_64")]
use super::x86_64::{amx, avx2, avx512};

/// The environment variable that overrides the choice.
pub const OVERRIDE: &str = "GGUF_CPU";

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// `GGUF_CPU` names no instruction set.
    #[error("GGUF_CPU={name}: no such instruction set (there are {})", names())]
    UnknownCpu {
        /// What it names.
        name: String,
    },
    /// `GGUF_CPU` names an instruction set that this CPU lacks.
    #[error("GGUF_CPU={name}: this CPU cannot run it")]
    MissingCpu {
        /// What it names.
        name: String,
    },
}

fn names() -> String {
    Isa::ALL.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

/// An instruction set, from the slowest to the fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust: the oracle of the others, and the fallback.
    Scalar,
    /// NEON, which every aarch64 has.
    Neon,
    /// NEON with `sdot`, the products of signed bytes.
    Dotprod,
    /// That, and `usdot` for unsigned bytes; also products of bf16 where the CPU has them.
    I8mm,
    /// AVX2, FMA and F16C.
    Avx2,
    /// That, and AVX-VNNI: the products of bytes of CPUs without AVX-512.
    AvxVnni,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with VNNI.
    Vnni,
    /// That, and tiles of AMX (int8 and bf16) for many tokens.
    Amx,
}

impl Isa {
    /// Every instruction set, from the slowest to the fastest.
    pub const ALL: &'static [Self] = &[
        Self::Scalar,
        Self::Neon,
        Self::Dotprod,
        Self::I8mm,
        Self::Avx2,
        Self::AvxVnni,
        Self::Avx512,
        Self::Vnni,
        Self::Amx,
    ];

    /// The name by which `GGUF_CPU` asks for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Dotprod => "dotprod",
            Self::I8mm => "i8mm",
            Self::Avx2 => "avx2",
            Self::AvxVnni => "avxvnni",
            Self::Avx512 => "avx512",
            Self::Vnni => "vnni",
            Self::Amx => "amx",
        }
    }

    /// Whether this CPU and this operating system can run it.
    #[must_use]
    pub fn available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::<false>::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => avx2::Avx2::<true>::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Avx512::<false>::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => avx512::Avx512::<true>::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx::Amx::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::Neon::<false, false>::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            Self::Dotprod => neon::Neon::<true, false>::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            Self::I8mm => neon::Neon::<true, true>::detect().is_some(),
            _ => false,
        }
    }

    /// The [selected](Self::selected) instruction set, or the best one if the selection is at fault.
    #[must_use]
    pub fn active() -> Self {
        static ACTIVE: OnceLock<Isa> = OnceLock::new();
        *ACTIVE.get_or_init(|| Self::selected().unwrap_or_else(|_| Self::best()))
    }

    /// Runs `kernel` compiled for this instruction set; for [`Self::Scalar`] where the CPU lacks it.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        self.run_or(kernel, |kernel| kernel.run(Scalar))
    }

    /// Runs `kernel` compiled for this instruction set, or gives it to `otherwise` for [`Self::Scalar`] and where the CPU lacks the
    /// instruction set: it is then not compiled for [`Scalar`].
    pub(crate) fn run_or<K: Kernel>(self, kernel: K, otherwise: impl FnOnce(K) -> K::Output) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx2 | Self::AvxVnni => {
                if K::DOT_PRODUCTS
                    && self == Self::AvxVnni
                    && let Some(lanes) = avx2::Avx2::<true>::detect()
                {
                    return avx2::run_vnni(lanes, kernel);
                }
                if let Some(lanes) = avx2::Avx2::<false>::detect() {
                    return avx2::run(lanes, kernel);
                }
            }
            Self::Avx512 | Self::Vnni | Self::Amx => {
                if K::DOT_PRODUCTS
                    && self != Self::Avx512
                    && let Some(lanes) = avx512::Avx512::<true>::detect()
                {
                    return avx512::run_vnni(lanes, kernel);
                }
                if let Some(lanes) = avx512::Avx512::<false>::detect() {
                    return avx512::run(lanes, kernel);
                }
            }
            _ => {}
        }
        #[cfg(target_arch = "aarch64")]
        match self {
            Self::Neon | Self::Dotprod | Self::I8mm => {
                if K::DOT_PRODUCTS
                    && self == Self::Dotprod
                    && let Some(lanes) = neon::Neon::<true, false>::detect()
                {
                    return neon::run_dotprod(lanes, kernel);
                }
                if K::DOT_PRODUCTS
                    && self == Self::I8mm
                    && let Some(lanes) = neon::Neon::<true, true>::detect()
                {
                    return neon::run_i8mm(lanes, kernel);
                }
                if let Some(lanes) = neon::Neon::<false, false>::detect() {
                    return neon::run(lanes, kernel);
                }
            }
            _ => {}
        }
        otherwise(kernel)
    }

    /// Whether there are kernels for many tokens, which take their input as tiles.
    pub(crate) fn has_tiles(self) -> bool {
        self == Self::Amx
    }

    /// Whether the products of two pairs of words are added in one instruction.
    pub(crate) fn adds_pairs(self) -> bool {
        self.run(AddsPairs)
    }

    /// Does `rounds` rounds of products of bytes, added up in registers, and returns how many products those are.
    pub(crate) fn byte_products(self, rounds: usize) -> usize {
        #[cfg(target_arch = "x86_64")]
        if let (Self::Amx, Some(amx)) = (self, amx::Amx::detect()) {
            return amx::byte_products(amx, rounds);
        }
        self.run(ByteProducts(rounds))
    }

    /// The best instruction set of this CPU.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.iter().copied().filter(|isa| isa.available()).max().unwrap_or(Self::Scalar)
    }

    /// The instruction set that this process uses: what `GGUF_CPU` names, or else the best one.
    ///
    /// # Errors
    /// If `GGUF_CPU` names none, or one that this CPU lacks.
    pub fn selected() -> Result<Self, IsaError> {
        static SELECTED: OnceLock<Result<Isa, IsaError>> = OnceLock::new();
        SELECTED
            .get_or_init(|| Self::parse(std::env::var_os(OVERRIDE).map(|v| v.to_string_lossy().into_owned())))
            .clone()
    }

    fn parse(wanted: Option<String>) -> Result<Self, IsaError> {
        let Some(name) = wanted.filter(|name| !name.is_empty()) else { return Ok(Self::best()) };
        match Self::ALL.iter().find(|isa| isa.name() == name) {
            Some(isa) if isa.available() => Ok(*isa),
            Some(_) => Err(IsaError::MissingCpu { name }),
            None => Err(IsaError::UnknownCpu { name }),
        }
    }
}

/// [`Lanes::byte_products`].
struct ByteProducts(usize);

impl Kernel for ByteProducts {
    type Output = usize;
    const DOT_PRODUCTS: bool = true;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> usize {
        lanes.byte_products(self.0)
    }
}

/// [`super::integers::Integers::ADDS_PAIRS`].
struct AddsPairs;

impl Kernel for AddsPairs {
    type Output = bool;
    const DOT_PRODUCTS: bool = true;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> bool {
        L::ADDS_PAIRS
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::{Isa, IsaError};

    #[test]
    fn the_override_is_honoured_or_refused() {
        assert_eq!(Isa::parse(None), Ok(Isa::best()));
        assert_eq!(Isa::parse(Some(String::new())), Ok(Isa::best()));
        assert_eq!(Isa::parse(Some("scalar".into())), Ok(Isa::Scalar));
        assert_eq!(Isa::parse(Some("sse9".into())), Err(IsaError::UnknownCpu { name: "sse9".into() }));
    }

    #[test]
    fn names_are_distinct() {
        for (i, isa) in Isa::ALL.iter().enumerate() {
            assert!(Isa::ALL[..i].iter().all(|other| other.name() != isa.name() && other < isa));
        }
    }
}
