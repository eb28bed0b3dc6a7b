//! `<vcpu>`, `<numatune>`, `<cputune>`: what they mean together, and what is wrong with them.

use super::{domain, read};
use crate::domain::Domain;
use crate::guest::NodeChoice;

/// A short form of what a definition fixes.
fn place(domain: &Domain) -> String {
    let cpus = match &domain.place.cpuset {
        Some(cpus) => cpus.to_string(),
        None => "advised".to_owned(),
    };
    match &domain.place.memory {
        None => cpus,
        Some((mode, NodeChoice::Advised)) => format!("{cpus}; {mode} advised"),
        Some((mode, NodeChoice::Fixed(nodes))) => format!("{cpus}; {mode} {nodes}"),
    }
}

#[test]
fn where_a_domain_wants_to_be() {
    const ASK: &str = "<cpu required_cpus='2'/>";
    for (vcpu, numatune, wanted) in [
        ("<vcpu>4</vcpu>", "", "advised"),
        ("<vcpu placement='static'>4</vcpu>", "", "advised"),
        ("<vcpu cpuset='1-10,^7,^8'>4</vcpu>", "", "1-6,9-10"),
        ("<vcpu placement='auto'>4</vcpu>", "", "advised"),
        // auto puts a list beside it out of use.
        ("<vcpu placement='auto' cpuset='1'>4</vcpu>", "", "advised"),
        (
            "<vcpu placement='auto'>4</vcpu>",
            "<memory mode='interleave'/>",
            "advised; interleave advised",
        ),
        ("<vcpu placement='auto'>4</vcpu>", "<memory nodeset='0'/>", "advised; strict 0"),
        ("", "<memory placement='auto'/>", "advised; strict advised"),
        ("<vcpu cpuset='3'>1</vcpu>", "<memory placement='auto'/>", "3; strict advised"),
        (
            "<vcpu placement='static' cpuset='3'>1</vcpu>",
            "<memory mode='preferred' placement='auto'/>",
            "3; preferred advised",
        ),
        ("", "<memory nodeset='1-4,^3'/>", "advised; strict 1-2,4"),
        ("", "<memory placement='auto' nodeset='1'/>", "advised; strict advised"),
        ("", "<memory mode='restrictive' nodeset='1'/>", "advised; restrictive 1"),
        // The proposal of 2012.
        ("<vcpu cpuset='1-3'>4</vcpu>", ASK, "advised"),
        ("", &format!("<memory mode='preferred' nodeset='2'/>{ASK}"), "advised; preferred 2"),
        ("", &format!("{ASK}<memory placement='auto'/>"), "advised; strict advised"),
    ] {
        let numatune = match numatune {
            "" => String::new(),
            inside => format!("<numatune>{inside}</numatune>"),
        };
        let text = domain("lxc", &format!("{vcpu}{numatune}"));
        assert_eq!(read(&text).map(|domain| place(&domain)).as_deref(), Ok(wanted), "{text}");
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
            "<vcpu>: attribute cpuset: expected a list that is not empty, found \"0,^0\"",
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
            "<numatune><memnode cellid='0' nodeset='0'/></numatune>",
            "<memnode>: attribute cellid: the guest has no NUMA cell 0",
        ),
        (
            "<cpu><numa><cell memory='1'/></numa></cpu><numatune><memnode cellid='0'/></numatune>",
            "<memnode>: the attribute nodeset is missing",
        ),
        (
            "<cpu><numa><cell memory='1'/></numa></cpu><numatune><memnode cellid='0' \
             nodeset='0'/><memnode cellid='0' nodeset='0'/></numatune>",
            "<memnode>: a second one for cell 0",
        ),
        (
            "<numatune><memory/><memory/></numatune>",
            "<memory>: a second one, the first is in line 4",
        ),
        (
            "<numatune><memory mode='strict'/></numatune>",
            "<memory>: nodeset for NUMA memory tuning must be set; write nodeset='NODES', or \
             placement='auto' to have them advised",
        ),
        (
            "<vcpu placement='auto'>1</vcpu><numatune><memory placement='static'/></numatune>",
            "<memory>: nodeset for NUMA memory tuning must be set; write nodeset='NODES', or \
             placement='auto' to have them advised",
        ),
        (
            "<numatune><memory mode='bind' nodeset='0'/></numatune>",
            "<memory>: attribute mode: expected strict, preferred, interleave or restrictive, \
             found \"bind\"",
        ),
        (
            "<numatune><memory nodeset='0,^0'/></numatune>",
            "<memory>: attribute nodeset: expected a list that is not empty, found \"0,^0\"",
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
            "<cputune><vcpupins/></cputune>",
            "<vcpupins>: not understood inside <cputune>; did you mean vcpupin?",
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
            "<iothreads>2</iothreads><cputune><iothreadpin iothread='3' cpuset='0'/></cputune>",
            "<iothreadpin>: attribute iothread: the guest has no I/O thread 3",
        ),
    ] {
        let found = super::error(&domain("kvm", line));
        let (at, what) = found.split_once(": ").unwrap();
        assert!(at.starts_with("d.xml:4:"), "{line}: {found}");
        assert_eq!(what, error, "{line}");
    }
}

