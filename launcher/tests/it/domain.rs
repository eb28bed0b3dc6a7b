//! Domain definitions from end to end: what is printed reads back as the same guest, and validates
//! against the schema that is shipped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says why")]

use crate::common;

use common::{guests, have_xmllint, invalid, read};
use placer_engine::CpuSet;
use placer_launcher::domain::print;
use placer_launcher::guest::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_printed_definition_reads_back_as_the_same_guest(guest in guests::guest()) {
        let text = print(&guest, None).unwrap();
        prop_assert_eq!(read(&text), Ok(guest), "{}", text);
    }

    /// An outcome changes the place alone, and leaves nothing of it to advice but what a launch of
    /// the proposal's kind asks for anew.
    #[test]
    fn an_outcome_makes_the_place_a_fixed_one(
        guest in guests::guest(),
        outcome in guests::outcome(),
    ) {
        let before = guest.clone();
        let text = print(&guest, Some(&outcome)).unwrap();
        prop_assert_eq!(&guest, &before);
        let filled = read(&text).unwrap();
        let cpus: CpuSet = match (&guest.placement, &filled.placement) {
            (CpuPlacement::Fixed(own), CpuPlacement::Fixed(cpus)) => {
                prop_assert_eq!(own, cpus);
                cpus.clone()
            }
            (_, CpuPlacement::Fixed(cpus)) => cpus.clone(),
            (CpuPlacement::Advised { .. }, CpuPlacement::Advised { instead_of: Some(cpus) }) => {
                prop_assert_eq!(guest.required, filled.required);
                cpus.clone()
            }
            (_, other) => panic!("{other:?}\n{text}"),
        };
        if !matches!(guest.placement, CpuPlacement::Fixed(_)) {
            prop_assert_eq!(cpus, outcome.cpus);
        }
        prop_assert_eq!(filled.mode, guest.mode);
        if guest.mode != MemoryMode::None {
            let nodes = match &guest.nodes {
                NodeChoice::Advised => NodeChoice::Fixed(outcome.nodes),
                fixed => fixed.clone(),
            };
            prop_assert_eq!(&filled.nodes, &nodes);
        }
        prop_assert_eq!(filled.program, guest.program);
    }
}

#[test]
fn printed_definitions_validate() {
    if !have_xmllint("printed_definitions_validate") {
        return;
    }
    let config = ProptestConfig { cases: 60, ..ProptestConfig::default() };
    proptest!(config, |(guest in guests::guest(), outcome in guests::outcome())| {
        for outcome in [None, Some(&outcome)] {
            let text = print(&guest, outcome).unwrap();
            prop_assert_eq!(invalid(&text), None, "{}", text);
        }
    });
}

/// Elements about the place: whether they are taken, by the reader and by the schema.
const PLACES: &[(bool, &str)] = &[
    (true, ""),
    (true, "<vcpu placement='auto' cpuset='1-3,^2' current='1'>2</vcpu>"),
    (false, "<vcpu place='auto'>2</vcpu>"),
    (false, "<vcpu placement='any'>2</vcpu>"),
    (false, "<vcpu cpuset='^1-2'>2</vcpu>"),
    (false, "<vcpu cpuset='1,'>2</vcpu>"),
    (false, "<vcpu cpuset=''>2</vcpu>"),
    (false, "<vcpu>0</vcpu>"),
    (false, "<vcpu>65537</vcpu>"),
    (false, "<vcpu><x/>1</vcpu>"),
    (false, "<vcpu>1</vcpu><vcpu>1</vcpu>"),
    (true, "<numatune/>"),
    (false, "<numatune/><numatune/>"),
    (false, "<numatune>x</numatune>"),
    (false, "<numatune><memnode cellid='0'/></numatune>"),
    (true, "<numatune><memory mode='interleave' nodeset='0-1'/></numatune>"),
    (false, "<numatune><memory mode='bind' nodeset='0-1'/></numatune>"),
    (false, "<numatune><memory mode='restrictive' nodeset='0-1'/></numatune>"),
    (false, "<numatune><memory nodeset='0'/><memory nodeset='0'/></numatune>"),
    (false, "<numatune><memory nodeset='0'>x</memory></numatune>"),
    (true, "<numatune><cpu required_cpus='4'/><memory placement='auto'/></numatune>"),
    (true, "<numatune><cpu required_memory='4'/></numatune>"),
    (true, "<numatune><cpu required_cpus='4' required_memory='524288'/></numatune>"),
    (false, "<numatune><cpu required_cpu='4'/></numatune>"),
    (false, "<numatune><cpu required_cpus='x'/></numatune>"),
    (false, "<numatune><cpu required_memory='0'/></numatune>"),
    (false, "<numatune><cpu/></numatune>"),
    (true, "<vcpu>2</vcpu><cputune><vcpupin vcpu='1' cpuset='0'/></cputune>"),
    (false, "<cputune><vcpupin vcpu='0'/></cputune>"),
    (false, "<cputune><shares>1</shares></cputune>"),
    (false, "<cputune><emulatorpin cpuset='0'/><emulatorpin cpuset='0'/></cputune>"),
    (true, "<uuid>1</uuid><cpu mode='host'/><os><boot dev='hd'/></os><devices><video/></devices>"),
];

#[test]
fn schema_and_reader_agree_about_the_place() {
    let schema = have_xmllint("the schema's half of schema_and_reader_agree_about_the_place");
    for &(taken, place) in PLACES {
        let text = format!("<domain type='lxc'><name>d</name>{place}</domain>");
        let found = read(&text);
        assert_eq!(found.is_ok(), taken, "{place}: {found:?}");
        if schema {
            let complaint = invalid(&text);
            assert_eq!(complaint.is_none(), taken, "{place}: {complaint:?}");
        }
    }
}
