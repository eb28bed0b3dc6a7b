//! What is read of a domain definition, and what is said about the rest.

use proptest::prelude::*;

use super::{MAX_BYTES, Outcome, parse, print};
use crate::definition::parse_list;
use crate::guest::*;

fn read(text: &str) -> Result<Guest, String> {
    parse("d.xml", text.as_bytes()).map(|read| read.value).map_err(|error| error.to_string())
}

fn notes(text: &str) -> Vec<String> {
    parse("d.xml", text.as_bytes()).map(|read| read.notes).unwrap()
}

/// A domain with these lines in it, each in a line of its own.
fn domain(kind: &str, lines: &str) -> String {
    format!("<domain type='{kind}'>\n<name>d</name>\n<memory>1024</memory>\n{lines}\n</domain>")
}

/// A short form of what a guest says about its place.
fn place(guest: &Guest) -> String {
    let cpus = match &guest.placement {
        CpuPlacement::All => "all".to_owned(),
        CpuPlacement::Fixed(cpus) => cpus.to_string(),
        CpuPlacement::Advised { instead_of: None } => "advised".to_owned(),
        CpuPlacement::Advised { instead_of: Some(cpus) } => format!("advised instead of {cpus}"),
    };
    let nodes = match &guest.nodes {
        NodeChoice::Advised => "advised".to_owned(),
        NodeChoice::Fixed(nodes) => nodes.to_string(),
    };
    match guest.mode {
        MemoryMode::None => format!("{cpus}; none"),
        mode => format!("{cpus}; {mode} {nodes}"),
    }
}

#[test]
fn where_a_domain_wants_to_be() {
    const ASK: &str = "<cpu required_cpus='2'/>";
    for (vcpu, numatune, wanted) in [
        ("<vcpu>4</vcpu>", "", "all; none"),
        ("<vcpu placement='static'>4</vcpu>", "", "all; none"),
        ("<vcpu cpuset='1-10,^7,^8'>4</vcpu>", "", "1-6,9-10; none"),
        ("<vcpu placement='auto'>4</vcpu>", "", "advised; strict advised"),
        // auto puts a list beside it out of use.
        ("<vcpu placement='auto' cpuset='1'>4</vcpu>", "", "advised; strict advised"),
        (
            "<vcpu placement='auto'>4</vcpu>",
            "<memory mode='interleave'/>",
            "advised; interleave advised",
        ),
        ("<vcpu placement='auto'>4</vcpu>", "<memory nodeset='0'/>", "advised; strict 0"),
        ("<vcpu placement='auto'>4</vcpu>", "<memory mode='none'/>", "advised; none"),
        // Memory by advice takes the CPUs along, unless they were named.
        ("", "<memory placement='auto'/>", "advised; strict advised"),
        ("<vcpu cpuset='3'>1</vcpu>", "<memory placement='auto'/>", "3; strict advised"),
        (
            "<vcpu placement='static' cpuset='3'>1</vcpu>",
            "<memory mode='preferred' placement='auto'/>",
            "3; preferred advised",
        ),
        ("", "<memory nodeset='1-4,^3'/>", "all; strict 1-2,4"),
        ("", "<memory placement='auto' nodeset='1'/>", "advised; strict advised"),
        (
            "",
            "<memory mode='weighted-interleave' placement='static' nodeset='1'/>",
            "all; weighted-interleave 1",
        ),
        // The proposal of 2012.
        ("<vcpu cpuset='1-3'>4</vcpu>", ASK, "advised instead of 1-3; strict advised"),
        ("", &format!("<memory mode='preferred' nodeset='2'/>{ASK}"), "advised; preferred 2"),
        ("", &format!("{ASK}<memory placement='auto'/>"), "advised; strict advised"),
    ] {
        let numatune = match numatune {
            "" => String::new(),
            inside => format!("<numatune>{inside}</numatune>"),
        };
        let text = domain("lxc", &format!("{vcpu}{numatune}"));
        assert_eq!(read(&text).map(|guest| place(&guest)).as_deref(), Ok(wanted), "{text}");
    }
}

