use placer_engine::{Advice, Bytes, NodeId, NodeSet, Request, Share, Snapshot, advise};

use super::super::memory::options;
use super::super::shape::Shape;
use super::*;
use crate::guest::{MemoryMode, NodeChoice, Pages, Program};
use crate::recorded::host;

fn guest(cpus: u32, mib: u64, qemu: Qemu) -> Guest {
    let mut guest = Guest::new("web".parse().unwrap(), Program::Qemu(qemu));
    guest.cpus.current = cpus;
    guest.cpus.maximum = cpus;
    guest.memory.maximum = Bytes::from_mib(mib).unwrap();
    guest.memory.current = guest.memory.maximum;
    guest
}

/// The advice for these nodes, whatever the host's own figures would say.
fn advice(snapshot: &Snapshot, shares: &[(u32, f64, u64)]) -> Advice {
    let nodes: NodeSet = shares.iter().map(|share| NodeId(share.0)).collect();
    let mut request: Request = "1:1".parse().unwrap();
    request.within = Some(nodes.clone());
    let mut advice = advise(snapshot, &request).expect("an answer");
    advice.cpus = snapshot.topology().cpus_of(&nodes);
    advice.nodes = nodes;
    let share = |&(node, cpus, mib): &(u32, f64, u64)| Share {
        node: NodeId(node),
        cpus,
        memory: Bytes::from_mib(mib).unwrap(),
    };
    advice.split = shares.iter().map(share).collect();
    advice
}

/// The line that the definition makes, an option a line.
fn written(guest: &Guest) -> Result<String, String> {
    let Program::Qemu(qemu) = &guest.program else { panic!("a machine") };
    let line = line(guest, qemu).map_err(|error| error.to_string())?;
    let words = line.argv.into_iter().map(|word| word.into_string().unwrap());
    Ok(words.collect::<Vec<_>>().join(" ").replace(" -", "\n-"))
}

/// The options of the same size for another launcher, where the advice says.
fn emitted(guest: &Guest, advice: &Advice, snapshot: &Snapshot) -> String {
    let shape = Shape::of(guest, Some(advice), snapshot).expect("a shape");
    let options = options(guest.cpus, &shape, snapshot.topology().distances());
    let one =
        |(option, value): (&str, Option<String>)| [option, &value.unwrap_or_default()].join(" ");
    options.into_iter().map(one).collect::<Vec<_>>().join("\n")
}

const SANDBOX: &str =
    "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// What every line begins with.
fn whole(middle: &str) -> String {
    let arch = host_arch();
    format!(
        "qemu-system-{arch}\n-name guest=web,debug-threads=on\n-no-user-config\n-nodefaults\n\
         -display none\n{SANDBOX}\n{middle}"
    )
}

/// With the machine's own memory a backend of its own name: bound or not, it is the same.
#[test]
fn a_definition_makes_one_machine_whatever_binds_it() {
    let mut guest = guest(3, 101, Qemu::default());
    let expected = whole(
        "-machine memory-backend=ram0\n-accel kvm\n-accel tcg\n-smp cpus=3,sockets=1,cores=3,threads=1\n-m 101M\n\
         -object memory-backend-ram,id=ram0,size=101M",
    );
    for mode in MemoryMode::ALL {
        guest.mode = *mode;
        assert_eq!(written(&guest), Ok(expected.clone()), "{mode}");
    }
    guest.pages = Pages::Huge(Bytes::from_mib(2).unwrap());
    guest.memory.maximum = Bytes::from_mib(102).unwrap();
    guest.memory.current = guest.memory.maximum;
    let text = written(&guest).expect("a line");
    let huge =
        "-object memory-backend-memfd,id=ram0,size=102M,hugetlb=on,hugetlbsize=2M,prealloc=on";
    assert!(text.ends_with(huge), "{text}");
    guest.pages = Pages::HugeDefault;
    let text = written(&guest).expect("a line");
    assert!(text.ends_with("size=102M,hugetlb=on,prealloc=on"), "{text}");
}

