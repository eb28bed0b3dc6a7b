//! What is read of a domain definition, and what is said about the rest.

mod place;

use proptest::prelude::*;

use super::{Domain, MAX_BYTES};

fn read(text: &str) -> Result<Domain, String> {
    Domain::parse("d.xml", text.as_bytes())
        .map(|read| read.value)
        .map_err(|error| error.to_string())
}

fn error(text: &str) -> String {
    read(text).map(|_| ()).unwrap_err()
}

fn notes(text: &str) -> Vec<String> {
    Domain::parse("d.xml", text.as_bytes()).map(|read| read.notes).unwrap()
}

/// A domain with these lines in it, each in a line of its own.
fn domain(kind: &str, lines: &str) -> String {
    format!("<domain type='{kind}'>\n<name>d</name>\n<memory>1024</memory>\n{lines}\n</domain>")
}

#[test]
fn what_is_wrong_elsewhere() {
    for (text, error) in [
        ("", "d.xml:1:1: expected an element, found none"),
        ("hello", "d.xml:1:1: not well-formed XML: unknown token, found \"hello\""),
        ("<network/>", "d.xml:1:1: <network>: expected <domain>"),
        ("<domain><name>d</name></domain>", "d.xml:1:1: <domain>: the attribute type is missing"),
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
            "d.xml:1:21: not well-formed XML: unknown token, found \"<domain/>\"",
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
            "<currentMemory unit='KBit'>1</currentMemory>",
            "<currentMemory>: attribute unit: expected bytes, KiB, MiB, GiB, TiB, KB, MB, ...; \
             found \"KBit\"",
        ),
        (
            "<memoryBacking><hugepages><page size='3'/></hugepages></memoryBacking>",
            "<page>: attribute size: expected a power of two",
        ),
        (
            "<cpu><numa><cell memory='1'/><cell id='0' memory='1'/></numa></cpu>",
            "<cell>: a second one with id 0",
        ),
        (
            "<cpu><numa><cell cpus='0-1048575' memory='1'/></numa></cpu>",
            "<cell>: attribute cpus: the guest has 1 vCPUs, found vCPU 1048575",
        ),
        ("<cpu><numa><cell/></numa></cpu>", "<cell>: the attribute memory is missing"),
        (
            "<iothreads>1</iothreads><iothreadids><iothread id='0'/></iothreadids>",
            "<iothread>: attribute id: expected at least 1, found 0",
        ),
        (
            "<devices><hostdev type='pci'><source><address \
             bus='0x100'/></source></hostdev></devices>",
            "<address>: attribute bus: expected a number up to 0xff, found \"0x100\"",
        ),
    ] {
        let found = read(&domain("kvm", line)).map(|_| ()).unwrap_err();
        let (at, what) = found.split_once(": ").unwrap();
        assert!(at.starts_with("d.xml:4:"), "{line}: {found}");
        assert_eq!(what, error, "{line}");
    }
}

#[test]
fn a_text_cannot_make_more_of_itself() {
    let bomb = "<!DOCTYPE domain [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>\n<domain>&b;</domain>";
    let error = "d.xml:1:1: <!DOCTYPE>: a definition has no document type; remove it";
    assert_eq!(self::error(bomb), error);
    for (line, error) in [
        ("<title>&b;</title>", "4:8: <title>: the entity \"&b;\" is not expanded; write its text"),
        (
            "<vcpu cpuset='&b;'/>",
            "4:15: <vcpu>: the entity \"&b;\" is not expanded; write its text",
        ),
        ("<a b='1'/>&b;", "4:11: <domain>: the entity \"&b;\" is not expanded; write its text"),
    ] {
        assert_eq!(self::error(&domain("kvm", line)), format!("d.xml:{error}"));
    }
    let error = "d.xml:1:97: <a>: more than 32 elements inside each other";
    let (open, close) = ("<a>".repeat(2000), "</a>".repeat(2000));
    assert_eq!(self::error(&format!("{open}{close}")), error);
    let error = "more than 30000 elements and pieces of text";
    let many = format!("<domain>{}</domain>", "<a/>".repeat(30_000));
    assert!(self::error(&many).ends_with(error));
    assert!(self::error(&"<a>".repeat(MAX_BYTES / 3)).ends_with(error));
    let attributes: String = (0..401).map(|n| format!(" a{n}=''")).collect();
    let error = self::error(&format!("<domain{attributes}/>"));
    assert_eq!(error, "d.xml:1:1: more than 400 attributes in an element");
    let long = vec![b' '; MAX_BYTES + 1];
    let error = Domain::parse("d.xml", &long).unwrap_err().to_string();
    assert_eq!(error, "d.xml: longer than 1048576 bytes: the limit of a guest definition");
}