#[test]
fn what_is_asked_for() {
    for (kind, lines, ask) in [
        ("kvm", "<vcpu current='1'>4</vcpu>", "1:1"),
        ("kvm", "<numatune><cpu required_cpus='4' required_memory='524288'/></numatune>", "4:512"),
        ("kvm", "<numatune><cpu required_memory='1023'/></numatune><vcpu>3</vcpu>", "3:1"),
        // libvirt takes the maximum of a machine, and the current memory of a container.
        ("kvm", "<currentMemory unit='b'>1</currentMemory>", "1:1"),
        ("lxc", "<currentMemory>0</currentMemory>", "1"),
    ] {
        let ask_of = |guest: Guest| guest.ask().to_string();
        assert_eq!(read(&domain(kind, lines)).map(ask_of).as_deref(), Ok(ask), "{lines}");
    }
}

#[test]
fn what_is_wrong_about_the_place_names_element_and_line() {
    for (line, error) in [
        ("<vcpu>0</vcpu>", "<vcpu>: expected at least 1 CPU, found 0"),
        ("<vcpu>four</vcpu>", "<vcpu>: expected a whole number, found \"four\""),
        ("<vcpu>99999999999</vcpu>", "<vcpu>: expected at most 65536, found \"99999999999\""),
        ("<vcpu current='5'>4</vcpu>", "<vcpu>: attribute current: expected 1 to 4, found 5"),
        (
            "<vcpu placement='any'>4</vcpu>",
            "<vcpu>: attribute placement: expected auto or static, found \"any\"",
        ),
        (
            "<vcpu cpuset='^1-2'>4</vcpu>",
            "<vcpu>: attribute cpuset: expected ^ and one number, found \"^1-2\"",
        ),
        (
            "<vcpu cpuset='0,^0'>4</vcpu>",
            "<vcpu>: attribute cpuset: expected a list with something in it, found \"0,^0\"",
        ),
        (
            "<vcpu cpusets='0'>4</vcpu>",
            "<vcpu>: unknown attribute \"cpusets\"; did you mean cpuset?",
        ),
        ("<vcpu>4<x/></vcpu>", "<x>: not understood inside <vcpu>; nothing is expected here"),
        ("<vcpu>4</vcpu><vcpu>4</vcpu>", "<vcpu>: a second one, the first is in line 4"),
        ("<numatune/><numatune/>", "<numatune>: a second one, the first is in line 4"),
        (
            "<numatune mode='strict'/>",
            "<numatune>: unknown attribute \"mode\"; nothing is expected here",
        ),
        ("<numatune>strict</numatune>", "<numatune>: expected no text, found \"strict\""),
        (
            "<numatune><memroy/></numatune>",
            "<memroy>: not understood inside <numatune>; did you mean memory?",
        ),
        (
            "<numatune><memnode cellid='0'/></numatune>",
            "<memnode>: not understood inside <numatune>: placer makes the guest's own nodes itself; remove it",
        ),
        (
            "<numatune><memory/><memory/></numatune>",
            "<memory>: a second one, the first is in line 4",
        ),
        (
            "<numatune><memory mode='strict'/></numatune>",
            "<memory>: nodeset for NUMA memory tuning must be set; write nodeset='NODES', or placement='auto' to have them advised",
        ),
        (
            "<vcpu placement='auto'>1</vcpu><numatune><memory placement='static'/></numatune>",
            "<memory>: nodeset for NUMA memory tuning must be set; write nodeset='NODES', or placement='auto' to have them advised",
        ),
        (
            "<numatune><memory mode='bind' nodeset='0'/></numatune>",
            "<memory>: attribute mode: expected a memory mode: strict, preferred, preferred-many, interleave, weighted-interleave, none; found \"bind\"",
        ),
        (
            "<numatune><memory mode='restrictive' nodeset='0'/></numatune>",
            "<memory>: attribute mode: expected strict, preferred or interleave, found \"restrictive\"; to bind all memory write strict",
        ),
        (
            "<numatune><memory nodeset='0,^0'/></numatune>",
            "<memory>: attribute nodeset: expected a list with something in it, found \"0,^0\"",
        ),
        (
            "<numatune><cpu required_cpu='4'/></numatune>",
            "<cpu>: the attribute required_cpu is called required_cpus",
        ),
        (
            "<numatune><cpu/></numatune>",
            "<cpu>: expected required_cpus or required_memory (KiB), found neither",
        ),
        (
            "<numatune><cpu required_cpus='%u'/></numatune>",
            "<cpu>: attribute required_cpus: expected a whole number, found \"%u\"",
        ),
        (
            "<numatune><cpu required_cpus='0'/></numatune>",
            "<cpu>: attribute required_cpus: expected at least 1, found 0",
        ),
        (
            "<numatune><cpu required_memory='8G'/></numatune>",
            "<cpu>: attribute required_memory: expected a whole number, found \"8G\"",
        ),
        (
            "<cputune><shares>1</shares></cputune>",
            "<shares>: not understood inside <cputune>; known here: vcpupin, emulatorpin, iothreadpin",
        ),
        (
            "<cputune><vcpupin vcpu='1' cpuset='0'/></cputune>",
            "<vcpupin>: attribute vcpu: expected 0 to 0, found 1",
        ),
        ("<cputune><vcpupin cpuset='0'/></cputune>", "<vcpupin>: the attribute vcpu is missing"),
        ("<cputune><vcpupin vcpu='0'/></cputune>", "<vcpupin>: the attribute cpuset is missing"),
        (
            "<cputune><vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='0' cpuset='0'/></cputune>",
            "<vcpupin>: a second one for vcpu 0",
        ),
        (
            "<cputune><emulatorpin cpuset='0'/><emulatorpin cpuset='0'/></cputune>",
            "<emulatorpin>: a second one: expected one",
        ),
        (
            "<cputune><iothreadpin iothread='1' cpuset='0'/></cputune>",
            "<iothreadpin>: attribute iothread: the domain has none, found 1; add <iothreads>",
        ),
        (
            "<iothreads>2</iothreads><cputune><iothreadpin iothread='0' cpuset='0'/></cputune>",
            "<iothreadpin>: attribute iothread: expected 1 to 2, found 0",
        ),
    ] {
        let found = read(&domain("kvm", line)).map(|guest| place(&guest)).unwrap_err();
        let (at, what) = found.split_once(": ").unwrap();
        assert!(at.starts_with("d.xml:4:"), "{line}: {found}");
        assert_eq!(what, error, "{line}");
    }
}