#[test]
fn cells_and_dies_are_equal_parts() {
    let qemu = |cells, dies| Qemu { accelerator: Accelerator::Tcg, cells, dies, ..Qemu::default() };
    for (cpus, mib, qemu, expected) in [
        (
            8,
            604,
            qemu(2, 0),
            "-accel tcg\n-smp cpus=8,sockets=2,cores=4,threads=1\n-m 604M\n\
             -object memory-backend-ram,id=ram0,size=302M\n-object memory-backend-ram,id=ram1,size=302M\n\
             -numa node,nodeid=0,cpus=0-3,memdev=ram0\n-numa node,nodeid=1,cpus=4-7,memdev=ram1",
        ),
        // Whole GiB where it is of such, else pieces of 2 MiB: the first ones are larger.
        (
            2,
            5120,
            qemu(2, 1),
            "-accel tcg\n-smp cpus=2,sockets=2,cores=1,threads=1\n-m 5120M\n\
             -object memory-backend-ram,id=ram0,size=3072M\n-object memory-backend-ram,id=ram1,size=2048M\n\
             -numa node,nodeid=0,cpus=0,memdev=ram0\n-numa node,nodeid=1,cpus=1,memdev=ram1",
        ),
        (
            8,
            64,
            qemu(1, 2),
            "-machine memory-backend=ram0\n-accel tcg\n-smp cpus=8,sockets=1,dies=2,cores=4,threads=1\n-m 64M\n\
             -object memory-backend-ram,id=ram0,size=64M",
        ),
        (
            8,
            64,
            qemu(2, 4),
            "-accel tcg\n-smp cpus=8,sockets=2,dies=2,cores=2,threads=1\n-m 64M\n\
             -object memory-backend-ram,id=ram0,size=32M\n-object memory-backend-ram,id=ram1,size=32M\n\
             -numa node,nodeid=0,cpus=0-3,memdev=ram0\n-numa node,nodeid=1,cpus=4-7,memdev=ram1",
        ),
    ] {
        assert_eq!(written(&guest(cpus, mib, qemu)), Ok(whole(expected)));
    }
    for (cpus, mib, qemu, error) in [
        (8, 601, qemu(2, 0), "memory: 601 MiB are no multiple of 2 MiB in 2 NUMA nodes; write 602"),
        (8, 2, qemu(4, 0), "memory: 2 MiB are no multiple of 2 MiB in 4 NUMA nodes; write 8"),
        (5, 64, qemu(2, 0), "cells = 2: 5 vCPUs are no multiple of it"),
        (6, 64, qemu(2, 3), "dies = 3: expected a multiple of 2 (cells) that divides 6 vCPUs"),
        (6, 64, qemu(1, 4), "dies = 4: expected a multiple of 1 (cells) that divides 6 vCPUs"),
    ] {
        let found = written(&guest(cpus, mib, qemu)).unwrap_err();
        assert_eq!(found, format!("cannot start guest web with QEMU: {error}"));
    }
    let mut huge = guest(2, 1024, qemu(2, 0));
    huge.pages = Pages::Huge(Bytes::from_mib(1024).unwrap());
    let error = written(&huge).unwrap_err();
    assert!(
        error.contains("1024 MiB are no multiple of 1024 MiB in 2 NUMA nodes; write 2048"),
        "{error}"
    );
}

#[test]
fn emitted_parts_follow_the_advice_and_no_vcpu_is_a_socket() {
    let Some(host) = host("two-nodes") else { return };
    let both = advice(&host, &[(0, 4.0, 300), (1, 4.0, 301)]);
    let mut guest = guest(8, 601, Qemu::default());
    assert_eq!(
        emitted(&guest, &both, &host),
        "-smp cpus=8,sockets=2,cores=4,threads=1\n-m 601M\n\
         -object memory-backend-ram,id=ram0,size=300M,host-nodes=0,policy=bind\n\
         -object memory-backend-ram,id=ram1,size=301M,host-nodes=1,policy=bind\n\
         -numa node,nodeid=0,cpus=0-3,memdev=ram0\n-numa node,nodeid=1,cpus=4-7,memdev=ram1\n\
         -numa dist,src=0,dst=1,val=21\n-numa dist,src=1,dst=0,val=21"
    );
    // Nodes that are not alike share a socket, unless both are several of a smaller one.
    for (cpus, shares, smp) in [
        (5, [3.0, 2.0], "cpus=5,sockets=1,cores=5,threads=1"),
        (6, [4.0, 2.0], "cpus=6,sockets=3,cores=2,threads=1"),
        (2, [1.0, 1.0], "cpus=2,sockets=2,cores=1,threads=1"),
    ] {
        guest.cpus.current = cpus;
        guest.cpus.maximum = cpus;
        let both = advice(&host, &[(0, shares[0], 300), (1, shares[1], 302)]);
        let text = emitted(&guest, &both, &host);
        assert!(text.starts_with(&format!("-smp {smp}\n")), "{text}");
    }
    // Pages that go round have no node that the machine could be told.
    guest.mode = MemoryMode::Interleave;
    assert_eq!(
        emitted(&guest, &both, &host),
        "-smp cpus=2,sockets=1,cores=2,threads=1\n-m 601M\n\
         -object memory-backend-ram,id=ram0,size=601M,host-nodes=0-1,policy=interleave"
    );
    guest.mode = MemoryMode::Strict;
    guest.nodes = NodeChoice::Fixed([NodeId(1)].into_iter().collect());
    let text = emitted(&guest, &both, &host);
    assert!(text.ends_with("id=ram0,size=601M,host-nodes=1,policy=bind"), "{text}");
}

