use proptest::prelude::*;

use super::*;

fn words(line: &str) -> Vec<OsString> {
    line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
}

fn read(line: &str) -> Line {
    let read = Line::parse(&words(&format!("qemu-system-x86_64 {line}")));
    read.expect("a good line").expect("a guest")
}

fn refused(line: &str) -> String {
    let read = Line::parse(&words(&format!("qemu-system-x86_64 {line}")));
    read.expect_err("a bad line").to_string()
}

#[test]
fn memory_is_read_as_qemu_reads_it() {
    for (line, bytes) in [
        ("", 128 << 20),
        ("-m 2048", 2 << 30),
        ("-m 4G", 4 << 30),
        ("--m 1.5g", 3 << 29),
        ("-m size=512,slots=4,maxmem=8G", 512 << 20),
        ("-m 1G -m slots=2,maxmem=4G", 1 << 30),
        ("-m 1G -m 2G", 2 << 30),
        ("-m 0", 128 << 20),
        ("-m 4097K", 4104 << 10),
        ("-m 0x100", 256 << 20),
        ("-m 010", 10 << 20),
        ("-m +32,", 32 << 20),
        ("-M q35,memory.size=1G", 1 << 30),
        ("-machine memory-backend=a -object memory-backend-ram,id=a,size=3M", 3 << 20),
        ("-m 1G -object memory-backend-ram,id=d,size=1G -device pc-dimm,memdev=d", 2 << 30),
    ] {
        assert_eq!(read(line).memory.get(), bytes, "{line}");
    }
    for (line, error) in [
        ("-m 4Q", "expected a size such as 4G, found \"4Q\""),
        ("-m 99999999999", "expected at most 64 PiB of memory, found 93.1 PiB"),
        ("-m", "-m: its value is missing"),
        ("-object memory-backend-ram,id=a", "expected size="),
    ] {
        assert!(refused(line).contains(error), "{line}: {}", refused(line));
    }
}

#[test]
fn vcpus_of_a_die_share_a_cache() {
    for (smp, die) in [
        ("8", None),
        ("8,sockets=8", None),
        ("8,sockets=2,cores=4", Some(4)),
        ("16,dies=2,cores=4,threads=2", Some(8)),
        ("8,dies=2,clusters=2,cores=2", Some(4)),
        ("8,cores=4,threads=2", None),
    ] {
        assert_eq!(read(&format!("-smp {smp}")).die, die, "{smp}");
    }
}

#[test]
fn vcpus_are_counted_as_qemu_counts_them() {
    for (line, current, maximum) in [
        ("", 1, 1),
        ("-smp 8", 8, 8),
        ("-smp cpus=2,maxcpus=6", 2, 6),
        ("-smp 4 -smp maxcpus=8", 4, 8),
        ("-smp sockets=2,cores=3,threads=2", 12, 12),
        ("-smp sockets=2,dies=2,cores=2,maxcpus=8", 8, 8),
        ("-machine smp.cpus=3", 3, 3),
        ("-smp 010", 8, 8),
        ("-smp 0x4,", 4, 4),
        ("-smp 1,maxcpus=4 -device qemu64-x86_64-cpu,id=c,socket-id=2", 2, 4),
        ("-smp 2,maxcpus=8,threads=4 -device host-spapr-cpu-core,core-id=4", 6, 8),
    ] {
        let cpus = read(line).cpus;
        assert_eq!((cpus.current, cpus.maximum), (current, maximum), "{line}");
    }
    for (line, error) in [
        ("-smp 0", "expected cpus of at least 1, found 0"),
        ("-smp many", "expected a number, found \"many\""),
        ("-smp 70000", "expected cpus of at most 65536, found 70000"),
        ("-smp sockets=65536,cores=65536", "vCPUs, found"),
    ] {
        assert!(refused(line).contains(error), "{line}: {}", refused(line));
    }
}

/// The NUMA nodes of a guest: their numbers, vCPUs and MiB.
fn cells(line: &str) -> String {
    let cell = |cell: &LineCell| format!("{}:{}:{}", cell.id, cell.vcpus, cell.memory.whole_mib());
    read(line).cells.iter().map(cell).collect::<Vec<_>>().join(" ")
}

