//! `placer launch DOMAIN.xml --print-xml`: the user's own text with the placement in it.
//!
//! The definitions in `launcher/tests/it/domains` are of the kinds that people have: firmware, passthrough, cells,
//! huge pages, containers with isolation. Whatever is in them stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use needs::needs;
use testkit::machine::{self, Machine, put_file};

use crate::common::{placer, project, run, text};

/// Returns the definitions, by name.
pub(crate) fn domains() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("launcher/tests/it/domains");
    let mut found: Vec<(String, String)> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("a definition"))
        })
        .collect();
    found.sort();
    assert!(found.len() > 20, "{}", found.len());
    found
}

/// Four nodes of eight CPUs and 512 GiB, with huge pages of both sizes, and a GPU on node 3.
pub(crate) fn host(dir: &Path) {
    let mut machine = Machine::new();
    for node in 0..4 {
        machine = machine.node(node, node * 8..node * 8 + 8, 512 << 20, 500 << 20);
    }
    machine.write(dir);
    for node in 0..4 {
        for (kib, count) in [(2048, 20_000), (1 << 20, 64)] {
            for (file, pages) in
                [("nr_hugepages", count), ("free_hugepages", count), ("surplus_hugepages", 0)]
            {
                let pool = format!("{}/node{node}/hugepages/hugepages-{kib}kB", machine::NODES);
                put_file(dir, &format!("{pool}/{file}"), format!("{pages}\n"));
            }
        }
    }
    put_file(dir, "sys/bus/pci/devices/0000:81:00.0/numa_node", "3\n");
}

pub(crate) fn print(host: &Path, definition: &str, flags: &[&str]) -> Output {
    let file = host.join("domain.xml");
    fs::write(&file, definition).expect("written");
    let args = ["launch", "--print-xml", "--root"];
    run(placer().args(args).arg(host).args(flags).arg(&file))
}

fn printed(host: &Path, definition: &str, flags: &[&str]) -> String {
    let output = print(host, definition, flags);
    assert_eq!(output.status.code(), Some(0), "{definition}\n{}", text(&output.stderr));
    text(&output.stdout)
}

fn refused(host: &Path, definition: &str, flags: &[&str]) -> String {
    let output = print(host, definition, flags);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
    text(&output.stderr)
}

/// Returns a text without the three elements that may change, and without blanks between elements.
pub(crate) fn rest(definition: &str) -> String {
    let mut rest = definition.to_owned();
    for name in ["vcpu", "numatune", "cputune"] {
        while let Some(start) = rest.find(&format!("<{name} ")).or(rest.find(&format!("<{name}>")))
        {
            let behind = &rest[start..];
            let end = match (behind.find("/>"), behind.find('>')) {
                (Some(own), Some(end)) if own < end => own + 2,
                _ => {
                    let close = format!("</{name}>");
                    behind.find(&close).expect("an end tag") + close.len()
                }
            };
            rest.replace_range(start..start + end, "");
        }
    }
    rest.split(['\r', '\n', '\t', ' ']).filter(|piece| !piece.is_empty()).collect()
}

#[test]
fn nothing_but_vcpu_numatune_and_cputune_changes_in_any_definition() {
    let host_dir = tempfile::tempdir().expect("a directory");
    host(host_dir.path());
    for (name, definition) in domains() {
        let printed = printed(host_dir.path(), &definition, &[]);
        assert_eq!(rest(&printed), rest(&definition), "{name}");
        assert!(printed.contains("<numatune>"), "{name}: not placed\n{printed}");
        // The result is placed: printed again it is the same.
        let flags: &[&str] = if definition.contains("type='lxc'") { &[] } else { &["--force"] };
        assert_eq!(self::printed(host_dir.path(), &printed, flags), printed, "{name}");
    }
}

/// What the guest sees does not depend on where it goes.
#[test]
fn a_definition_is_one_machine_on_five_hosts() {
    let lines = "  <memory unit='MiB'>300</memory>\n  <vcpu>4</vcpu>\n  <cpu><topology sockets='2' cores='2' threads='1'/>\
                 <numa><cell id='0' cpus='0-1' memory='150' unit='MiB'/><cell id='1' cpus='2-3' memory='150' unit='MiB'/></numa></cpu>";
    let cells = domain(lines).replace("  <memory unit='GiB'>8</memory>\n", "");
    let one =
        domain("  <vcpu>4</vcpu>").replace("<memory unit='GiB'>8<", "<memory unit='MiB'>300<");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("domain.xml");
    for definition in [cells, one] {
        fs::write(&file, &definition).expect("written");
        let mut places = std::collections::BTreeSet::new();
        for host in ["two-nodes", "ring-4", "uneven-8", "cpuless", "sixteen"] {
            let root = project().join("sysfs-fixtures").join(host);
            let args = ["launch", "--print-xml", "--root"];
            let output = run(placer().args(args).arg(root).arg(&file));
            let printed = text(&output.stdout);
            assert_eq!(rest(&printed), rest(&definition), "{host}: {}", text(&output.stderr));
            places.insert(printed);
        }
        assert!(places.len() > 1, "they are placed alike: {places:?}");
    }
}

