//! What a QEMU process was given, from its command line. Pure.

use super::guest::{Part, Spec};
use crate::parse::number;

/// Returns the program of a command line, without directories.
fn program(argv0: &str) -> &str {
    argv0.rsplit('/').next().unwrap_or_default()
}

/// Returns whether a command line is of a QEMU that runs a machine: `qemu-system-x86_64`,
/// `qemu-kvm`, `kvm`, and not `qemu-img` or `qemu-ga`.
fn is_machine(argv0: &str) -> bool {
    let program = program(argv0);
    program.starts_with("qemu-system-") || program == "qemu-kvm" || program == "kvm"
}

/// Where a file of memory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// A file system in memory: ordinary pages.
    Memory,
    /// Huge pages of this size in bytes.
    Huge(u64),
    /// A disk: pages of the cache, which nothing has to be promised for.
    Disk,
}

/// One `-object memory-backend-...`.
#[derive(Debug, Default)]
struct Backend {
    id: String,
    part: Part,
    /// Whether it lies in a file on a disk.
    disk: bool,
}

/// Reads the command line of a process, arguments ended by NUL bytes. `None` when it is no QEMU.
///
/// `backing` tells what a path of memory lies on, `default_page` the size of huge pages where none
/// is named.
pub(super) fn parse(
    cmdline: &[u8],
    default_page: u64,
    backing: impl Fn(&str) -> Backing,
) -> Option<Spec> {
    let text = String::from_utf8_lossy(cmdline);
    let mut args = text.split('\0');
    if !is_machine(args.next()?) {
        return None;
    }
    // QEMU's own defaults.
    let (mut ram, mut cpus) = (128 << 20, 1);
    let mut path = None;
    let mut backends: Vec<Backend> = Vec::new();
    let (mut base, mut added): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    while let Some(arg) = args.next() {
        let Some(name) = arg.strip_prefix('-') else { continue };
        let name = name.strip_prefix('-').unwrap_or(name);
        if !matches!(
            name,
            "m" | "smp" | "mem-path" | "object" | "machine" | "M" | "numa" | "device"
        ) {
            continue;
        }
        let Some(value) = args.next() else { break };
        let options = Options::of(value);
        match name {
            "m" => ram = options.first("size").and_then(|size| bytes(size, 20)).unwrap_or(ram),
            "smp" => cpus = processors(&options).unwrap_or(cpus),
            "mem-path" => path = Some(value.to_owned()),
            "object" => backends.extend(backend(&options, default_page, &backing)),
            "machine" | "M" => base.extend(options.get("memory-backend").map(str::to_owned)),
            "numa" => base.extend(options.get("memdev").map(str::to_owned)),
            _ => {
                let kind = options.first("driver").unwrap_or_default();
                if matches!(kind, "pc-dimm" | "nvdimm") {
                    added.extend(options.get("memdev").map(str::to_owned));
                }
            }
        }
    }
    let mut spec = Spec { cpus, memory: 0, ..Spec::default() };
    let mut take = |backend: &Backend| {
        spec.memory = spec.memory.saturating_add(backend.part.memory);
        if !backend.disk {
            spec.parts.push(backend.part.clone());
        }
    };
    let named = |names: &[String], backend: &&Backend| names.contains(&backend.id);
    if base.is_empty() || !backends.iter().any(|backend| named(&base, &backend)) {
        let mut whole =
            Backend { part: Part { memory: ram, ..Part::default() }, ..Backend::default() };
        if let Some(path) = &path {
            whole.lies(backing(path));
        }
        take(&whole);
    }
    backends.iter().filter(|b| named(&base, b) || named(&added, b)).for_each(&mut take);
    Some(spec)
}

impl Backend {
    fn lies(&mut self, on: Backing) {
        match on {
            Backing::Memory => {}
            Backing::Huge(page) => self.part.page = Some(page),
            Backing::Disk => self.disk = true,
        }
    }
}

fn backend(
    options: &Options,
    default_page: u64,
    backing: &impl Fn(&str) -> Backing,
) -> Option<Backend> {
    let kind = options.first("qom-type")?.strip_prefix("memory-backend-")?;
    let memory = bytes(options.get("size")?, 0)?;
    let mut backend = Backend { id: options.get("id")?.to_owned(), ..Backend::default() };
    backend.part.memory = memory;
    match kind {
        "file" => backend.lies(backing(options.get("mem-path").unwrap_or_default())),
        "memfd" if matches!(options.get("hugetlb"), Some("on" | "true" | "yes")) => {
            let page = options.get("hugetlbsize").and_then(|size| bytes(size, 0));
            backend.part.page = Some(page.unwrap_or(default_page));
        }
        "epc" => return None,
        _ => {}
    }
    let nodes: Vec<u32> = options.all("host-nodes").flat_map(ids).collect();
    backend.part.nodes = (!nodes.is_empty()).then_some(nodes);
    Some(backend)
}