#[test]
fn emitted_nodes_without_cpus_or_memory_are_told_as_they_are() {
    let Some(host) = host("uneven-8") else { return };
    let advice = advice(&host, &[(1, 1.0, 0), (3, 0.0, 60), (6, 3.0, 300)]);
    let guest = guest(4, 360, Qemu::default());
    assert_eq!(
        emitted(&guest, &advice, &host),
        "-smp cpus=4,sockets=1,cores=4,threads=1\n-m 360M\n\
         -object memory-backend-ram,id=ram0,size=60M,host-nodes=3,policy=bind\n\
         -object memory-backend-ram,id=ram1,size=300M,host-nodes=6,policy=bind\n\
         -numa node,nodeid=0,memdev=ram0\n-numa node,nodeid=1,cpus=1-3,memdev=ram1\n\
         -numa node,nodeid=2,cpus=0\n\
         -numa dist,src=0,dst=1,val=32\n-numa dist,src=0,dst=2,val=20\n\
         -numa dist,src=1,dst=0,val=32\n-numa dist,src=1,dst=2,val=32\n\
         -numa dist,src=2,dst=0,val=20\n-numa dist,src=2,dst=1,val=32"
    );
}

#[test]
fn emitted_huge_pages_are_whole_on_each_node() {
    let Some(host) = host("two-nodes") else { return };
    let advice = advice(&host, &[(0, 1.0, 150), (1, 1.0, 150)]);
    let mut guest = guest(2, 302, Qemu::default());
    guest.pages = Pages::Huge(Bytes::from_mib(2).unwrap());
    let shape = Shape::of(&guest, Some(&advice), &host).unwrap();
    let parts: Vec<u64> = shape.cells.iter().map(|cell| cell.memory.whole_mib()).collect();
    assert_eq!(parts, [152, 150]);
    guest.pages = Pages::Huge(Bytes::from_mib(1024).unwrap());
    let error = Shape::of(&guest, Some(&advice), &host).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot make 302 MiB of memory from huge pages of 1024 MiB: not a multiple; the next one is 1024 MiB"
    );
}