/// What libvirt's own schema and its driver for tests say.
#[needs(libvirt_schemas, virsh, xmllint)]
#[test]
fn libvirt_validates_and_defines_what_is_printed() {
    let schema = Path::new("/usr/share/libvirt/schemas/domain.rng");
    let host_dir = tempfile::tempdir().expect("a directory");
    host(host_dir.path());
    let file = |text: &str| -> PathBuf {
        let path = host_dir.path().join("checked.xml");
        fs::write(&path, text).expect("written");
        path
    };
    let valid = |checked: &str| {
        let args = ["--noout", "--nonet", "--relaxng"];
        let output = run(Command::new("xmllint").args(args).arg(schema).arg(file(checked)));
        output.status.success().then_some(()).ok_or(text(&output.stderr))
    };
    let mut checked = 0;
    for (name, definition) in domains() {
        for flags in [&[][..], &["--pin", "cores"], &["--mode", "interleave"]] {
            let printed = printed(host_dir.path(), &definition, flags);
            // Newer libvirts know more than the one that is installed.
            if valid(&definition).is_ok() {
                valid(&printed).unwrap_or_else(|why| panic!("{name}: {why}\n{printed}"));
                checked += 1;
            }
            let kind =
                printed.replace("type='kvm'", "type='test'").replace("type='lxc'", "type='test'");
            let kind =
                kind.replace("type='qemu'", "type='test'").replace("type=\"kvm\"", "type='test'");
            let define = ["-q", "-c", "test:///default", "define"];
            let output = run(Command::new("virsh").args(define).arg(file(&kind)));
            assert!(output.status.success(), "{name}: {}\n{printed}", text(&output.stderr));
        }
    }
    assert!(checked >= 60, "{checked}");
}

#[test]
fn each_definition_is_placed_as_it_says() {
    let host_dir = tempfile::tempdir().expect("a directory");
    host(host_dir.path());
    let domains = domains();
    for (name, fragments) in [
        // A definition that names nothing is placed too.
        (
            "plain",
            &[
                "<vcpu placement='static' cpuset='0-7'>4</vcpu><numatune><memory mode='strict' nodeset='0'/></numatune>",
            ][..],
        ),
        // Memory goes where the vCPUs are pinned, not where the emulator is.
        (
            "gpu-pinned",
            &[
                "<memory mode='strict' nodeset='1'/>",
                "<vcpu placement='static' cpuset='8-15'>8</vcpu>",
            ],
        ),
        ("vhost-user", &["<memory mode='strict' nodeset='0,3'/>"]),
        (
            "cells-pinned",
            &[
                "<memory mode='strict' nodeset='0-1'/><memnode cellid='0' mode='strict' nodeset='0'/><memnode cellid='1' mode='strict' nodeset='1'/></numatune>",
            ],
        ),
        (
            "memnode",
            &[
                "<memory mode='strict' nodeset='0-1'/><memnode cellid='0' mode='strict' nodeset='0'/><memnode cellid='1' mode='strict' nodeset='1'/></numatune>",
            ],
        ),
        // A DIMM that is on node 1 draws the guest there.
        ("dimm", &["<vcpu cpuset='8-15'>2</vcpu>", "nodeset='1'/>"]),
        ("iothreads", &["<iothreadpin iothread='6' cpuset='8-15'/></cputune>"]),
        (
            "tuned",
            &[
                "<shares>1020</shares><period>100000</period><quota>50000</quota><vcpusched vcpus='0' scheduler='fifo' priority='1'/></cputune>",
            ],
        ),
        // The user's cpuset stands, also with more vCPUs than CPUs.
        ("overcommitted", &["<vcpu placement='static' cpuset='0-2'>4</vcpu>", "nodeset='0'/>"]),
        ("topology", &["<vcpu placement='static' cpuset='0-15'>13</vcpu>", "nodeset='0-1'/>"]),
        ("hostdev", &["<vcpu placement='static' cpuset='24-31'>1</vcpu>", "nodeset='3'/>"]),
        (
            "slices",
            &[
                "<vcpu placement=\"static\"\n          current=\"1\" cpuset=\"0-7\">2</vcpu>   <!-- one is plugged in later -->\n    <numatune>\n        <memory mode=\"preferred\" nodeset=\"0\"/>\n    </numatune>",
            ],
        ),
        (
            "container-image",
            &[
                "\n\t<vcpu placement='static' cpuset='0-7'>2</vcpu>\n\t<numatune>\n\t\t<memory mode='strict' nodeset='0'/>\n\t</numatune>\n\t<os>",
            ],
        ),
        (
            "windows-lines",
            &[
                "</vcpu>\r\n  <numatune>\r\n    <memory mode='strict' nodeset='0'/>\r\n  </numatune>\r\n",
            ],
        ),
    ] {
        let (_, definition) = domains.iter().find(|(known, _)| known == name).expect(name);
        let printed = printed(host_dir.path(), definition, &[]);
        for fragment in fragments {
            assert!(printed.contains(fragment), "{name}: no {fragment:?} in\n{printed}");
        }
    }
}