/// Reads `-smp 4,sockets=2`, `-smp cpus=4`, `-smp sockets=2,cores=2`: CPUs at the start.
fn processors(options: &Options) -> Option<u64> {
    let count = |name: &str| options.get(name).and_then(whole).filter(|&n| n > 0);
    let first = options.first("cpus").and_then(whole).filter(|&n| n > 0);
    let levels = ["sockets", "dies", "clusters", "cores", "threads"];
    let product = || levels.iter().filter_map(|level| count(level)).try_fold(1, u64::checked_mul);
    let some = levels.iter().any(|level| count(level).is_some());
    first.or_else(|| count("maxcpus")).or_else(|| if some { product() } else { None })
}

/// Options as QEMU takes them: `value,name=value,...` with commas doubled, or a JSON object.
struct Options {
    pairs: Vec<(String, String)>,
    /// What stands first without a name.
    bare: Option<String>,
}

impl Options {
    fn of(text: &str) -> Self {
        if text.starts_with('{') {
            return Self { pairs: json(text).unwrap_or_default(), bare: None };
        }
        let text = text.replace(",,", "\u{1}");
        let mut options = Self { pairs: Vec::new(), bare: None };
        for (at, part) in text.split(',').enumerate() {
            let part = part.replace('\u{1}', ",");
            match part.split_once('=') {
                Some((name, value)) => options.pairs.push((name.to_owned(), value.to_owned())),
                None if at == 0 => options.bare = Some(part),
                // `host-nodes=0,2`: no, QEMU wants the name again; a flag that is set.
                None => options.pairs.push((part, "on".to_owned())),
            }
        }
        options
    }

    /// Returns the last value of a name, as QEMU does.
    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns what stands first, or has the name that may be left out there.
    fn first<'a>(&'a self, name: &str) -> Option<&'a str> {
        self.bare.as_deref().or_else(|| self.get(name))
    }
}

/// Reads the flat part of a JSON object; lists become several values of one name.
fn json(text: &str) -> Option<Vec<(String, String)>> {
    use serde_json::Value;
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(set) => Some(set.to_string()),
        _ => None,
    };
    let Value::Object(object) = serde_json::from_str(text).ok()? else { return None };
    let mut pairs = Vec::new();
    for (name, value) in &object {
        match value {
            Value::Array(list) => {
                pairs.extend(list.iter().filter_map(plain).map(|value| (name.clone(), value)));
            }
            value => pairs.extend(plain(value).map(|value| (name.clone(), value))),
        }
    }
    Some(pairs)
}

/// Reads `3` or `0-3`. More than a host has is nothing.
fn ids(text: &str) -> Vec<u32> {
    const MOST: u32 = 4096;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let id = |text: &str| whole(text).and_then(|n| u32::try_from(n).ok()).filter(|&n| n < MOST);
    id(first).zip(id(last)).map(|(first, last)| (first..=last).collect()).unwrap_or_default()
}

fn whole(text: &str) -> Option<u64> {
    number(text.as_bytes()).filter(|(_, digits)| *digits == text.len()).map(|(value, _)| value)
}