#[test]
fn what_is_wrong_elsewhere() {
    for (text, error) in [
        ("", "d.xml:1:1: expected an element, found none"),
        ("hello", "d.xml:1:1: this is no XML: unknown token, found \"hello\""),
        ("<network/>", "d.xml:1:1: <network>: expected <domain>"),
        ("<domain><name>d</name></domain>", "d.xml:1:1: <domain>: the attribute type is missing"),
        (
            "<domain type='xen'/>",
            "d.xml:1:1: <domain>: attribute type: expected kvm, qemu or lxc, found \"xen\"",
        ),
        ("<domain type='lxc'/>", "d.xml:1:1: <domain>: expected <name>, found none"),
        (
            "<domain type='lxc'><name>a/b</name></domain>",
            "d.xml:1:20: <name>: expected a name without a slash, found \"a/b\"",
        ),
        (
            "<domain type='kvm'><name>a</name></domain>",
            "d.xml:1:1: <domain>: expected <memory>, found none",
        ),
        (
            "<domain type='lxc'/><domain/>",
            "d.xml:1:21: this is no XML: unknown token, found \"<domain/>\"",
        ),
        (
            "<?xml version='1.0' encoding='latin1'?><domain/>",
            "d.xml:1:1: expected UTF-8, found encoding \"latin1\"",
        ),
        ("<domain>\n <name>", "d.xml:2:8: <name>: not closed at the end of the text"),
    ] {
        assert_eq!(read(text).map(|_| ()), Err(error.to_owned()), "{text}");
    }
    for (line, error) in [
        ("<memory>1</memory>", "<memory>: a second one, the first is in line 3"),
        (
            "<currentMemory>2048</currentMemory>",
            "<currentMemory>: expected at most <memory>, 1024 KiB, found 2048 KiB",
        ),
        (
            "<currentMemory unit='KBit'>1</currentMemory>",
            "<currentMemory>: attribute unit: expected bytes, KiB, MiB, GiB, TiB, KB, MB, ...; found \"KBit\"",
        ),
        (
            "<memoryBacking><hugepages><page size='3'/></hugepages></memoryBacking>",
            "<page>: attribute size: expected a power of two",
        ),
        ("<os><type>linux</type></os>", "<type>: expected hvm, found \"linux\""),
        ("<os><kernel>\n</kernel></os>", "<kernel>: expected text on one line, found \\n"),
        (
            "<os><type machine='pc,accel=kvm'>hvm</type></os>",
            "<type>: attribute machine: expected a word of letters, digits, '.', '-' and '_', found \"pc,accel=kvm\"",
        ),
        (
            "<devices><disk type='file'/></devices>",
            "<disk>: expected <source file='...'/>, found none",
        ),
        (
            "<devices><serial type='file'/></devices>",
            "<serial>: expected <source path='...'/>, found none",
        ),
    ] {
        let found = read(&domain("kvm", line)).map(|_| ()).unwrap_err();
        let (at, what) = found.split_once(": ").unwrap();
        assert!(at.starts_with("d.xml:4:"), "{line}: {found}");
        assert_eq!(what, error, "{line}");
    }
}

