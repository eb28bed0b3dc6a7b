//! The reader of guest files, and the schema that is made of its types.

mod mini_schema;
mod samples;
mod schema;

pub(super) use schema::{both_roots, iothreads, one_program, token};

use placer_engine::{Bytes, CpuId, NodeId};
use proptest::prelude::*;

use super::{MAX_BYTES, parse};
use crate::definition::parse_list;
use crate::guest::*;

fn read(text: &str) -> Result<Guest, String> {
    parse("g.toml", text.as_bytes()).map(|read| read.value).map_err(|error| error.to_string())
}

#[test]
fn a_command_with_every_key() {
    let text = r#"
        name = "db 1"
        cpus = 2.5
        memory = "8G"
        pages = "2M"
        near = "0000:45:00.0"
        mode = "weighted-interleave"
        nodeset = "1-4,^3"
        cpuset = "0-3,8"
        pin = "cores"
        isolated = true
        cgroup = "own"
        cgroup_parent = "/sys/fs/cgroup/guests"
        command = ["postgres", "-D", "two\nlines"]
    "#;
    let words = ["postgres", "-D", "two\nlines"].map(Into::into).to_vec();
    let mut guest = Guest::new("db 1".parse().unwrap(), Program::Command(words));
    guest.cpus = CpuCount { maximum: 3, current: 3 };
    guest.required.cpus = Some(placer_engine::CpuShare::from_hundredths(250));
    guest.memory = MemorySize { maximum: Bytes::new(8 << 30), current: Bytes::new(8 << 30) };
    guest.pages = Pages::Huge(Bytes::new(2 << 20));
    guest.near = Some("0000:45:00.0".to_owned());
    guest.mode = MemoryMode::WeightedInterleave;
    guest.mode_given = true;
    guest.nodes = NodeChoice::Fixed(parse_list::<NodeId>("1-2,4").unwrap());
    guest.placement = CpuPlacement::Fixed(parse_list::<CpuId>("0-3,8").unwrap());
    guest.pin = ThreadPin::Cores;
    guest.isolated = true;
    guest.cgroup =
        Cgroup { mode: CgroupMode::Own, parent: Some("/sys/fs/cgroup/guests".to_owned()) };
    assert_eq!(read(text), Ok(guest));
}

#[test]
fn a_machine_with_every_key() {
    let text = r#"
        name = "vm"
        cpus = 4
        memory = 2048
        cpuset = "all"
        [qemu]
        emulator = "/usr/bin/qemu-system-x86_64"
        arch = "x86_64"
        machine = "q35"
        accel = "tcg"
        bios = "rom.bin"
        kernel = "vmlinuz"
        initrd = "initrd.img"
        cmdline = "console=ttyS0 quiet"
        serial = { file = "vm.log" }
        network = "user"
        iothreads = 2
        cells = 2
        dies = 4
        args = ["-device", "virtio-rng-pci"]
        user = "libvirt-qemu"
        sandbox = false
        [[qemu.disks]]
        file = "a,b.qcow2"
        format = "qcow2"
        [[qemu.disks]]
        file = "cd.iso"
        format = "raw"
        device = "cdrom"
        bus = "ide"
    "#;
    let some = |text: &str| Some(text.to_owned());
    let disk = |file: &str, format: &str, device, bus| Disk {
        file: file.to_owned(),
        format: format.to_owned(),
        device,
        bus,
        readonly: device == DiskDevice::Cdrom,
    };
    let qemu = Qemu {
        emulator: some("/usr/bin/qemu-system-x86_64"),
        arch: some("x86_64"),
        machine: some("q35"),
        accelerator: Accelerator::Tcg,
        firmware: Some(Firmware::Rom("rom.bin".to_owned())),
        kernel: some("vmlinuz"),
        initrd: some("initrd.img"),
        cmdline: some("console=ttyS0 quiet"),
        disks: vec![
            disk("a,b.qcow2", "qcow2", DiskDevice::Disk, DiskBus::Virtio),
            disk("cd.iso", "raw", DiskDevice::Cdrom, DiskBus::Ide),
        ],
        serials: vec![Serial::File("vm.log".to_owned())],
        network: Network::User { model: None, mac: None },
        iothreads: 2,
        cells: 2,
        dies: 4,
        args: vec!["-device".to_owned(), "virtio-rng-pci".to_owned()],
        user: some("libvirt-qemu"),
        sandbox: Sandbox::Off,
    };
    let mut guest = Guest::new("vm".parse().unwrap(), Program::Qemu(qemu));
    guest.cpus = CpuCount { maximum: 4, current: 4 };
    guest.memory = MemorySize { maximum: Bytes::new(2 << 30), current: Bytes::new(2 << 30) };
    guest.placement = CpuPlacement::All;
    assert_eq!(read(text), Ok(guest));
}