#[test]
fn every_device_of_a_definition_is_there() {
    let disk = |file: &str, device, bus, readonly| Disk {
        file: file.to_owned(),
        format: "raw".to_owned(),
        device,
        bus,
        readonly,
    };
    let qemu = Qemu {
        emulator: Some("/opt/qemu".to_owned()),
        arch: None,
        machine: Some("q35".to_owned()),
        accelerator: Accelerator::Tcg,
        firmware: Some(Firmware::Flash {
            code: "/f,w".to_owned(),
            variables: Some("/v".to_owned()),
        }),
        kernel: Some("/k,1".to_owned()),
        initrd: Some("/i,1".to_owned()),
        cmdline: Some("root=/dev/vda console=ttyS0,115200".to_owned()),
        disks: vec![
            disk("nbd:a,b", DiskDevice::Disk, DiskBus::Virtio, false),
            disk("/c", DiskDevice::Cdrom, DiskBus::Ide, false),
            disk("/d", DiskDevice::Disk, DiskBus::Virtio, true),
            disk("/e", DiskDevice::Disk, DiskBus::Virtio, false),
            disk("/f", DiskDevice::Disk, DiskBus::Ide, false),
        ],
        serials: vec![
            Serial::Stdio,
            Serial::Pty,
            Serial::Null,
            Serial::File("/l,1".to_owned()),
            Serial::Unix("/s,1".to_owned()),
        ],
        network: Network::User {
            model: Some("e1000".to_owned()),
            mac: Some("52:54:00:1:2:3".into()),
        },
        iothreads: 2,
        args: vec!["-cpu".to_owned(), "max".to_owned()],
        sandbox: Sandbox::Off,
        ..Qemu::default()
    };
    let mut guest = guest(1, 64, qemu);
    guest.name = "a,b".parse().unwrap();
    guest.memory.current = Bytes::from_mib(32).unwrap();
    assert_eq!(
        written(&guest).expect("a line"),
        "/opt/qemu\n-name guest=a,,b,debug-threads=on\n-no-user-config\n-nodefaults\n\
         -display none\n-machine q35,memory-backend=ram0\n-accel tcg\n\
         -smp cpus=1,sockets=1,cores=1,threads=1\n-m 64M\n-object memory-backend-ram,id=ram0,size=64M\n\
         -drive if=pflash,format=raw,unit=0,readonly=on,file.filename=/f,,w\n\
         -drive if=pflash,format=raw,unit=1,file.filename=/v\n\
         -kernel /k,1\n-initrd /i,1\n-append root=/dev/vda console=ttyS0,115200\n\
         -object iothread,id=iothread1\n-object iothread,id=iothread2\n\
         -drive if=none,id=disk0,format=raw,file.filename=nbd:a,,b\n\
         -device virtio-blk,drive=disk0,iothread=iothread1\n\
         -drive if=none,id=disk1,format=raw,readonly=on,file.filename=/c\n\
         -device ide-cd,drive=disk1\n\
         -drive if=none,id=disk2,format=raw,readonly=on,file.filename=/d\n\
         -device virtio-blk,drive=disk2,iothread=iothread2\n\
         -drive if=none,id=disk3,format=raw,file.filename=/e\n\
         -device virtio-blk,drive=disk3,iothread=iothread1\n\
         -drive if=none,id=disk4,format=raw,file.filename=/f\n-device ide-hd,drive=disk4\n\
         -chardev stdio,id=serial0\n-serial chardev:serial0\n\
         -chardev pty,id=serial1\n-serial chardev:serial1\n\
         -chardev null,id=serial2\n-serial chardev:serial2\n\
         -chardev file,id=serial3,path=/l,,1\n-serial chardev:serial3\n\
         -chardev socket,id=serial4,path=/s,,1,server=on,wait=off\n-serial chardev:serial4\n\
         -netdev user,id=net0\n-device e1000,netdev=net0,mac=52:54:00:1:2:3\n\
         -device virtio-balloon,id=balloon0\n-cpu max"
    );
}

#[test]
fn arguments_under_which_the_guest_would_be_another_are_refused() {
    let size = "its args change how many vCPUs, how much memory or which NUMA nodes it has";
    let named = "in its args: cpus, memory, pages and cells of the definition say that";
    for (args, error) in [
        (&["--daemonize"][..], "-daemonize: QEMU would leave the process that is bound"),
        (&["-readconfig", "a"], "-readconfig a: placer does not read this file"),
        (&["-m", "128M"], named),
        (&["--smp", "4"], named),
        (&["-device", "e1000", "-numa", "node,memdev=ram0"], named),
        (&["-machine", "smp.cpus=4"], size),
        (&["-object", "memory-backend-ram,id=a,size=1M"], size),
        (&["-version"], "its args only print something"),
    ] {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let found = written(&guest(1, 64, Qemu { args, ..Qemu::default() })).unwrap_err();
        assert!(found.replace('"', "").contains(error), "{found}");
    }
}

#[test]
fn descriptors_that_arguments_name_are_known() {
    let args = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for (text, expected) in [
        (
            "-netdev tap,id=n,fds=10:11,vhostfds=12:13 -device virtio-net,netdev=n",
            vec![10, 11, 12, 13],
        ),
        ("-add-fd fd=7,set=2,opaque=x -incoming fd:9 -chardev socket,id=a,fd=1", vec![7, 9]),
        (
            r#"-netdev {"type":"tap","fds":"8:9","z":[{"vhostfd":10}]} -device {"id":"fd"}"#,
            vec![8, 9, 10],
        ),
        ("-drive file=fd=x -device virtio-rng-pci", vec![]),
    ] {
        assert_eq!(named_descriptors(&args(text)), expected, "{text}");
    }
}