#[test]
fn a_machine() {
    let text = "<?xml version='1.0'?>
        <domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
          <name>vm</name>
          <memory unit='GiB'>2</memory>
          <memoryBacking><hugepages><page size='2' unit='M'/></hugepages></memoryBacking>
          <vcpu>2</vcpu>
          <iothreads>1</iothreads>
          <cputune>
            <vcpupin vcpu='1' cpuset='3'/><emulatorpin cpuset='0'/><iothreadpin iothread='1' cpuset='1'/>
          </cputune>
          <os>
            <type arch='x86_64' machine='q35'>hvm</type>
            <loader readonly='yes' type='pflash'>/code.fd</loader><nvram>/vars.fd</nvram>
            <kernel>/vmlinuz</kernel><initrd>/initrd</initrd><cmdline>a=&quot;b&#x26;c&quot; <![CDATA[<d>]]></cmdline>
          </os>
          <devices>
            <emulator>/usr/bin/qemu-system-x86_64</emulator>
            <disk type='file'><source file='/a.img'/><target dev='vda'/></disk>
            <disk type='file' device='cdrom'><driver type='raw'/><source file='/b.iso'/></disk>
            <disk type='file'><driver type='qcow2'/><source file='/c'/><target dev='sda' bus='sata'/><readonly/></disk>
            <serial type='unix'><source mode='bind' path='/s'/></serial>
            <console type='pty'><target type='serial'/></console>
            <interface type='user'><mac address='52:54:00:aa:BB:01'/><model type='e1000'/></interface>
          </devices>
          <qemu:commandline><qemu:arg value='-no&#10;shutdown'/></qemu:commandline>
        </domain>";
    let some = |text: &str| Some(text.to_owned());
    let disk = |file: &str, format: &str, device, bus, readonly| Disk {
        file: file.to_owned(),
        format: format.to_owned(),
        device,
        bus,
        readonly,
    };
    let qemu = Qemu {
        emulator: some("/usr/bin/qemu-system-x86_64"),
        arch: some("x86_64"),
        machine: some("q35"),
        accelerator: Accelerator::Tcg,
        firmware: Some(Firmware::Flash {
            code: "/code.fd".to_owned(),
            variables: some("/vars.fd"),
        }),
        kernel: some("/vmlinuz"),
        initrd: some("/initrd"),
        cmdline: some("a=\"b&c\" <d>"),
        disks: vec![
            disk("/a.img", "raw", DiskDevice::Disk, DiskBus::Virtio, false),
            disk("/b.iso", "raw", DiskDevice::Cdrom, DiskBus::Ide, true),
            disk("/c", "qcow2", DiskDevice::Disk, DiskBus::Ide, true),
        ],
        serials: vec![Serial::Unix("/s".to_owned())],
        network: Network::User { model: some("e1000"), mac: some("52:54:00:aa:BB:01") },
        iothreads: 1,
        args: vec!["-no\nshutdown".to_owned()],
    };
    let guest = read(text).unwrap();
    assert_eq!(guest.program, Program::Qemu(qemu));
    assert_eq!(guest.pages, Pages::Huge(placer_engine::Bytes::new(2 << 20)));
    assert_eq!(guest.pins.vcpus, [(1, parse_list("3").unwrap())].into());
    assert_eq!(guest.pins.emulator, Some(parse_list("0").unwrap()));
    assert_eq!(guest.pins.iothreads, [(1, parse_list("1").unwrap())].into());
    assert_eq!(notes(text), Vec::<String>::new());
}

