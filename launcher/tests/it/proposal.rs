//! The proposal of 2012 that wanted advice in guest definitions had ten defects. Here are those of
//! its definitions; those of its launches are tested where guests are launched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says why")]

use std::time::Duration;

use crate::common::{invalid, read};
use needs::needs;
use placer_engine::{Advice, Request, Snapshot, SysRoot, advise};
use placer_launcher::domain::{Domain, Options, Placement};

/// The proposal's own example, in a guest with CPUs of its own.
const EXAMPLE: &str = r#"<domain type="qemu">
  <name>QEMUGuest1</name>
  <memory>1048576</memory>
  <vcpu cpuset="1-10,^7,^8">4</vcpu>
  <numatune>
    <memory mode="strict" nodeset="1-2,^1"/>
    <cpu required_cpus="4" required_memory="524288"/>
  </numatune>
</domain>"#;

fn host() -> Snapshot {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../sysfs-fixtures/ring-4");
    Snapshot::take(&SysRoot::at(dir), Duration::ZERO).unwrap()
}

/// What is asked for a definition, as numad would be asked.
fn ask(text: &str) -> String {
    let ask = read(text).unwrap().asks(&host(), None).unwrap().remove(0);
    match ask.memory.get() {
        0 => ask.cpus.to_string(),
        _ => format!("{}:{}", ask.cpus, ask.memory.mib_rounded_up()),
    }
}

fn advice(cpus_and_memory: &str) -> Advice {
    advise(&host(), &cpus_and_memory.parse::<Request>().unwrap()).unwrap()
}

fn placed(domain: &Domain) -> String {
    let placement = Placement::of(domain, &host(), &advice("2:100"), &Options::default()).unwrap();
    String::from_utf8(domain.placed(&placement)).unwrap()
}

#[test]
fn the_example_means_what_the_proposal_says() {
    assert_eq!(ask(EXAMPLE), "4:512");
    let asks = read(EXAMPLE).unwrap().asks(&host(), None).unwrap();
    assert_eq!(asks[0].within.as_ref().map(ToString::to_string).as_deref(), Some("2"));
    assert_eq!(asks[0].allowed, None);
}

/// Advice `1` named node 1, and was printed and used as CPU 1.
#[test]
fn defect_1_the_printed_cpuset_is_of_cpus_not_of_nodes() {
    let advice = advice("2:100");
    assert_ne!(advice.cpus.to_string(), advice.nodes.to_string());
    let printed = placed(&read(EXAMPLE).unwrap());
    let vcpu = format!("<vcpu cpuset=\"{}\">4</vcpu>", advice.cpus);
    assert!(printed.contains(&vcpu), "{printed}");
}

/// It passed a literal `%u` where no memory was required.
#[test]
fn defect_2_without_required_memory_the_request_is_whole() {
    // The guest's own memory is what has to find room.
    assert_eq!(ask(&EXAMPLE.replace(" required_memory=\"524288\"", "")), "4:1024");
    let container = "<domain type='lxc'><name>c</name>
        <numatune><cpu required_cpus='4'/></numatune></domain>";
    assert_eq!(ask(container), "4");
    let only_memory = EXAMPLE.replace("required_cpus=\"4\" ", "").replace(">4<", ">3<");
    assert_eq!(ask(&only_memory), "3:512");
}

/// Its schema wanted `required_cpu`, its parser `required_cpus`.
#[test]
fn defect_3_the_documented_attribute_is_read() {
    let schemas = EXAMPLE.replace("required_cpus", "required_cpu");
    assert_eq!(
        read(&schemas).map(|_| ()).unwrap_err(),
        "d.xml:7:5: <cpu>: the attribute required_cpu is called required_cpus"
    );
}

#[needs(xmllint)]
#[test]
fn defect_3_the_documented_attribute_validates() {
    assert_eq!(invalid(EXAMPLE), None);
    assert!(invalid(&EXAMPLE.replace("required_cpus", "required_cpu")).is_some());
}

