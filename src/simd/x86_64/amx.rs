//! The tile registers of AMX: whether there are any, and how they are configured and released.

#![allow(unsafe_code, reason = "tile registers")]

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::sync::OnceLock;

use super::avx512::Avx512;
use crate::simd::LANES;

/// Proof that the CPU has AMX for int8 and bf16, that the system lets us use it, and of AVX-512 with VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Amx(pub(crate) Avx512<true>);

impl Amx {
    /// The proof, on a CPU and a system that have them.
    pub(crate) fn detect() -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        let lanes = Avx512::detect()?;
        FOUND.get_or_init(|| has_amx() && permitted()).then_some(Self(lanes))
    }
}

fn has_amx() -> bool {
    const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & BF16_TILE_INT8 == BF16_TILE_INT8
}

/// Asks the system for tile registers, for all threads of this process.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the call has no effect but to allow an instruction set, or to say that there is none.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// While it lives, tile registers are in use: eight, of 16 rows and `columns` bytes.
pub(crate) struct Configured(());

impl Configured {
    /// For left-hand tiles of `depth` bytes a row in registers 4 and 5, right-hand ones in 6 and 7, results in 0 to 3.
    pub(crate) fn new(_: Amx, depth: u8) -> Self {
        #[repr(C, align(64))]
        struct Config([u8; 64]);
        let mut config = Config([0; 64]);
        config.0[0] = 1;
        for tile in 0..8 {
            let left = tile == 4 || tile == 5;
            let right = tile == 6 || tile == 7;
            config.0[16 + 2 * tile] = if left { depth } else { 64 };
            config.0[48 + tile] = if right { depth / 4 } else { 16 };
        }
        // SAFETY: the caller has proved AMX; the configuration is one of palette 1.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly)) };
        Self(())
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: made only with a proof of AMX.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Products of bytes out of tile registers, in four chains; returns how many.
pub(crate) fn byte_products(amx: Amx, rounds: usize) -> usize {
    let _configured = Configured::new(amx, 64);
    for _ in 0..rounds {
        // SAFETY: registers are configured.
        unsafe {
            asm!(
                "tdpbssd tmm0, tmm4, tmm6",
                "tdpbssd tmm1, tmm5, tmm6",
                "tdpbssd tmm2, tmm4, tmm7",
                "tdpbssd tmm3, tmm5, tmm7",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                options(nostack, nomem),
            );
        }
    }
    4 * LANES * LANES * 64 * rounds
}