#[test]
fn a_container() {
    let text = domain(
        "lxc",
        "<os><type>exe</type><init>/bin/sh</init><initarg>-c</initarg><initarg> true </initarg></os>
         <devices><filesystem type='mount'><source dir='/srv'/><target dir='/'/></filesystem>
         <console type='pty'/></devices>",
    );
    let lxc = Lxc {
        root: LxcRoot::Directory("/srv".to_owned()),
        init: Some("/bin/sh".to_owned()),
        args: vec!["-c".to_owned(), " true ".to_owned()],
        config: Vec::new(),
    };
    assert_eq!(read(&text).map(|guest| guest.program), Ok(Program::Lxc(lxc)));
}

#[test]
fn what_is_not_used_is_noted_once_by_name_and_line() {
    let text = domain(
        "kvm",
        "<features><acpi/></features>
<vcpu placement='auto' cpuset='1'>1</vcpu>
<devices>
<disk type='block'/>
<disk type='block'/>
<graphics/>
<interface type='bridge'/>
<graphics/>
</devices>
<features/>",
    );
    assert_eq!(
        notes(&text),
        [
            "d.xml:5:1: <vcpu>: placement='auto' puts the cpuset beside it out of use",
            "d.xml:7:1: <disk>: not used: only disks that are files (type='file') are",
            "d.xml:9:1: <graphics>: not used",
            "d.xml:10:1: <interface>: not used: only type='user' is",
            "d.xml:4:1: <features>: not used",
        ]
    );
    let many: String = (0..100).map(|n| format!("<x{n}/>")).collect();
    let notes = notes(&domain("kvm", &many));
    assert_eq!(notes.len(), 31);
    assert_eq!(notes.last().unwrap(), "d.xml: more elements than these are not used");
}

