//! The proposal of 2012 that wanted advice in guest definitions had ten defects. Here are those of
//! its definitions; those of its launches are tested where guests are launched.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says why")]

use crate::common;

use common::{have_xmllint, invalid, read};
use placer_engine::{CpuSet, NodeSet};
use placer_launcher::definition::parse_list;
use placer_launcher::domain::{Outcome, print};
use placer_launcher::guest::{CpuPlacement, MemoryMode, NodeChoice};

/// The proposal's own example, in a guest with CPUs of its own.
const EXAMPLE: &str = r#"<domain type="qemu">
  <name>QEMUGuest1</name>
  <memory>1048576</memory>
  <vcpu cpuset="1-10,^7,^8">4</vcpu>
  <numatune>
    <memory mode="strict" nodeset="1-4,^3"/>
    <cpu required_cpus="4" required_memory="524288"/>
  </numatune>
</domain>"#;

fn cpus(list: &str) -> CpuSet {
    parse_list(list).unwrap()
}

fn nodes(list: &str) -> NodeSet {
    parse_list(list).unwrap()
}

fn outcome() -> Outcome {
    Outcome { cpus: cpus("4-7"), nodes: nodes("1"), ..Outcome::default() }
}

/// The lines of a printed definition, without what is before them.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).collect()
}

#[test]
fn the_example_means_what_the_proposal_says() {
    let guest = read(EXAMPLE).unwrap();
    assert_eq!(guest.ask().to_string(), "4:512");
    assert_eq!(guest.placement, CpuPlacement::Advised { instead_of: Some(cpus("1-6,9-10")) });
    assert_eq!(guest.mode, MemoryMode::Strict);
    assert_eq!(guest.nodes, NodeChoice::Fixed(nodes("1-2,4")));
}

/// Advice `1` named node 1, and was printed and used as CPU 1.
#[test]
fn defect_1_the_printed_cpuset_is_of_cpus_not_of_nodes() {
    let guest = read(EXAMPLE).unwrap();
    // The types hold it too: an outcome's `cpus` takes no set of nodes.
    let printed = print(&guest, Some(&outcome())).unwrap();
    assert!(lines(&printed).contains(&"<vcpu cpuset='4-7'>4</vcpu>"), "{printed}");
}

/// It passed a literal `%u` where no memory was required.
#[test]
fn defect_2_without_required_memory_the_request_is_whole() {
    let text = EXAMPLE.replace(" required_memory=\"524288\"", "");
    let guest = read(&text).unwrap();
    assert_eq!(guest.required.memory, None);
    // The guest's own memory is what has to find room.
    assert_eq!(guest.ask().to_string(), "4:1024");
    let container = "<domain type='lxc'><name>c</name>
        <numatune><cpu required_cpus='4'/></numatune></domain>";
    assert_eq!(read(container).unwrap().ask().to_string(), "4");
    let only_memory = EXAMPLE.replace("required_cpus=\"4\" ", "").replace(">4<", ">3<");
    assert_eq!(read(&only_memory).unwrap().ask().to_string(), "3:512");
}

/// Its schema wanted `required_cpu`, its parser `required_cpus`.
#[test]
fn defect_3_the_documented_attribute_validates() {
    let schemas = EXAMPLE.replace("required_cpus", "required_cpu");
    assert_eq!(
        read(&schemas).unwrap_err(),
        "d.xml:7:5: <cpu>: the attribute required_cpu is called required_cpus"
    );
    if have_xmllint("the schema's half of defect_3_the_documented_attribute_validates") {
        assert_eq!(invalid(EXAMPLE), None);
        assert!(invalid(&schemas).is_some());
    }
}

/// `<cpu ...` stayed open without memory, an attribute stood alone without CPUs, and without a
/// nodeset nothing was printed.
#[test]
fn defect_4_every_form_prints_and_reads_back() {
    let schema = have_xmllint("the schema's half of defect_4_every_form_prints_and_reads_back");
    let memories = [
        "",
        "<memory mode='preferred' nodeset='1'/>",
        "<memory placement='auto'/>",
        "<memory mode='interleave' placement='auto'/>",
    ];
    let asks = [
        ("", ""),
        ("<cpu required_cpus='4'/>", "<cpu required_cpus='4'/>"),
        ("<cpu required_memory='1023'/>", "<cpu required_memory='1023'/>"),
        (
            "<cpu required_memory='7' required_cpus='4'/>",
            "<cpu required_cpus='4' required_memory='7'/>",
        ),
    ];
    for memory in memories {
        for (ask, printed) in asks {
            let text = format!(
                "<domain type='lxc'><name>c</name><numatune>{memory}{ask}</numatune></domain>"
            );
            let guest = read(&text).unwrap();
            for outcome in [None, Some(&outcome())] {
                let text = print(&guest, outcome).unwrap();
                assert_eq!(text.matches("<cpu ").count(), usize::from(!ask.is_empty()), "{text}");
                assert!(ask.is_empty() || lines(&text).contains(&printed), "{text}");
                let again = read(&text);
                assert!(again.is_ok(), "{text}\n{again:?}");
                if outcome.is_none() {
                    assert_eq!(again.as_ref(), Ok(&guest), "{text}");
                }
                assert!(!schema || invalid(&text).is_none(), "{:?}", invalid(&text));
            }
        }
    }
}

/// What a launch found out overwrote what the user had written. (That the advice is seen at all,
/// the other half, is tested where guests are launched.)
#[test]
fn defect_5_the_users_own_cpuset_outlives_a_launch() {
    let guest = read(EXAMPLE).unwrap();
    let before = guest.clone();
    assert!(print(&guest, Some(&outcome())).unwrap().contains("cpuset='4-7'"));
    assert_eq!(guest, before);
    let stored = print(&guest, None).unwrap();
    assert!(lines(&stored).contains(&"<vcpu cpuset='1-6,9-10'>4</vcpu>"), "{stored}");
    assert_eq!(read(&stored), Ok(guest));
}

/// 1023 KiB became 0 MiB, and 524288 KiB were 500 MB in the text and 512 in the code.
#[test]
fn defect_7_kib_become_mib_rounded_up() {
    for (kib, mib) in [(1, "4:1"), (1023, "4:1"), (1024, "4:1"), (1025, "4:2"), (524_288, "4:512")]
    {
        let text = EXAMPLE.replace("524288", &kib.to_string());
        assert_eq!(read(&text).unwrap().ask().to_string(), mib, "{kib} KiB");
    }
    let text = EXAMPLE.replace(" required_memory=\"524288\"", "").replace("1048576", "70000");
    assert_eq!(read(&text).unwrap().ask().to_string(), "4:69");
}
