//! The shipped schema of what placer reads, and the reader, say the same.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says why")]

use crate::common::{invalid, read};
use needs::needs;

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
    (
        true,
        "<cpu><numa><cell memory='1'/></numa></cpu><numatune><memnode cellid='0' mode='strict' nodeset='0'/></numatune>",
    ),
    (true, "<numatune><memory mode='interleave' nodeset='0-1'/></numatune>"),
    (false, "<numatune><memory mode='bind' nodeset='0-1'/></numatune>"),
    (true, "<numatune><memory mode='restrictive' nodeset='0-1'/></numatune>"),
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
    (
        true,
        "<cputune><shares>1</shares><vcpusched vcpus='0' scheduler='fifo' priority='1'/></cputune>",
    ),
    (false, "<cputune><share>1</share></cputune>"),
    (false, "<cputune><emulatorpin cpuset='0'/><emulatorpin cpuset='0'/></cputune>"),
    (true, "<uuid>1</uuid><cpu mode='host'/><os><boot dev='hd'/></os><devices><video/></devices>"),
];

fn domain(place: &str) -> String {
    format!("<domain type='lxc'><name>d</name>{place}</domain>")
}

#[test]
fn the_reader_takes_each_place_that_is_right() {
    for &(taken, place) in PLACES {
        let found = read(&domain(place));
        assert_eq!(found.is_ok(), taken, "{place}: {found:?}");
    }
}

#[needs(xmllint)]
#[test]
fn the_schema_takes_each_place_that_is_right() {
    for &(taken, place) in PLACES {
        let complaint = invalid(&domain(place));
        assert_eq!(complaint.is_none(), taken, "{place}: {complaint:?}");
    }
}
