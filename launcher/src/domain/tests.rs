//! What is read of a domain definition, and what is said about the rest.

mod place;
mod program;

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
    fn cut_and_damaged_definitions_are_answered(
        end in 0..=program::MACHINE.len(),
        damage in prop::collection::vec((any::<usize>(), "[<>/&;'= ]|\\PC"), 0..4),
    ) {
        let mut bytes = program::MACHINE.as_bytes()[..end].to_vec();
        for (at, piece) in damage {
            let at = at % (bytes.len() + 1);
            bytes.splice(at..at, piece.bytes());
        }
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