#[test]
fn vcpus_belong_to_the_nodes_that_qemu_puts_them_in() {
    let ram = "-object memory-backend-ram,id=a,size=64M -object memory-backend-ram,id=b,size=32M";
    let two = "-numa node,memdev=a -numa node,nodeid=3,memdev=b";
    for (line, expected) in [
        (format!("-smp 4 {ram}"), ""),
        (format!("-smp 4,sockets=2 {ram} {two}"), "0:0-1:64 3:2-3:32"),
        (format!("-smp 4 {ram} {two}"), "0:0-3:64 3::32"),
        (
            format!("-smp 4 {ram} -numa node,memdev=a,cpus=0,cpus=3 -numa node,memdev=b,cpus=1-2"),
            "0:0,3:64 1:1-2:32",
        ),
        (format!("-smp 4 {ram} {two} -numa cpu,node-id=3,core-id=1"), "0:0,2-3:64 3:1:32"),
        (
            format!(
                "-smp 8,sockets=2,cores=2,threads=2 {ram} {two} -numa cpu,node-id=0,socket-id=1 \
                     -numa cpu,node-id=3,socket-id=0"
            ),
            "0:4-7:64 3:0-3:32",
        ),
        (
            "-smp 2 -numa node,mem=512,cpus=0 -numa node,mem=1G,cpus=1".to_owned(),
            "0:0:512 1:1:1024",
        ),
    ] {
        assert_eq!(cells(&line), expected, "{line}");
    }
    for (line, error) in [
        ("-numa node,memdev=x", "there is no memory backend \"x\""),
        ("-numa node,nodeid=128", "expected a nodeid below 128, found 128"),
        ("-numa node,cpus=1", "the guest has no vCPU 1"),
        ("-numa node -numa node,nodeid=0", "a second node 0"),
        ("-numa cpu,node-id=1", "the guest has no node 1"),
    ] {
        assert!(refused(line).contains(error), "{line}: {}", refused(line));
    }
}

#[test]
fn vcpus_of_other_architectures_are_named_and_put_as_their_machines_do() {
    let ram = "-m 512 -object memory-backend-ram,id=a,size=256M -object memory-backend-ram,id=b,size=256M";
    let two = "-numa node,memdev=a -numa node,memdev=b";
    for (line, expected) in [
        // pseries: a core has the number of its first thread, and is in one node.
        (
            format!(
                "ppc64 -smp 8,sockets=2,cores=2,threads=2 {ram} {two} -numa cpu,node-id=1,core-id=2"
            ),
            "0-1,4-7 2-3",
        ),
        (
            format!(
                "ppc64 -smp 8,threads=2 {ram} -numa node,memdev=a,cpus=1 -numa node,memdev=b,cpus=3-7"
            ),
            "0-1 2-7",
        ),
        (format!("ppc64 -smp 8,sockets=2 {ram} {two}"), "0-3 4-7"),
        // No sockets: equal parts.
        (format!("riscv64 -M virt -smp 6 {ram} {two}"), "0-2 3-5"),
        (
            format!(
                "riscv64 -M virt -smp 8,sockets=2,cores=2,threads=2 {ram} {two} -numa cpu,node-id=1,core-id=5"
            ),
            "0-4,6-7 5",
        ),
        (
            format!(
                "aarch64 -M virt -smp 8,sockets=2,clusters=2 {ram} {two} -numa cpu,node-id=1,cluster-id=1"
            ),
            "0-1,4-5 2-3,6-7",
        ),
    ] {
        let line = Line::parse(&words(&format!("qemu-system-{line}"))).expect("a good line");
        let cells = line.expect("a guest").cells;
        let found: Vec<String> = cells.iter().map(|cell| cell.vcpus.to_string()).collect();
        assert_eq!(found.join(" "), expected);
    }
}