#[test]
fn a_container_with_every_key() {
    let text = r#"
        name = "web"
        cpus = "0.5"
        [lxc]
        container = "web1"
        init = "/bin/sh"
        args = ["-c", "true"]
        [lxc.config]
        "lxc.net.0.type" = "none"
        "lxc.mount.entry" = ["a b none bind 0 0", "c d none bind 0 0"]
    "#;
    let item = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let lxc = Lxc {
        root: LxcRoot::Container("web1".to_owned()),
        init: Some("/bin/sh".to_owned()),
        args: vec!["-c".to_owned(), "true".to_owned()],
        config: vec![
            item("lxc.mount.entry", "a b none bind 0 0"),
            item("lxc.mount.entry", "c d none bind 0 0"),
            item("lxc.net.0.type", "none"),
        ],
    };
    let mut guest = Guest::new("web".parse().unwrap(), Program::Lxc(lxc));
    guest.required.cpus = Some(placer_engine::CpuShare::from_hundredths(50));
    assert_eq!(read(text), Ok(guest));
}

#[test]
fn errors_say_where_what_and_what_to_do() {
    let head = "name = \"g\"\ncpus = 4\n";
    for (tail, error) in [
        ("memry = 4", "g.toml:3:1: unknown key \"memry\"; did you mean \"memory\"?"),
        ("[qemu]\nbois = 1", "g.toml:4:1: unknown key \"bois\"; did you mean \"bios\"?"),
        (
            "[qemu]\nsandbox = \"off\"",
            "g.toml:4:11: invalid type: string \"off\", expected a boolean",
        ),
        (
            "[qemu]\nuser = \"a b\"",
            "g.toml:4:8: expected a word of letters, digits, '.', '-' and '_', found \"a b\"",
        ),
        ("[qemu]\ncells = 0", "g.toml:4:9: expected a number from 1 to 128, found 0"),
        ("[qemu]\ndies = \"4\"", "g.toml:4:8: expected a number from 1 to 128, found \"4\""),
        (
            "[qemu]\nnetwork = \"bridge\"",
            "g.toml:4:11: unknown variant `bridge`, expected `none` or `user`",
        ),
        (
            "[[qemu.disks]]\nsize = 1",
            "g.toml:4:1: unknown key \"size\"; known here: file, format, device, bus, readonly",
        ),
        (
            "memory = \"500MB\"",
            "g.toml:3:10: expected memory as in 500 (MiB), \"8G\": a whole number above 0 with K, \
             M, G or T, found \"500MB\"; write \"500M\"",
        ),
        (
            "memory = -1",
            "g.toml:3:10: expected memory as in 500 (MiB), \"8G\": a whole number above 0 with K, \
             M, G or T, found \"-1\"",
        ),
        (
            "mode = \"bind\"",
            "g.toml:3:8: expected a memory mode: strict, preferred, preferred-many, interleave, \
             weighted-interleave, none; found \"bind\"",
        ),
        ("cpuset = \"0,^0\"", "g.toml:3:10: expected a list that is not empty, found \"0,^0\""),
        ("memory = 4", "g.toml: nothing to start: write one of command, [qemu] and [lxc]"),
        (
            "command = []",
            "g.toml:3:11: command: expected a program and its arguments, found no word",
        ),
        (
            "command = [\"a\"]\n[lxc]",
            "g.toml:4:1: a second program: keep one of command, [qemu] and [lxc]",
        ),
        ("[qemu]", "g.toml: memory is missing: a virtual machine needs it; write memory = \"2G\""),
        ("cpus = 4", "g.toml:3:1: duplicate key"),
        (
            "command = [\"a\\u0000\"]",
            "g.toml:3:12: expected text without NUL bytes, found \"a\\x00\"",
        ),
        (
            "[lxc]\ncontainer = \"a\"\nrootfs = \"/b\"",
            "g.toml:3:1: [lxc]: keep one of container and rootfs",
        ),
    ] {
        assert_eq!(read(&format!("{head}{tail}")), Err(error.to_owned()), "{tail}");
    }
    assert_eq!(
        read("cpus = 1\ncommand = [\"a\"]"),
        Err("g.toml:1:1: missing field `name`".to_owned())
    );
    assert_eq!(
        read("name = \"g\"\ncpus = 2.5\nmemory = 1\n[qemu]"),
        Err("g.toml:2:8: cpus: a machine has whole CPUs; write 3, found 2.5".to_owned())
    );
}

#[test]
fn a_file_that_is_too_long_or_nested_too_deep_is_refused() {
    let long = vec![b'#'; MAX_BYTES + 1];
    let error = parse("g.toml", &long).unwrap_err().to_string();
    assert_eq!(error, "g.toml: longer than 262144 bytes: the limit of a guest definition");
    for deep in ["[", "{a=", "a."] {
        let text = format!("name = {}", deep.repeat(MAX_BYTES / 4));
        assert!(parse("g.toml", text.as_bytes()).is_err());
    }
    let dotted = format!("{}a = 1", "a.".repeat(MAX_BYTES / 4));
    assert!(parse("g.toml", dotted.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse("g.toml", &bytes);
    }

    #[test]
    fn near_files_are_answered(
        lines in prop::collection::vec("(name|cpus|memory|mode|pages|qemu|lxc|x) ?= \
            ?[\"0-9a-zGM.{}\\[\\]-]{0,9}", 0..9)
    ) {
        let _ = parse("g.toml", lines.join("\n").as_bytes());
    }

    #[test]
    fn cut_files_are_answered(end in 0usize..samples::WHOLE.len()) {
        if let Some(cut) = samples::WHOLE.get(..end) {
            let _ = parse("g.toml", cut.as_bytes());
        }
    }
}
