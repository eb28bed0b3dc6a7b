use placer_engine::{Advice, Bytes, NodeId, NodeSet, Request, Share, Snapshot, advise};

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

fn shown(guest: &Guest, advice: &Advice, snapshot: &Snapshot) -> String {
    let Program::Qemu(qemu) = &guest.program else { panic!("a machine") };
    let shape = Shape::of(guest, Some(advice), snapshot).expect("a shape");
    let argv = argv(guest, qemu, &shape, snapshot.topology().distances(), 7);
    let argv: Vec<String> = argv.into_iter().map(|arg| arg.into_string().unwrap()).collect();
    argv.join(" ").replace(" -", "\n-")
}

/// What every command line begins and ends with.
fn whole(middle: &str) -> String {
    let arch = host_arch();
    format!(
        "qemu-system-{arch}\n-name guest=web,debug-threads=on\n-S\n-no-user-config\n-nodefaults\n\
         -display none\n{middle}\n\
         -chardev socket,id=placer-qmp,fd=7\n-mon chardev=placer-qmp,mode=control"
    )
}

#[test]
fn a_machine_of_one_node_has_its_memory_bound_there() {
    let Some(host) = host("two-nodes") else { return };
    let advice = advice(&host, &[(1, 2.0, 100)]);
    let mut guest = guest(2, 100, Qemu::default());
    for (mode, bound) in [
        (MemoryMode::Strict, ",host-nodes=1,policy=bind"),
        (MemoryMode::Preferred, ",host-nodes=1,policy=preferred"),
        (MemoryMode::Interleave, ",host-nodes=1,policy=interleave"),
    ] {
        guest.mode = mode;
        let expected = whole(&format!(
            "-machine memory-backend=ram0\n-accel kvm\n-accel tcg\n-smp cpus=2\n-m 100M\n\
             -object memory-backend-ram,id=ram0,size=100M{bound}"
        ));
        assert_eq!(shown(&guest, &advice, &host), expected, "{mode}");
    }
    // What QEMU has no policy for is left to that of the process.
    for mode in [MemoryMode::PreferredMany, MemoryMode::WeightedInterleave, MemoryMode::None] {
        guest.mode = mode;
        let expected = whole("-accel kvm\n-accel tcg\n-smp cpus=2\n-m 100M");
        assert_eq!(shown(&guest, &advice, &host), expected, "{mode}");
        let shape = Shape::of(&guest, Some(&advice), &host).unwrap();
        assert_eq!(shape.notes.len(), usize::from(mode != MemoryMode::None), "{:?}", shape.notes);
    }
}

#[test]
fn a_machine_wider_than_a_node_has_nodes_that_match() {
    let Some(host) = host("two-nodes") else { return };
    let advice = advice(&host, &[(0, 4.0, 300), (1, 4.0, 301)]);
    let mut guest = guest(8, 601, Qemu { accelerator: Accelerator::Tcg, ..Qemu::default() });
    let expected = whole(
        "-accel tcg\n-smp cpus=8,sockets=2,cores=4,threads=1\n-m 601M\n\
         -object memory-backend-ram,id=ram0,size=300M,host-nodes=0,policy=bind\n\
         -object memory-backend-ram,id=ram1,size=301M,host-nodes=1,policy=bind\n\
         -numa node,nodeid=0,cpus=0-3,memdev=ram0\n-numa node,nodeid=1,cpus=4-7,memdev=ram1\n\
         -numa dist,src=0,dst=1,val=21\n-numa dist,src=1,dst=0,val=21",
    );
    assert_eq!(shown(&guest, &advice, &host), expected);
    // Nodes that are not alike: no two vCPUs share a socket, so none spans nodes.
    guest.cpus.current = 3;
    guest.cpus.maximum = 5;
    guest.mode = MemoryMode::Preferred;
    let expected = whole(
        "-accel tcg\n-smp cpus=3,maxcpus=5,sockets=5,cores=1,threads=1\n-m 601M\n\
         -object memory-backend-ram,id=ram0,size=300M,host-nodes=0,policy=preferred\n\
         -object memory-backend-ram,id=ram1,size=301M,host-nodes=1,policy=preferred\n\
         -numa node,nodeid=0,cpus=0-1,cpus=3,memdev=ram0\n\
         -numa node,nodeid=1,cpus=2,cpus=4,memdev=ram1\n\
         -numa dist,src=0,dst=1,val=21\n-numa dist,src=1,dst=0,val=21",
    );
    assert_eq!(shown(&guest, &advice, &host), expected);
    // Pages that go round have no node that the machine could be told.
    guest.mode = MemoryMode::Interleave;
    let expected = whole(
        "-machine memory-backend=ram0\n-accel tcg\n-smp cpus=3,maxcpus=5\n-m 601M\n\
         -object memory-backend-ram,id=ram0,size=601M,host-nodes=0-1,policy=interleave",
    );
    assert_eq!(shown(&guest, &advice, &host), expected);
    // Nor have nodes that were named by hand.
    guest.mode = MemoryMode::Strict;
    guest.nodes = NodeChoice::Fixed([NodeId(1)].into_iter().collect());
    let expected = whole(
        "-machine memory-backend=ram0\n-accel tcg\n-smp cpus=3,maxcpus=5\n-m 601M\n\
         -object memory-backend-ram,id=ram0,size=601M,host-nodes=1,policy=bind",
    );
    assert_eq!(shown(&guest, &advice, &host), expected);
}