#[test]
fn json_is_qemus() {
    let object = |json: &str| {
        let words = ["qemu-kvm".into(), "-object".into(), json.into()];
        Line::parse(&words).map(|line| line.expect("a guest").backends.remove(0))
    };
    // Strings in single quotes, and an escape that JSON itself has not.
    let odd = r#"{'qom-type':'memory-backend-file','id':"a",'size':4096,'mem-path':'/a"b\'c\\d'}"#;
    let read = object(odd).expect("good");
    assert_eq!((read.id.as_str(), read.json), ("a", true));
    assert_eq!(read.path.as_deref(), Some(Path::new(r#"/a"b'c\d"#)));
    // On no node, in so many words.
    let none = r#"{"qom-type":"memory-backend-ram","id":"a","size":4096,"host-nodes":[]}"#;
    let none = object(none).expect("good");
    assert_eq!((none.host_nodes.is_empty(), none.policy.as_deref()), (true, Some("default")));
    for bad in ["{'id':'a}", r#"{"id":"a",}"#, "{", "{'a':1}}", r#"{"id":"\x"}"#] {
        let error = object(bad).expect_err("bad").to_string();
        assert!(error.contains("no JSON"), "{bad}: {error}");
    }
    // Options that take none have a brace in their text.
    assert_eq!(read_name("{web}"), Some("{web}".to_owned()));
}

fn read_name(name: &str) -> Option<String> {
    read(&format!("-name {name}")).name
}

#[test]
fn backends_devices_and_names_are_read_in_both_spellings() {
    let plain = read(
        "-name guest=web,,1,debug-threads=on -object iothread,id=io -device vfio-pci,host=0000:81:00.0 \
         -object memory-backend-file,id=a,size=1G,mem-path=/dev/shm/a,,b,share=on,host-nodes=0-1,\
         host-nodes=3,policy=interleave",
    );
    let json = Line::parse(&[
        "/usr/libexec/qemu-kvm".into(),
        "-name".into(),
        "web,,1".into(),
        "-object".into(),
        r#"{"qom-type": "iothread", "id": "io"}"#.into(),
        "-device".into(),
        r#"{"driver": "vfio-pci", "host": "0000:81:00.0"}"#.into(),
        "-object".into(),
        r#"{"qom-type": "memory-backend-file", "id": "a", "size": 1073741824, "mem-path":
            "/dev/shm/a,b", "share": true, "host-nodes": [0, 1, 3], "policy": "interleave"}"#
            .into(),
    ]);
    let json = json.expect("a good line").expect("a guest");
    for line in [&plain, &json] {
        assert_eq!(line.name.as_deref(), Some("web,1"));
        assert_eq!(
            (&*line.iothreads, &*line.devices),
            (&["io".into()][..], &["0000:81:00.0".into()][..])
        );
        let [backend] = &*line.backends else { panic!("{:?}", line.backends) };
        assert_eq!(backend.host_nodes.to_string(), "0-1,3");
        assert_eq!(backend.policy.as_deref(), Some("interleave"));
        assert_eq!(backend.path.as_deref(), Some(Path::new("/dev/shm/a,b")));
        assert_eq!(backend.size.get(), 1 << 30);
    }
    assert!(!plain.backends[0].json && json.backends[0].json);
    let mdev = read("-device vfio-pci,sysfsdev=/sys/bus/pci/devices/0000:01:00.0 -device e1000");
    assert_eq!(mdev.devices, ["0000:01:00.0"]);
    let huge = read(
        "-m 4M -machine memory-backend=a -object memory-backend-memfd,id=a,size=4M,hugetlb=on,hugetlbsize=2M",
    );
    assert_eq!(huge.pages(), Pages::Huge(Bytes::new(2 << 20)));
    assert_eq!(
        read("-object memory-backend-ram,id=a,size=1M,host-nodes=1,policy=bind").fixed_nodes(),
        None
    );
}

#[test]
fn memory_of_devices_changes_neither_the_nodes_nor_the_pages_of_the_machines_own() {
    let shared = "-object memory-backend-file,id=shm,size=4M,share=on,mem-path=/dev/shm/x \
                  -device ivshmem-plain,memdev=shm";
    let fixed = read(&format!(
        "-m 8M -object memory-backend-ram,id=r,size=8M,host-nodes=1,policy=bind -machine memory-backend=r {shared}"
    ));
    assert_eq!(fixed.fixed_nodes().map(|nodes| nodes.to_string()).as_deref(), Some("1"));
    assert_eq!(fixed.memory.whole_mib(), 12);

    let mut huge = read(&format!(
        "-m 8M -machine memory-backend=r -object \
         memory-backend-memfd,id=r,size=8M,hugetlb=on,hugetlbsize=2M {shared}"
    ));
    huge.look_at_files();
    assert_eq!(huge.pages(), Pages::Huge(Bytes::new(2 << 20)));
    assert_eq!(huge.memory.whole_mib(), 8, "the 4 MiB of the device are ordinary pages");

    let mut all = read("-m 64M -mem-path /dev/hugepages");
    assert_eq!((&all.ram, all.pages()), (&Ram::Other, Pages::Ordinary));
    let (path, pages) = all.file_ram.as_mut().expect("a path");
    assert_eq!(path, Path::new("/dev/hugepages"));
    *pages = Pages::Huge(Bytes::new(1 << 30));
    assert_eq!(all.pages(), Pages::Huge(Bytes::new(1 << 30)));
}

#[test]
fn virtio_mem_counts_with_what_the_guest_has_at_its_start() {
    let line = |device: &str| {
        let line = format!("-m 4M,maxmem=260M -object memory-backend-ram,id=v,size=256M {device}");
        read(&line).memory.whole_mib()
    };
    assert_eq!(line("-device virtio-mem-pci,memdev=v"), 4);
    assert_eq!(line("-device virtio-mem-pci,memdev=v,requested-size=64M"), 68);
    assert_eq!(line("-device pc-dimm,memdev=v"), 260);
}

#[test]
fn the_words_of_options_are_no_options() {
    // A kernel's arguments may look like options, a disk image has no hyphen, flags have no value.
    let line = read("-append -m -nographic disk.img -m 2G -kernel -smp -S");
    assert_eq!((line.memory.whole_mib(), line.cpus.current, line.paused), (2048, 1, true));
    // Of a later QEMU: a value only if it does not look like an option.
    assert_eq!(read("-from-the-future -m 2G").memory.whole_mib(), 2048);
    assert_eq!(read("-from-the-future 4 -m 2G").memory.whole_mib(), 2048);
}

#[test]
fn lines_that_start_no_guest_are_none() {
    for line in [
        "qemu-img create a.img 1G",
        "qemu-system-x86_64 -version",
        "qemu-system-x86_64 --help",
        "qemu-system-x86_64 -cpu help",
        "qemu-system-x86_64 -device virtio-blk,help",
        "qemu-system-x86_64 -machine none -qmp stdio",
        "",
    ] {
        assert_eq!(Line::parse(&words(line)), Ok(None), "{line}");
    }
    assert!(is_qemu(OsStr::new("/usr/bin/qemu-system-aarch64")) && is_qemu(OsStr::new("kvm")));
}

#[test]
fn what_hides_the_guest_is_refused_by_name() {
    for (line, start) in [
        ("-daemonize", "-daemonize: QEMU would leave the process"),
        ("-preconfig", "-preconfig: QEMU has no vCPUs to pin"),
        ("-readconfig a.cfg", "-readconfig \"a.cfg\": placer does not read this file"),
        ("-set object.a.host-nodes=1", "-set \"object.a.host-nodes=1\": it changes another option"),
        ("-xen-domid 1", "-xen-domid \"1\": Xen places its domains itself"),
        ("-object {", "-object \"{\": no JSON"),
    ] {
        let error = refused(line);
        let start = format!("cannot place this command line of QEMU: {start}");
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn the_monitor_that_qemu_has_by_default_is_kept() {
    for (line, expected) in [
        ("", "-monitor vc:80Cx24C"),
        ("-nographic", "-serial mon:stdio"),
        ("-nographic -serial none", "-monitor stdio"),
        ("-nographic -device {\"driver\":\"isa-serial\"}", "-monitor stdio"),
        ("-nographic -global isa-serial.wakeup=1", "-monitor stdio"),
        ("-nographic -device sclplmconsole,chardev=c", "-serial mon:stdio"),
        ("-nodefaults", ""),
        ("-qmp unix:/a,server=on", ""),
        ("-monitor none", ""),
    ] {
        assert_eq!(read(line).monitor.join(" "), expected, "{line}");
    }
}

proptest! {
    /// Any words are answered, and those of a good line are kept.
    #[test]
    fn any_words_are_answered(
        names in prop::collection::vec(
            prop::sample::select(vec!["-m", "-smp", "-numa", "-object", "-device", "-machine", "--name", "x"]),
            0..12,
        ),
        values in prop::collection::vec(
            "[a-z]{0,9}[=,]{0,2}[0-9a-zGM,={}\":-]{0,24}|\\PC{0,12}|node,memdev=a,cpus=[0-9]-[0-9]",
            12,
        ),
    ) {
        let mut argv = vec![OsString::from("qemu-kvm")];
        for (name, value) in names.iter().zip(values) {
            argv.extend([OsString::from(name), OsString::from(value)]);
        }
        if let Ok(Some(line)) = Line::parse(&argv) {
            prop_assert_eq!(line.argv, argv);
            prop_assert!(line.cpus.current <= line.cpus.maximum && line.cpus.current > 0);
        }
    }
}
