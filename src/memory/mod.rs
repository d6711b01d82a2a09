//! What the system says of memory: how much this process has, and how much more it can get. A file a system says how it
//! is asked.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// Bytes of this process that are in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of them.
    pub resident: u64,
    /// Those of mapped files among them.
    pub mapped: u64,
}

/// The memory that this process takes now; `None` where the system does not say.
#[must_use]
pub fn of_process() -> Option<Memory> {
    system::of_process()
}

/// Bytes that this process can still get without swapping: what the machine has, or what is left of the limit of a
/// control group that the process is in, whichever is less. `None` where the system does not say.
#[must_use]
pub fn available() -> Option<u64> {
    system::available()
}
