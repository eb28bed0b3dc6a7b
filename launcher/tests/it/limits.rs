//! Definitions that are made to hurt are refused within 64 MiB of address space, and at once.
//!
//! The test runs itself anew for each, under `ulimit -v`: the whole process, program text and all, has
//! no more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says why")]

use std::io::{self, Read};
use std::process::Command;
use std::time::{Duration, Instant};

use placer_launcher::definition::read_at_most;
use placer_launcher::{domain, guest_file};

/// Which definition a child reads.
const CASE: &str = "PLACER_TEST_LIMITS_CASE";
const KIB: u32 = 64 << 10;

/// Gives the same bytes again and again.
struct Again(&'static [u8], usize);

impl Read for Again {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in buffer.iter_mut() {
            *byte = self.0[self.1 % self.0.len()];
            self.1 += 1;
        }
        Ok(buffer.len())
    }
}

/// What `text` is filled up to, behind `head`.
fn filled(head: &str, piece: &str, tail: &str) -> Vec<u8> {
    fill(domain::MAX_BYTES, head, piece, tail)
}

fn fill(length: usize, head: &str, piece: &str, tail: &str) -> Vec<u8> {
    let pieces = (length - head.len() - tail.len()) / piece.len();
    [head, &piece.repeat(pieces), tail].concat().into_bytes()
}

/// Every case: its name, the definition, and a part of the error.
fn text(case: &str) -> (Vec<u8>, &'static str) {
    let endless = |piece: &'static str, length: u64| {
        read_at_most(Again(piece.as_bytes(), 0).take(length), domain::MAX_BYTES).unwrap()
    };
    let toml = |head, piece, tail| fill(guest_file::MAX_BYTES, head, piece, tail);
    const LONG: &str = "longer than";
    match case {
        "100-mb-of-text" => (endless("<domain type='lxc'> text", 100 << 20), LONG),
        "1-gb-of-nesting" => (endless("<a>", 1 << 30), LONG),
        "nesting-that-is-short-enough" => (filled("", "<a>", ""), "<a>: more than"),
        "nesting-that-is-closed" => {
            let text = "<a>".repeat(9000) + &"</a>".repeat(9000);
            (text.into_bytes(), "<a>: more than 32 elements inside each other")
        }
        "an-element-of-attributes" => (filled("<domain ", "a='' ", "/>"), "attributes"),
        "attributes-to-compare" => {
            let attributes: String = (0..390).map(|n| format!(" a{n}=''")).collect();
            let piece = format!("<x{attributes}/>");
            (filled("<domain type='kvm'>", &piece, "</domain>"), "expected <name>")
        }
        "many-elements" => (filled("<domain type='lxc'>", "<a/>", "</domain>"), "elements"),
        "many-lists" => {
            let list = format!("{}0", "0-9999,^1,^3,^5,^7,".repeat(800));
            let pin = format!("<vcpupin vcpu='0' cpuset='{list}'/>");
            (filled("<domain type='lxc'><cputune>", &pin, "</cputune></domain>"), "a second one")
        }
        "many-names" => (filled("<domain type='kvm'>", "<aa/><ab/><ac/><ad/>", ""), "elements"),
        "entities" => {
            let head = "<!DOCTYPE domain [<!ENTITY a0 'aaaaaaaaaa'>";
            let piece = "<!ENTITY a1 '&a0;&a0;&a0;&a0;&a0;&a0;'>";
            (filled(head, piece, "]><domain>&a1;</domain>"), "DOCTYPE")
        }
        "toml-brackets" => (toml("name = ", "[", ""), "guest.toml:1:"),
        "toml-tables" => (toml("", "[[a.b]]\n", ""), "unknown key"),
        "toml-keys" => (toml("", "a.", " = 1"), "guest.toml:1:"),
        _ => panic!("no case {case}"),
    }
}

const CASES: &[&str] = &[
    "100-mb-of-text",
    "1-gb-of-nesting",
    "nesting-that-is-short-enough",
    "nesting-that-is-closed",
    "an-element-of-attributes",
    "attributes-to-compare",
    "many-elements",
    "many-lists",
    "many-names",
    "entities",
    "toml-brackets",
    "toml-tables",
    "toml-keys",
];

#[test]
fn a_child_reads_its_case() {
    let Ok(case) = std::env::var(CASE) else { return };
    let (bytes, part) = text(&case);
    let error = match case.starts_with("toml") {
        true => guest_file::parse("guest.toml", &bytes).unwrap_err(),
        false => domain::Domain::parse("guest.xml", &bytes).unwrap_err(),
    };
    let error = error.to_string();
    assert!(error.contains(part), "{error}");
    assert!(!error.contains('\n') && error.len() < 1000, "{error}");
}

#[test]
fn definitions_made_to_hurt_fail_within_64_mib() {
    let program = std::env::current_exe().unwrap();
    for case in CASES {
        let started = Instant::now();
        let output = Command::new("sh")
            .args(["-c", &format!("ulimit -v {KIB} && exec \"$0\" \"$@\"")])
            .arg(&program)
            .args(["--exact", "limits::a_child_reads_its_case", "--test-threads=1"])
            .env(CASE, case)
            .env("RUST_BACKTRACE", "0")
            // Tests run in threads, and glibc reserves 128 MiB for the allocations of each.
            .env("MALLOC_ARENA_MAX", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{case}: {said}");
        assert!(said.contains("1 passed"), "{case}: {said}");
        // Far above what a slow machine takes, far below what no limit would.
        assert!(started.elapsed() < Duration::from_secs(60), "{case}: {:?}", started.elapsed());
        println!("{case}: {:?}", started.elapsed());
    }
}