/// A definition with these lines in it.
fn domain(lines: &str) -> String {
    format!(
        "<domain type='kvm'>\n  <name>d</name>\n  <memory unit='GiB'>8</memory>\n{lines}\n</domain>\n"
    )
}

#[test]
fn cells_that_fit_no_common_node_go_to_nodes_of_their_own_with_their_vcpus() {
    let host_dir = tempfile::tempdir().expect("a directory");
    host(host_dir.path());
    let cells = "<cell id='0' cpus='0-5' memory='300' unit='GiB'/><cell id='1' cpus='6-11' memory='300' unit='GiB'/>";
    let cells = domain(&format!("  <vcpu>12</vcpu>\n  <cpu><numa>{cells}</numa></cpu>"));
    let printed = printed(host_dir.path(), &cells, &[]);
    for fragment in [
        "<vcpupin vcpu='0' cpuset='0-7'/>",
        "<vcpupin vcpu='5' cpuset='0-7'/>",
        "<vcpupin vcpu='6' cpuset='8-15'/>",
        "<vcpupin vcpu='11' cpuset='8-15'/>",
        "<memory mode='strict' nodeset='0-1'/>\n    <memnode cellid='0' mode='strict' nodeset='0'/>\n    <memnode cellid='1' mode='strict' nodeset='1'/>",
    ] {
        assert!(printed.contains(fragment), "no {fragment} in\n{printed}");
    }
}

#[test]
fn preferred_memory_is_on_a_single_node() {
    let host_dir = tempfile::tempdir().expect("a directory");
    host(host_dir.path());
    let wide = domain("  <vcpu>13</vcpu>");
    let printed = printed(host_dir.path(), &wide, &["--mode", "preferred"]);
    assert!(printed.contains("<memory mode='preferred' nodeset='0'/>"), "{printed}");
    assert!(printed.contains("cpuset='0-15'"), "{printed}");
}

#[test]
fn every_vcpu_gets_a_cpu_of_its_own_and_the_rest_what_is_left() {
    let host_dir = tempfile::tempdir().expect("a directory");
    host(host_dir.path());
    let lines = "  <vcpu>3</vcpu>\n  <iothreads>1</iothreads>\n  <cputune>\n    <vcpupin vcpu='1' cpuset='5'/>\n  </cputune>";
    let printed = printed(host_dir.path(), &domain(lines), &["--pin", "cores"]);
    for fragment in [
        "    <vcpupin vcpu='1' cpuset='5'/>\n    <vcpupin vcpu='0' cpuset='0'/>\n    <vcpupin vcpu='2' cpuset='1'/>\n",
        "    <emulatorpin cpuset='2-4,6-7'/>\n    <iothreadpin iothread='1' cpuset='2-4,6-7'/>\n  </cputune>",
    ] {
        assert!(printed.contains(fragment), "no {fragment} in\n{printed}");
    }
}

