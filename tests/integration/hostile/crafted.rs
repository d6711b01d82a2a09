//! GGUF files made to hurt, a case each; and odd ones that are allowed.

use std::process::Command;
use std::time::{Duration, Instant};

use gguf_toolkit::gguf::{Error, Reader};

use super::super::folder::Folder;
use super::{ARRAY, BOOL, F16, F32, F64, Q4_0, Raw, STRING, U8, U32, U64, check_line};

/// Name of the case, the file, what its message must hold.
type Case = (&'static str, Vec<u8>, &'static str);

fn magic_and_version() -> Vec<Case> {
    let version = |version| Raw::with_version(version, 0, 0).0;
    vec![
        ("empty", vec![], "magic at offset 0: 4 bytes needed, 0 left"),
        ("zip", b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaa".to_vec(), "a PyTorch or zip archive?"),
        ("lfs", b"version https://git-lfs.github.com/spec/v1".to_vec(), "git lfs pull"),
        ("zeros", vec![0; 64], "interrupted download?"),
        ("v0", version(0), "version 0 is not known"),
        ("v1", version(1), "version at offset 4: GGUF version 1 is not supported any more"),
        ("v4", version(4), "version 4 is not known"),
        ("big-endian 2", version(2u32.swap_bytes()), "big-endian"),
        ("big-endian 3", version(3u32.swap_bytes()), "big-endian"),
        ("big-endian magic", b"FUGG\0\0\0\x03".to_vec(), "big-endian"),
    ]
}

fn counts_and_lengths() -> Vec<Case> {
    let array = |element, len| Raw::new(0, 1).key("a", ARRAY).u32(element).u64(len).bytes(&[0; 64]).0;
    vec![
        ("tensors", Raw::new(u64::MAX, 0).0, "tensor count at offset 8: 18446744073709551615 announced, room for 0"),
        ("keys", Raw::new(0, u64::MAX).0, "key count at offset 16"),
        ("keys by one", Raw::new(0, 5).bytes(&[0; 69]).0, "5 announced, room for 4 at most in the 69 bytes left"),
        ("too many keys", Raw::new(0, 70_000).bytes(&[0; 980_000]).0, "70000 announced, the limit is 65536"),
        ("key length", Raw::new(0, 1).u64(u64::MAX).bytes(&[b'a'; 64]).0, "key number 0 at offset 24"),
        ("key length signed", Raw::new(0, 1).u64(1 << 63).bytes(&[b'a'; 64]).0, "bytes needed, 64 left"),
        ("long key", Raw::new(0, 1).string([b'a'; 65_536]).u32(U8).bytes(&[0]).0, "the limit is 65535"),
        ("string", Raw::new(0, 1).key("a", STRING).u64(u64::MAX - 7).bytes(&[0; 8]).0, "key a at offset 37"),
        ("long string", Raw::new(0, 1).key("a", STRING).string(vec![b'a'; 17 << 20]).0, "the limit is 16777216"),
        ("bytes", array(U8, u64::MAX), "key a at offset 41: 18446744073709551615 announced, room for 64"),
        ("wrapping product", array(U64, (1 << 61) + 1), "room for 8"),
        ("strings", array(STRING, 1 << 60), "room for 8"),
        ("arrays", array(ARRAY, 6), "room for 5"),
        ("string in array", Raw::new(0, 1).key("a", ARRAY).u32(STRING).u64(1).u64(u64::MAX).0, "bytes needed, 0 left"),
        ("huge header", Raw::new(0, 1).key("a", ARRAY).u32(U8).u64(130 << 20).bytes(&vec![0; 130 << 20]).0, "limit"),
    ]
}

/// Arrays inside arrays, as deep as that.
fn nested(depth: usize) -> Vec<u8> {
    let raw = (1..depth).fold(Raw::new(0, 1).key("a", ARRAY), |raw, _| raw.u32(ARRAY).u64(1));
    raw.u32(U8).u64(1).bytes(&[5]).0
}

fn keys_and_values() -> Vec<Case> {
    let alignment = |value: u32| Raw::new(0, 1).key("general.alignment", U32).u32(value).0;
    let name = |key: &[u8]| Raw::new(0, 1).key(key, U8).bytes(&[0; 2]).0;
    vec![
        ("deep", nested(9), "arrays inside arrays deeper than 8"),
        ("abyss", nested(100_000), "arrays inside arrays deeper than 8"),
        ("type 13", Raw::new(0, 1).key("a", 13).u64(0).0, "value type 13 does not exist"),
        ("array type", Raw::new(0, 1).key("a", ARRAY).u32(u32::MAX).u64(0).0, "value type 4294967295 does not exist"),
        ("bool", Raw::new(0, 1).key("a", BOOL).bytes(&[2]).0, "a bool is 2, neither 0 nor 1"),
        ("bools", Raw::new(0, 1).key("a", ARRAY).u32(BOOL).u64(2).bytes(&[1, 255]).0, "a bool is 255"),
        ("empty key", name(b""), "key number 0 at offset 32: the name is empty"),
        ("key bytes", name(b"\xff\xfe"), "the name is not UTF-8"),
        ("key with zero", name(b"a\0b"), "the name holds a zero byte"),
        ("key twice", Raw::new(0, 2).key("a", U8).bytes(&[0]).key("a", U8).bytes(&[0]).0, "key a at offset"),
        (
            "steering key",
            Raw::new(0, 1).key("\x1b[2J\nerror: x\u{202e}", 99).u64(0).0,
            "\\u{1b}[2J\\nerror: x\\u{202e}",
        ),
        ("alignment 0", alignment(0), "key general.alignment at offset 53: alignment 0 is no power of two"),
        ("alignment 48", alignment(48), "alignment 48 is no power of two"),
        ("alignment 2^31", alignment(1 << 31), "alignment 2147483648"),
        ("alignment u64", Raw::new(0, 1).key("general.alignment", U64).u64(32).0, "must have type UINT32, has UINT64"),
        ("alignment text", Raw::new(0, 1).key("general.alignment", STRING).string("32").0, "has STRING"),
        ("alignment array", Raw::new(0, 1).key("general.alignment", ARRAY).u32(U32).u64(0).0, "has ARRAY"),
    ]
}

fn tensors() -> Vec<Case> {
    let one = |name: &[u8], shape: &[u64], ty, offset| Raw::new(1, 0).tensor(name, shape, ty, offset).data(64);
    let shape = |shape: &[u64], ty| one(b"w", shape, ty, 0);
    let two = |a, b| Raw::new(2, 0).tensor("v", &[16], F32, a).tensor("w", &[16], F32, b).data(128);
    let mut many_dims = Raw::new(1, 0).string("w").u32(u32::MAX);
    many_dims.0.resize(200, 1);
    vec![
        ("five dimensions", shape(&[1, 1, 1, 1, 1], F32), "tensor w at offset 33: 5 dimensions, the limit is 4"),
        ("all dimensions", many_dims.0, "4294967295 dimensions"),
        ("one huge", shape(&[u64::MAX], F32), "is too large to exist"),
        ("product", shape(&[1 << 32, 1 << 32], F32), "shape [4294967296, 4294967296] is too large"),
        ("product of three", shape(&[1 << 22, 1 << 21, 1 << 21], F16), "is too large"),
        ("hidden by zero", shape(&[1 << 62, 4, 0], F32), "is too large"),
        ("bytes", shape(&[1 << 61, 1], F64), "is too large"),
        ("row of 576 PB", shape(&[1 << 60, 8], Q4_0), "is too large to exist"),
        ("end wraps", one(b"w", &[16], F32, u64::MAX - 31), "data ends at byte 18446744073709551615"),
        ("end by one", Raw::new(1, 0).tensor("w", &[16], F32, 0).data(63), "(truncated download?)"),
        ("offset past end", one(b"w", &[16], F32, 1 << 40), "tensor w at offset 1099511627840: data ends at byte"),
        ("partial block", shape(&[33], Q4_0), "rows of 33 elements do not fill whole blocks of 32 (Q4_0)"),
        ("block across rows", shape(&[16, 2], Q4_0), "rows of 16 elements"),
        ("unaligned", one(b"w", &[1], F32, 4), "data offset 4 is no multiple of the alignment 32"),
        ("overlap", two(0, 32), "tensor w at offset 128: data overlaps that of tensor v"),
        ("same place", two(0, 0), "data overlaps that of tensor"),
        ("removed type", shape(&[32], 4), "tensor type 4 is not known any more"),
        ("unknown type", shape(&[32], u32::MAX), "tensor type 4294967295 is not known"),
        (
            "name twice",
            Raw::new(2, 0).tensor("w", &[1], F32, 0).tensor("w", &[1], F32, 32).data(64),
            "the same name twice",
        ),
        ("empty name", one(b"", &[1], F32, 0), "tensor number 0 at offset 32: the name is empty"),
        ("long name", one(&[b'w'; 64], &[1], F32, 0), "64 bytes long, the limit is 63"),
        ("name bytes", one(b"\xc3", &[1], F32, 0), "the name is not UTF-8"),
        ("name with zero", one(b"w\0", &[1], F32, 0), "the name holds a zero byte"),
    ]
}

fn cases() -> impl Iterator<Item = Case> {
    [magic_and_version(), counts_and_lengths(), keys_and_values(), tensors()].into_iter().flatten()
}

#[test]
fn crafted_files_are_refused_with_place_and_cause() {
    let mut faults = Vec::new();
    for (name, bytes, expected) in cases() {
        let start = Instant::now();
        let error = match Reader::from_bytes("m.gguf", bytes.into()) {
            Ok(_) => panic!("{name}: accepted"),
            Err(error) => error,
        };
        assert!(start.elapsed() < Duration::from_secs(1), "{name}: {:?}", start.elapsed());
        assert!(matches!(error, Error::Format(_)), "{name}: {error:?}");
        let message = error.to_string();
        check_line(&message, "m.gguf");
        if !message.contains(" at offset ") || !message.contains(expected) {
            faults.push(format!("{name}: {message:?} does not hold {expected:?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The same files through the command, with 200 MB of address space.
#[test]
#[cfg(target_os = "linux")]
fn crafted_files_take_no_memory() {
    let folder = Folder::new("hostile-memory");
    let mut names = Vec::new();
    // Types that are not known are shown, and what files of the other byte order hold.
    let shown = |name: &str| name.ends_with(" type") || ["big-endian 2", "big-endian 3"].contains(&name);
    let refused = cases().filter(|(name, ..)| !shown(name));
    for (number, (_, bytes, _)) in refused.enumerate() {
        let name = format!("{number}.gguf");
        std::fs::write(folder.path(&name), bytes).expect("written");
        names.push(name);
    }
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 200000 && exec \"$0\" inspect \"$@\"", env!("CARGO_BIN_EXE_gguf")])
        .args(&names)
        .current_dir(folder.root())
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(stderr.lines().count(), names.len(), "{stderr}");
    for (line, name) in stderr.lines().zip(&names) {
        check_line(line.strip_prefix("error: ").expect("an error"), name);
    }
}

#[test]
fn odd_files_that_are_allowed_open() {
    let holes = Raw::new(2, 0).tensor("v", &[16], F32, 128).tensor("w", &[16], F32, 0).data(300);
    let no_dims = Raw::new(1, 0).tensor("w", &[], F32, 0).data(4);
    let no_elements = Raw::new(2, 0).tensor("v", &[0], F32, 0).tensor("w", &[32, 0], Q4_0, 0).data(0);
    let unpadded_end = Raw::new(1, 0).tensor("w", &[1], F16, 0).data(2);
    let not_utf8 = Raw::new(0, 1).key("a", STRING).string(b"\xff").0;
    let cases = [
        ("nothing", Raw::new(0, 0).0, 0),
        ("version 2", Raw::with_version(2, 1, 0).tensor("w", &[1], F32, 0).data(4), 0),
        ("nested", nested(8), 0),
        ("holes and order", holes, 2),
        ("no dimensions", no_dims, 0),
        ("no elements", no_elements, 2),
        ("end without padding", unpadded_end, 0),
        ("text that is not UTF-8", not_utf8, 1),
    ];
    for (name, bytes, warnings) in cases {
        match Reader::from_bytes("m.gguf", bytes.into()) {
            Ok(reader) => assert_eq!(reader.warnings().len(), warnings, "{name}: {:?}", reader.warnings()),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}