#[test]
fn nodes_without_cpus_or_memory_are_told_as_they_are() {
    let Some(host) = host("uneven-8") else { return };
    let advice = advice(&host, &[(1, 1.0, 0), (3, 0.0, 60), (6, 3.0, 300)]);
    let guest = guest(4, 360, Qemu { accelerator: Accelerator::Kvm, ..Qemu::default() });
    let expected = whole(
        "-accel kvm\n-smp cpus=4,sockets=4,cores=1,threads=1\n-m 360M\n\
         -object memory-backend-ram,id=ram0,size=60M,host-nodes=3,policy=bind\n\
         -object memory-backend-ram,id=ram1,size=300M,host-nodes=6,policy=bind\n\
         -numa node,nodeid=0,memdev=ram0\n-numa node,nodeid=1,cpus=1-3,memdev=ram1\n\
         -numa node,nodeid=2,cpus=0\n\
         -numa dist,src=0,dst=1,val=32\n-numa dist,src=0,dst=2,val=20\n\
         -numa dist,src=1,dst=0,val=32\n-numa dist,src=1,dst=2,val=32\n\
         -numa dist,src=2,dst=0,val=20\n-numa dist,src=2,dst=1,val=32",
    );
    assert_eq!(shown(&guest, &advice, &host), expected);
}

#[test]
fn huge_pages_come_from_a_backend_of_their_own_and_are_taken_at_once() {
    let Some(host) = host("two-nodes") else { return };
    let advice = advice(&host, &[(0, 1.0, 150), (1, 1.0, 150)]);
    let mut guest = guest(2, 300, Qemu::default());
    guest.pages = Pages::Huge(Bytes::from_mib(2).unwrap());
    let text = shown(&guest, &advice, &host);
    let objects: Vec<&str> = text.lines().filter(|line| line.contains("memory-backend")).collect();
    let huge = "hugetlb=on,hugetlbsize=2M,prealloc=on";
    assert_eq!(
        objects,
        [
            format!(
                "-object memory-backend-memfd,id=ram0,size=150M,{huge},host-nodes=0,policy=bind"
            ),
            format!(
                "-object memory-backend-memfd,id=ram1,size=150M,{huge},host-nodes=1,policy=bind"
            ),
        ]
    );
    // Whole pages on each node, and as much as was asked for in all.
    guest.memory.maximum = Bytes::from_mib(302).unwrap();
    let shape = Shape::of(&guest, Some(&advice), &host).unwrap();
    let parts: Vec<u64> = shape.cells.iter().map(|cell| cell.memory.whole_mib()).collect();
    assert_eq!(parts, [152, 150]);
    guest.pages = Pages::Huge(Bytes::from_mib(1024).unwrap());
    let error = Shape::of(&guest, Some(&advice), &host).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot make 302 MiB of memory from huge pages of 1024 MiB: not a multiple; the next one is 1024 MiB"
    );
    // Without nodes to bind to as well.
    guest.mode = MemoryMode::None;
    guest.pages = Pages::HugeDefault;
    let text = shown(&guest, &advice, &host);
    assert!(
        text.contains("-object memory-backend-memfd,id=ram0,size=302M,hugetlb=on,prealloc=on\n")
    );
}

#[test]
fn every_device_of_a_definition_is_there() {
    let Some(host) = host("one-node") else { return };
    let advice = advice(&host, &[(0, 1.0, 64)]);
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
    };
    let mut guest = guest(1, 64, qemu);
    guest.name = "a,b".parse().unwrap();
    guest.memory.current = Bytes::from_mib(32).unwrap();
    guest.mode = MemoryMode::None;
    assert_eq!(
        shown(&guest, &advice, &host),
        "/opt/qemu\n-name guest=a,,b,debug-threads=on\n-S\n-no-user-config\n-nodefaults\n\
         -display none\n-machine q35\n-accel tcg\n-smp cpus=1\n-m 64M\n\
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
         -device virtio-balloon,id=balloon0\n\
         -chardev socket,id=placer-qmp,fd=7\n-mon chardev=placer-qmp,mode=control\n-cpu max"
    );
}

#[test]
fn what_would_leave_the_bound_process_is_refused() {
    let guest = guest(1, 64, Qemu { args: vec!["--daemonize".to_owned()], ..Qemu::default() });
    let Program::Qemu(qemu) = &guest.program else { panic!("a machine") };
    let error = check(&guest, qemu).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot start guest web with --daemonize: QEMU would leave the process that placer binds \
         and waits for; remove it"
    );
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
        "-machine memory-backend=ram0\n-smp cpus=2\n-m 100M\n\
         -object memory-backend-ram,id=ram0,size=100M,host-nodes=1,policy=bind"
    );
    assert_eq!(emit(&request, &one, MemoryMode::None), "-smp cpus=2\n-m 100M");
    request.memory = Bytes::ZERO;
    assert_eq!(emit(&request, &one, MemoryMode::Strict), "-smp cpus=2");
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