#[test]
fn what_cannot_be_honoured_names_element_and_line() {
    let host_dir = tempfile::tempdir().expect("a directory");
    host(host_dir.path());
    let vcpupin = "<cputune>\n<vcpupin vcpu='0' cpuset='900'/></cputune>";
    for (lines, flags, error) in [
        (
            "<vcpu cpuset='900-901'>1</vcpu>",
            &[][..],
            ":4:1: <vcpu>: attribute cpuset: none of CPUs 900-901 is online; this host has 0-31",
        ),
        (
            vcpupin,
            &[],
            ":5:1: <vcpupin>: attribute cpuset: none of CPUs 900 is online; this host has 0-31",
        ),
        (
            "<numatune><memory nodeset='7'/></numatune>",
            &[],
            ":4:11: <memory>: this host has no node 7; it has nodes 0-3",
        ),
        (
            "<numatune><memory nodeset='0'/></numatune>",
            &["--within", "2"],
            ":4:1: <numatune>: this holds the guest to nodes 0, of which --within 2 has none",
        ),
        (
            "<vcpu cpuset='8'>1</vcpu>",
            &["--within", "2"],
            ":4:1: <vcpu>: this holds the guest to nodes 1, of which --within 2 has none",
        ),
        (
            "<numatune><memory nodeset='0'/></numatune>",
            &["--mode", "none"],
            ":4:1: <numatune>: the definition binds memory, which --mode none contradicts",
        ),
        (
            "<numatune><memory nodeset='0'/></numatune>",
            &["--mode", "weighted-interleave"],
            ":4:1: <numatune>: libvirt has no memory mode weighted-interleave: choose strict, preferred or interleave",
        ),
        ("", &["--cpus", "2"], "--cpus does not go with a domain definition"),
        ("", &["--cgroup", "own"], "--cgroup does not go with a domain definition"),
    ] {
        let found = refused(host_dir.path(), &domain(lines), flags);
        assert!(found.contains(error), "{lines}: {found}");
    }
}

#[test]
fn a_byte_order_mark_and_text_that_is_not_indented_stay() {
    let host_dir = tempfile::tempdir().expect("a directory");
    host(host_dir.path());
    let text = "\u{feff}<domain type=\"kvm\"><name>d</name><memory>1024</memory></domain>";
    let printed = printed(host_dir.path(), text, &[]);
    assert_eq!(
        printed,
        "\u{feff}<domain type=\"kvm\"><name>d</name><memory>1024</memory>\
         <vcpu placement=\"static\" cpuset=\"0-7\">1</vcpu>\
         <numatune><memory mode=\"strict\" nodeset=\"0\"/></numatune></domain>"
    );
    // An element that is there and empty is filled.
    let printed = self::printed(
        host_dir.path(),
        &domain("  <vcpu>1</vcpu>\n  <numatune/>\n  <cputune>\n    <!-- none -->\n  </cputune>"),
        &["--pin", "cores"],
    );
    assert!(
        printed.contains("  <numatune>\n    <memory mode='strict' nodeset='0'/>\n  </numatune>\n"),
        "{printed}"
    );
    assert!(
        printed.contains("    <!-- none -->\n    <vcpupin vcpu='0' cpuset='0'/>\n"),
        "{printed}"
    );
}

#[test]
fn fixed_memory_with_too_few_cpus_takes_cpus_from_elsewhere() {
    let host_dir = tempfile::tempdir().expect("a directory");
    Machine::new()
        .node(0, 0..4, 16 << 20, 12 << 20)
        .node(1, [], 16 << 20, 12 << 20)
        .node(2, 8..12, 16 << 20, 12 << 20)
        .write(host_dir.path());
    let lines = "  <vcpu>4</vcpu>\n  <numatune><memory mode='strict' nodeset='1'/></numatune>";
    let printed = printed(host_dir.path(), &domain(lines), &[]);
    assert!(
        printed.contains("<numatune><memory mode='strict' nodeset='1'/></numatune>"),
        "{printed}"
    );
    assert!(
        printed.contains("<vcpu cpuset='0-3'>4</vcpu>")
            || printed.contains("<vcpu cpuset='8-11'>4</vcpu>"),
        "{printed}"
    );
}

#[test]
fn a_dry_run_says_what_is_done_with_libvirt() {
    let host_dir = tempfile::tempdir().expect("a directory");
    host(host_dir.path());
    let file = host_dir.path().join("domain.xml");
    fs::write(&file, domain("  <vcpu>2</vcpu>")).expect("written");
    let output =
        run(placer().args(["launch", "--dry-run", "--root"]).arg(host_dir.path()).arg(&file));
    assert_eq!(
        text(&output.stdout),
        "cpus    0-7\nmemory  strict on 0\ncreate  d, paused, through qemu:///system\n\
         verify  the CPUs of each thread, and the memory policy\nresume  d\n",
        "{}",
        text(&output.stderr)
    );
    fs::write(&file, domain("").replace("'kvm'", "'xen'")).expect("written");
    let output =
        run(placer().args(["launch", "--dry-run", "--root"]).arg(host_dir.path()).arg(&file));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("type kvm, qemu and lxc"), "{}", text(&output.stderr));
}
