//! Linux answers in files of `/proc` and of control groups. Other unixes have no such files: nothing is known there.

use std::path::Path;

use super::Memory;

/// [`super::of_process`].
pub(super) fn of_process() -> Option<Memory> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<Memory> {
    Some(Memory { resident: kib(status, "VmRSS:")?, mapped: kib(status, "RssFile:")? })
}

/// [`super::available`].
pub(super) fn available() -> Option<u64> {
    available_by(&|path| std::fs::read_to_string(path).ok())
}

/// As [`available`]; `read` returns the text of a system file.
fn available_by(read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let machine = read("/proc/meminfo").and_then(|text| kib(&text, "MemAvailable:"));
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let rooms = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        match controllers {
            "" => {
                ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().filter_map(|root| room(read, root, path, V2)).min()
            }
            _ if controllers.split(',').any(|name| name == "memory") => room(read, "/sys/fs/cgroup/memory", path, V1),
            _ => None,
        }
    });
    rooms.chain(machine).min()
}

/// File names of a version of control groups: the memory limit, the memory in use, and the lines of `memory.stat` that count
/// the page cache, which is released when memory is needed.
type Names = (&'static str, &'static str, [&'static str; 2]);
const V1: Names = ("memory.limit_in_bytes", "memory.usage_in_bytes", ["total_inactive_file ", "total_active_file "]);
const V2: Names = ("memory.max", "memory.current", ["inactive_file ", "active_file "]);

/// What remains of the limits of a group and of the groups that contain it. In a container the path may be that of the host;
/// then only the root exists, which is the container's own group.
fn room(read: &dyn Fn(&str) -> Option<String>, root: &str, path: &str, (limit, usage, files): Names) -> Option<u64> {
    let room_of = |group: &Path| {
        let text = |name: &str| read(&format!("{root}{}/{name}", group.to_str()?.trim_end_matches('/')));
        let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
        let limit = number(limit)?;
        let stat = text("memory.stat").unwrap_or_default();
        let of_files = |name| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let reclaimed = files.iter().filter_map(of_files).fold(0, u64::saturating_add);
        Some(limit.saturating_sub(number(usage)?.saturating_sub(reclaimed)))
    };
    Path::new(path).ancestors().filter_map(room_of).min()
}

/// The bytes of a line such as `VmRSS:  2048 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::{Memory, available_by, parse};

    #[test]
    fn sizes_are_those_of_the_status() {
        let status = "Name:\tgguf\nVmRSS:\t    2048 kB\nRssAnon:\t1 kB\nRssFile:\t    1024 kB\n";
        assert_eq!(parse(status), Some(Memory { resident: 2 << 20, mapped: 1 << 20 }));
        assert_eq!(parse("Name:\tgguf\n"), None);
    }

    /// The available bytes on a system with these files.
    fn available(files: &[(&str, &str)]) -> Option<u64> {
        available_by(&|path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()))
    }

    const MEMINFO: (&str, &str) = (
        "/proc/meminfo",
        "MemTotal:       24684096 kB\nMemFree:        13280948 kB\nMemAvailable:   23167464 kB\nBuffers: 28600 kB\n",
    );

    #[test]
    fn the_machine_says_what_it_has() {
        assert_eq!(available(&[MEMINFO]), Some(23_167_464 << 10));
        assert_eq!(available(&[("/proc/meminfo", "MemTotal: 24684096 kB\n")]), None);
        assert_eq!(available(&[]), None);
    }

    #[test]
    fn limits_of_control_groups_count() {
        let group = |text| ("/proc/self/cgroup", text);
        let v2 = [
            MEMINFO,
            group("0::/user.slice/run.scope\n"),
            ("/sys/fs/cgroup/user.slice/run.scope/memory.max", "max\n"),
            ("/sys/fs/cgroup/user.slice/run.scope/memory.current", "5000000\n"),
            ("/sys/fs/cgroup/user.slice/memory.max", "1000000000\n"),
            ("/sys/fs/cgroup/user.slice/memory.current", "700000000\n"),
            ("/sys/fs/cgroup/user.slice/memory.stat", "anon 1\ninactive_file 300000000\nactive_file 100000000\n"),
        ];
        assert_eq!(available(&v2), Some(700_000_000));
        let v1 = [
            MEMINFO,
            group("5:cpu,memory:/docker/0123\n4:pids:/docker/0123\n0::/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "500000000\n"),
            ("/sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 1000\ntotal_active_file 0\n"),
        ];
        assert_eq!(available(&v1), Some(536_870_912 - 500_000_000 + 1000));
        let unlimited = [
            MEMINFO,
            group("4:memory:/\n0::/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "500000000\n"),
            ("/sys/fs/cgroup/unified/memory.max", "no number\n"),
        ];
        assert_eq!(available(&unlimited), Some(23_167_464 << 10));
        let overdrawn =
            [group("0::/\n"), ("/sys/fs/cgroup/memory.max", "10\n"), ("/sys/fs/cgroup/memory.current", "20\n")];
        assert_eq!(available(&overdrawn), Some(0));
    }
}