/// Reads an amount: `4096` (of 2^`shift` bytes), `4G`, `4194304k`, `1.5G`.
fn bytes(text: &str, shift: u32) -> Option<u64> {
    let (value, digits) = number(text.as_bytes())?;
    let rest = &text[digits..];
    let (fraction, unit) = match rest.strip_prefix('.') {
        None => ((0, 0), rest),
        Some(after) => {
            let (part, digits) = number(after.as_bytes()).filter(|(_, digits)| *digits <= 6)?;
            ((part, digits), &after[digits..])
        }
    };
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => shift,
        "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let scale = 10_u128.pow(u32::try_from(fraction.1).ok()?);
    let exact = (u128::from(value) * scale + u128::from(fraction.0)) << shift;
    u64::try_from(exact / scale).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 2 << 20;
    const MIB: u64 = 1 << 20;

    fn read(line: &str) -> Option<Spec> {
        let cmdline = line.split_ascii_whitespace().collect::<Vec<_>>().join("\0") + "\0";
        parse(cmdline.as_bytes(), PAGE, |path| match path {
            _ if path.starts_with("/dev/hugepages1G") => Backing::Huge(1 << 30),
            _ if path.starts_with("/dev/hugepages") => Backing::Huge(PAGE),
            _ if path.starts_with("/dev/shm") => Backing::Memory,
            _ => Backing::Disk,
        })
    }

    fn plain(cpus: u64, mib: u64) -> Option<Spec> {
        let part = Part { memory: mib * MIB, ..Part::default() };
        Some(Spec { cpus, memory: mib * MIB, parts: vec![part], advised: None })
    }

    #[test]
    fn sizes_and_cpus_in_each_form() {
        for (args, cpus, mib) in [
            ("", 1, 128),
            ("-m 4096", 1, 4096),
            ("-m 4G -smp 4", 4, 4096),
            ("-m 4096M -smp cpus=4", 4, 4096),
            ("-m size=4194304k,slots=16,maxmem=8388608k -smp 4,sockets=2,cores=2", 4, 4096),
            ("-m 512,slots=2,maxmem=1G --smp sockets=2,cores=3,threads=2", 12, 512),
            ("-m 1.5G -smp 2,maxcpus=8", 2, 1536),
            ("-m 128 -m 1g -smp maxcpus=6", 6, 1024),
            ("-m x -smp 0", 1, 128),
            ("-cdrom a.iso -m 64 -S", 1, 64),
        ] {
            assert_eq!(
                read(&format!("/usr/bin/qemu-system-x86_64 {args}")),
                plain(cpus, mib),
                "{args}"
            );
        }
        assert_eq!(read("kvm -m 64"), plain(1, 64));
        assert_eq!(read("/usr/libexec/qemu-kvm -m 64"), plain(1, 64));
        for other in ["qemu-img -m 4", "qemu-ga", "/bin/kvm-ok", "sh -c qemu-system-x86_64", ""] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn memory_of_backends() {
        let part = |mib, page, nodes: &[u32]| Part {
            memory: mib * MIB,
            page,
            nodes: (!nodes.is_empty()).then(|| nodes.to_vec()),
        };
        // As libvirt writes it since 7.0, and before.
        let both = read(
            "qemu-kvm -smp 8 -m size=2097152k -object {\"qom-type\":\"memory-backend-memfd\",\
             \"id\":\"ram-node0\",\"size\":1073741824,\"host-nodes\":[0],\"policy\":\"bind\"} \
             -numa node,nodeid=0,memdev=ram-node0 \
             -object memory-backend-ram,id=ram-node1,size=1073741824,host-nodes=2-3,policy=bind \
             -numa node,nodeid=1,memdev=ram-node1 -object memory-backend-ram,id=other,size=7G \
             -object memory-backend-ram,id=dimm,size=512M -device pc-dimm,id=d,memdev=dimm",
        );
        let parts = vec![part(1024, None, &[0]), part(1024, None, &[2, 3]), part(512, None, &[])];
        assert_eq!(both, Some(Spec { cpus: 8, memory: 2560 * MIB, parts, advised: None }));

        let one = |args: &str| read(&format!("kvm -m 1G {args}")).expect("a guest").parts;
        let machine = "-machine pc,memory-backend=pc.ram -object";
        for (args, wanted) in [
            ("-mem-path /dev/hugepages/x", part(1024, Some(PAGE), &[])),
            ("-mem-path /dev/shm", part(1024, None, &[])),
            (
                "-machine pc,memory-backend=pc.ram -object memory-backend-file,id=pc.ram,\
                 mem-path=/dev/hugepages1G/libvirt,,x,size=1G,host-nodes=1,policy=bind",
                part(1024, Some(1 << 30), &[1]),
            ),
            (
                "-machine pc,memory-backend=r -object memory-backend-memfd,id=r,size=1G,hugetlb=on",
                part(1024, Some(PAGE), &[]),
            ),
        ] {
            assert_eq!(one(args), [wanted], "{args}");
        }
        let disk = format!("{machine} memory-backend-file,id=pc.ram,size=1G,mem-path=/var/ram");
        assert_eq!(one(&disk), [], "a file on a disk takes none");
        assert_eq!(
            one(&format!("{machine} memory-backend-ram,id=pc.ram")),
            [part(1024, None, &[])]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut line = b"kvm\0".to_vec();
            line.extend(bytes);
            let _ = parse(&line, PAGE, |_| Backing::Disk);
        }

        #[test]
        fn near_lines_are_answered(text in "(-(m|smp|object|numa) ([a-z-]{0,9}[=,]?[0-9.]{0,22}[kMGTP]?,?){0,4} ){0,4}") {
            let _ = read(&format!("kvm {text}"));
        }
    }
}
