//! What the system says of this process's memory.

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
pub fn memory() -> Option<Memory> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<Memory> {
    let bytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(Memory { resident: bytes("VmRSS:")?, mapped: bytes("RssFile:")? })
}

#[cfg(test)]
mod tests {
    use super::{Memory, parse};

    #[test]
    fn sizes_are_those_of_the_status() {
        let status = "Name:\tgguf\nVmRSS:\t    2048 kB\nRssAnon:\t1 kB\nRssFile:\t    1024 kB\n";
        assert_eq!(parse(status), Some(Memory { resident: 2 << 20, mapped: 1 << 20 }));
        assert_eq!(parse("Name:\tgguf\n"), None);
    }
}