#[test]
fn descriptors_of_placer_itself_are_refused() {
    // As all of placer's, it does not stay open over an exec.
    let own = std::fs::File::open("/dev/null").unwrap();
    let own = std::os::fd::AsRawFd::as_raw_fd(&own);
    for (fd, refused) in [(own, true), (1 << 20, true), (1, false)] {
        let qemu = Qemu { args: vec![format!("fd={fd}")], ..Qemu::default() };
        let checked = check_descriptors(&guest(1, 64, qemu.clone()), &qemu);
        assert_eq!(checked.is_err(), refused, "{fd}: {checked:?}");
    }
}

#[test]
fn a_foreign_machine_is_emulated() {
    let qemu = |arch: &str| Qemu { arch: Some(arch.to_owned()), ..Qemu::default() };
    assert_eq!(accelerators(&qemu("sparc")), ["tcg"]);
    assert_eq!(emulator(&qemu("sparc")), "qemu-system-sparc");
    assert_eq!(accelerators(&qemu(host_arch())), ["kvm", "tcg"]);
}

#[test]
fn the_decision_is_emitted_as_options() {
    let Some(host) = host("two-nodes") else { return };
    let one = advice(&host, &[(1, 2.0, 100)]);
    let mut request: Request = "1.5:100".parse().unwrap();
    let emit = |request: &Request, advice: &Advice, mode| {
        super::super::emit(request, advice, &host, mode).unwrap().join("\n")
    };
    assert_eq!(
        emit(&request, &one, MemoryMode::Strict),
        "-machine memory-backend=ram0\n-smp cpus=2,sockets=1,cores=2,threads=1\n-m 100M\n\
         -object memory-backend-ram,id=ram0,size=100M,host-nodes=1,policy=bind"
    );
    let smp = "-smp cpus=2,sockets=1,cores=2,threads=1";
    assert_eq!(emit(&request, &one, MemoryMode::None), format!("{smp}\n-m 100M"));
    request.memory = Bytes::ZERO;
    assert_eq!(emit(&request, &one, MemoryMode::Strict), smp);
    request.memory = Bytes::from_mib(600).unwrap();
    let both = advice(&host, &[(0, 1.0, 300), (1, 1.0, 300)]);
    assert_eq!(
        emit(&request, &both, MemoryMode::Strict),
        "-smp cpus=2,sockets=2,cores=1,threads=1\n-m 600M\n\
         -object memory-backend-ram,id=ram0,size=300M,host-nodes=0,policy=bind\n\
         -object memory-backend-ram,id=ram1,size=300M,host-nodes=1,policy=bind\n\
         -numa node,nodeid=0,cpus=0,memdev=ram0\n-numa node,nodeid=1,cpus=1,memdev=ram1\n\
         -numa dist,src=0,dst=1,val=21\n-numa dist,src=1,dst=0,val=21"
    );
}

#[test]
fn firmware_in_qcow2_is_not_opened_as_raw() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let raw = file("code.fd", b"raw firmware");
    let image = file("vars.fd", b"QFI\xfb and tables");
    let with = |firmware| guest(1, 64, Qemu { firmware: Some(firmware), ..Qemu::default() });
    for (firmware, refused) in [
        (Firmware::Rom(raw.clone()), false),
        (Firmware::Flash { code: raw.clone(), variables: Some(raw.clone()) }, false),
        (Firmware::Flash { code: raw.clone(), variables: Some(image.clone()) }, true),
        (Firmware::Flash { code: image.clone(), variables: None }, true),
        (Firmware::Rom(image), true),
    ] {
        let guest = with(firmware);
        let Program::Qemu(qemu) = &guest.program else { panic!() };
        let found = check_firmware(&guest, qemu).map_err(|error| error.to_string());
        assert_eq!(found.is_err(), refused, "{found:?}");
        assert!(!refused || found.unwrap_err().contains("it is a qcow2 image"));
    }
}