#[test]
fn dies_of_a_topology_are_read() {
    for (topology, die) in [
        ("", None),
        ("<cpu/>", None),
        ("<cpu><topology sockets='8' cores='1' threads='1'/></cpu>", None),
        ("<cpu><topology sockets='1' dies='2' cores='4' threads='1'/></cpu>", Some(4)),
        ("<cpu><topology sockets='2' cores='2' threads='2'/></cpu>", Some(4)),
        ("<cpu><topology dies='2' clusters='2' cores='2'/></cpu>", Some(4)),
        // What libvirt refuses.
        ("<cpu><topology dies='2' cores='many'/></cpu>", None),
    ] {
        let text = domain("kvm", &format!("<vcpu>8</vcpu>{topology}"));
        assert_eq!(read(&text).expect("a domain").sizes.die, die, "{topology}");
    }
}

#[test]
fn a_guest_pinned_over_caches_is_shown_the_topology_that_it_lacks() {
    use placer_engine::{Request, advise};

    use crate::domain::{Options, Placement};
    use crate::guest::ThreadPin;

    let Some(snapshot) = crate::recorded::host("caches-4") else { return };
    // Four caches of two cores.
    let notes = |vcpus: u32, cpu: &str, pin| {
        let text = domain("kvm", &format!("<vcpu>{vcpus}</vcpu>{cpu}"));
        let domain = read(&text).expect("a domain");
        let request = Request::new(
            placer_engine::CpuShare::from_cpus(vcpus.into()).expect("few"),
            domain.memory(),
        );
        let advice = advise(&snapshot, &request).expect("an answer");
        let options = Options { pin, ..Options::default() };
        Placement::of(&domain, &snapshot, &advice, &options).expect("a place").notes.join("\n")
    };
    let shown = "<topology sockets='1' dies='2' cores='2' threads='1'/>";
    // Where no processor is named it is the host's, and only those of x86 have dies.
    let x86 = "<os><type arch='x86_64'>hvm</type></os>";
    assert!(notes(4, x86, ThreadPin::Cores).contains(shown));
    assert_eq!(notes(4, "", ThreadPin::Cores).contains(shown), cfg!(target_arch = "x86_64"));
    let said = "<cpu><topology sockets='4' cores='1' threads='1'/></cpu>";
    for (vcpus, cpu, pin) in [
        (4, said, ThreadPin::Cores),
        (4, "", ThreadPin::Nodes),
        (2, "", ThreadPin::Cores),
        (3, "", ThreadPin::Cores),
        (4, "<os><type arch='aarch64'>hvm</type></os>", ThreadPin::Cores),
    ] {
        assert_eq!(notes(vcpus, cpu, pin), "", "{vcpus} {cpu}");
    }
}