/// `<cpu ...` stayed open without memory, an attribute stood alone without CPUs, and without a
/// nodeset nothing was printed.
#[test]
fn defect_4_every_form_prints_and_reads_back() {
    for (ask, printed) in printed_forms() {
        // As its user wrote it.
        assert_eq!(printed.matches("<cpu ").count(), usize::from(!ask.is_empty()), "{printed}");
        assert!(printed.contains(ask), "{printed}");
        assert!(printed.contains("nodeset='"), "{printed}");
        assert!(read(&printed).is_ok(), "{printed}");
    }
}

#[needs(xmllint)]
#[test]
fn defect_4_every_form_printed_validates() {
    for (_, printed) in printed_forms() {
        assert_eq!(invalid(&printed), None, "{printed}");
    }
}

/// Returns every form of a question about the place, and what is printed for it.
fn printed_forms() -> Vec<(&'static str, String)> {
    let memories = [
        "",
        "<memory mode='preferred' nodeset='1'/>",
        "<memory placement='auto'/>",
        "<memory mode='interleave' placement='auto'/>",
    ];
    let asks = [
        "",
        "<cpu required_cpus='4'/>",
        "<cpu required_memory='1023'/>",
        "<cpu required_memory='7' required_cpus='4'/>",
    ];
    let form = |memory: &str, ask| {
        let text =
            format!("<domain type='lxc'><name>c</name><numatune>{memory}{ask}</numatune></domain>");
        (ask, placed(&read(&text).unwrap()))
    };
    memories.iter().flat_map(|memory| asks.map(|ask| form(memory, ask))).collect()
}

/// What a launch found out overwrote what the user had written. (That the advice is seen at all,
/// the other half, is tested where guests are launched.)
#[test]
fn defect_5_the_users_own_cpuset_outlives_a_launch() {
    let domain = read(EXAMPLE).unwrap();
    let first = placed(&domain);
    assert!(!first.contains("1-10"), "{first}");
    // The definition itself is as it was: the next launch asks again, and says the same.
    assert_eq!(placed(&domain), first);
    // What was printed asks again too.
    assert_eq!(ask(&first), "4:512");
}

/// 1023 KiB became 0 MiB, and 524288 KiB were 500 MB in the text and 512 in the code.
#[test]
fn defect_7_kib_become_mib_rounded_up() {
    for (kib, mib) in [(1, "4:1"), (1023, "4:1"), (1024, "4:1"), (1025, "4:2"), (524_288, "4:512")]
    {
        assert_eq!(ask(&EXAMPLE.replace("524288", &kib.to_string())), mib, "{kib} KiB");
    }
    let text = EXAMPLE.replace(" required_memory=\"524288\"", "").replace("1048576", "70000");
    assert_eq!(ask(&text), "4:69");
}

#[test]
fn what_is_asked_for() {
    for (kind, lines, wanted) in [
        ("kvm", "<vcpu current='1'>4</vcpu>", "1:1"),
        ("kvm", "<numatune><cpu required_cpus='4' required_memory='524288'/></numatune>", "4:512"),
        ("kvm", "<numatune><cpu required_memory='1023'/></numatune><vcpu>3</vcpu>", "3:1"),
        // libvirt takes the maximum of a machine, and the current memory of a container.
        ("kvm", "<currentMemory unit='b'>1</currentMemory>", "1:1"),
        ("lxc", "<currentMemory>0</currentMemory>", "1"),
        // Of a guest with cells it takes their sum, and that of its memory devices.
        (
            "kvm",
            "<cpu><numa><cell memory='2' unit='MiB'/></numa></cpu>
             <devices><memory model='dimm'><target><size unit='MiB'>3</size></target></memory></devices>",
            "1:5",
        ),
    ] {
        let text = format!("<domain type='{kind}'><name>d</name><memory>1024</memory>{lines}</domain>");
        assert_eq!(ask(&text), wanted, "{lines}");
    }
}