#[test]
fn a_text_cannot_make_more_of_itself() {
    let bomb = "<!DOCTYPE domain [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>\n<domain>&b;</domain>";
    let error = "d.xml:1:1: <!DOCTYPE>: a definition has no document type; remove it";
    assert_eq!(read(bomb), Err(error.to_owned()));
    for (line, error) in [
        ("<title>&b;</title>", "4:8: <title>: the entity \"&b;\" is not expanded; write its text"),
        (
            "<vcpu cpuset='&b;'/>",
            "4:15: <vcpu>: the entity \"&b;\" is not expanded; write its text",
        ),
        ("<a b='1'/>&b;", "4:11: <domain>: the entity \"&b;\" is not expanded; write its text"),
    ] {
        assert_eq!(read(&domain("kvm", line)), Err(format!("d.xml:{error}")));
    }
    let error = "d.xml:1:97: <a>: more than 32 elements inside each other";
    let (open, close) = ("<a>".repeat(2000), "</a>".repeat(2000));
    assert_eq!(read(&format!("{open}{close}")), Err(error.to_owned()));
    let error = "more than 30000 elements and pieces of text";
    let many = format!("<domain>{}</domain>", "<a/>".repeat(30_000));
    assert!(read(&many).unwrap_err().ends_with(error));
    assert!(read(&"<a>".repeat(MAX_BYTES / 3)).unwrap_err().ends_with(error));
    let attributes: String = (0..401).map(|n| format!(" a{n}=''")).collect();
    let error = read(&format!("<domain{attributes}/>")).unwrap_err();
    assert_eq!(error, "d.xml:1:1: more than 400 attributes in an element");
    let long = vec![b' '; MAX_BYTES + 1];
    let error = parse("d.xml", &long).unwrap_err().to_string();
    assert_eq!(error, "d.xml: longer than 1048576 bytes: no definition of a guest is");
}

#[test]
fn an_outcome_fills_in_what_was_left_to_advice_and_nothing_else() {
    let outcome = Outcome {
        cpus: parse_list("4-7").unwrap(),
        nodes: parse_list("1").unwrap(),
        pins: Pins {
            vcpus: [(0, parse_list("4").unwrap()), (1, parse_list("5").unwrap())].into(),
            ..Pins::default()
        },
    };
    let text = domain(
        "lxc",
        "<vcpu cpuset='0-1'>2</vcpu><cputune><vcpupin vcpu='1' cpuset='1'/></cputune>
         <numatune><memory nodeset='0'/></numatune>",
    );
    let guest = read(&text).unwrap();
    let printed = print(&guest, Some(&outcome)).unwrap();
    let lines = printed.lines().map(str::trim).collect::<Vec<_>>();
    assert!(lines.contains(&"<vcpu cpuset='0-1'>2</vcpu>"), "{printed}");
    assert!(lines.contains(&"<memory mode='strict' nodeset='0'/>"), "{printed}");
    assert!(lines.contains(&"<vcpupin vcpu='0' cpuset='4'/>"), "{printed}");
    assert!(lines.contains(&"<vcpupin vcpu='1' cpuset='1'/>"), "{printed}");
    // No advice and no list: all CPUs, explicitly.
    let guest = read(&domain("lxc", "")).unwrap();
    assert!(print(&guest, Some(&outcome)).unwrap().contains("<vcpu cpuset='4-7'>1</vcpu>"));
    assert!(!print(&guest, Some(&outcome)).unwrap().contains("numatune"));
}

#[test]
fn guests_that_no_domain_definition_describes() {
    let name = || "g".parse().unwrap();
    let container = LxcRoot::Container("c".to_owned());
    let bell = Lxc { init: Some("\u{7}".to_owned()), ..Lxc::default() };
    for (program, why) in [
        (Program::Command(vec!["true".into()]), "it is a command"),
        (
            Program::Lxc(Lxc { root: container, ..Lxc::default() }),
            "a container of LXC's own has its definition there",
        ),
        (Program::Lxc(bell), "it holds a character that XML cannot"),
    ] {
        let error = print(&Guest::new(name(), program), None).unwrap_err().to_string();
        assert_eq!(error, format!("guest \"g\" has no domain definition: {why}"));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse("d.xml", &bytes);
    }

    #[test]
    fn near_definitions_are_answered(
        parts in prop::collection::vec(
            "</?(domain|vcpu|numatune|memory|cpu|devices|disk|qemu:arg)|[a-z]+='[0-9^,-]*'|[<>/&;!\\[\\] ]|[0-9]+", 0..40,
        )
    ) {
        let _ = parse("d.xml", parts.join(" ").as_bytes());
        let _ = parse("d.xml", parts.concat().as_bytes());
        let _ = parse("d.xml", domain("kvm", &parts.concat()).as_bytes());
    }
}