#[test]
fn an_encoding_that_holds_ascii_is_read_where_the_text_is_ascii() {
    let text = |name: &str, title: &str| {
        let domain = domain("lxc", &format!("<title>{title}</title>"));
        format!("<?xml version='1.0' encoding='{name}'?>\n{domain}")
    };
    assert!(read(&text("ISO-8859-1", "plain")).is_ok());
    assert!(read(&text("utf-8", "d\u{e4}")).is_ok());
    let found = error(&text("ISO-8859-1", "d\u{e4}"));
    assert_eq!(found, "d.xml:1:1: expected UTF-8, found encoding \"ISO-8859-1\"");
    assert!(read(&text("UTF-16", "plain")).is_err());
}

#[test]
fn what_is_put_out_of_use_is_noted_by_name_and_line() {
    let text = domain(
        "kvm",
        "<vcpu placement='auto' cpuset='1'>1</vcpu>
<cputune><vcpupin vcpu='7' cpuset='0'/></cputune>
<numatune><memory placement='auto' nodeset='0'/></numatune>",
    );
    assert_eq!(
        notes(&text),
        [
            "d.xml:4:1: <vcpu>: placement='auto' puts the cpuset beside it out of use",
            "d.xml:5:10: <vcpupin>: not used: the guest has no vCPU 7",
            "d.xml:6:11: <memory>: placement='auto' puts the nodeset beside it out of use",
        ]
    );
}

#[test]
fn iothreads_that_are_not_listed_get_the_lowest_free_ids() {
    let ids = "<iothreadids><iothread id='2'/><iothread id='6'/></iothreadids>";
    for (count, wanted) in [(0, vec![2, 6]), (2, vec![2, 6]), (4, vec![1, 2, 3, 6])] {
        let text = domain("kvm", &format!("<iothreads>{count}</iothreads>{ids}"));
        let found: Vec<u32> = read(&text).unwrap().iothreads().iter().copied().collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn devices_of_the_host_are_named_as_the_kernel_names_them() {
    let text = domain(
        "kvm",
        "<devices>
<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='0x41' slot='2' function='1'/></source></hostdev>
<interface type='hostdev'><source><address bus='0x03' slot='0x10'/></source></interface>
<interface type='direct'><source dev='eth2' mode='bridge'/></interface>
<interface type='bridge'><source bridge='br0'/></interface>
<hostdev mode='subsystem' type='usb'><source><address bus='1' device='2'/></source></hostdev>
</devices>",
    );
    assert_eq!(read(&text).unwrap().devices(), ["0000:41:02.1", "0000:03:10.0", "eth2"]);
}

const MACHINE: &str = "<domain type='kvm'><name>m</name><memory unit='GiB'>1</memory>
<vcpu placement='static' current='2'>4</vcpu><iothreads>1</iothreads>
<cputune><shares>9</shares><vcpupin vcpu='1' cpuset='0-3,^2'/><iothreadpin iothread='1' cpuset='4'/></cputune>
<numatune><memory mode='strict' nodeset='0'/><memnode cellid='1' mode='strict' nodeset='1'/></numatune>
<memoryBacking><hugepages><page size='2' unit='M' nodeset='1'/></hugepages></memoryBacking>
<cpu><numa><cell cpus='0-1' memory='9'/><cell cpus='2-3' memory='9' unit='MiB'/></numa></cpu>
<devices><hostdev type='pci'><source><address bus='0x41'/></source></hostdev></devices></domain>";

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Domain::parse("d.xml", &bytes);
    }

    #[test]
    fn cut_and_damaged_definitions_are_answered(
        end in 0..=MACHINE.len(),
        damage in prop::collection::vec((any::<usize>(), "[<>/&;'= ]|\\PC"), 0..4),
    ) {
        let mut bytes = MACHINE.as_bytes()[..end].to_vec();
        for (at, piece) in damage {
            let at = at % (bytes.len() + 1);
            bytes.splice(at..at, piece.bytes());
        }
        let _ = Domain::parse("d.xml", &bytes);
    }

    #[test]
    fn near_definitions_are_answered(
        parts in prop::collection::vec(
            "</?(domain|vcpu|numatune|memory|cpu|devices|disk|qemu:arg)|[a-z]+='[0-9^,-]*'|[<>/&;!\\[\\] ]|[0-9]+", 0..40,
        )
    ) {
        let _ = read(&parts.join(" "));
        let _ = read(&parts.concat());
        let _ = read(&domain("kvm", &parts.concat()));
    }
}
