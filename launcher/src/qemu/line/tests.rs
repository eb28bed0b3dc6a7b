use placer_engine::{Request, advise};
use proptest::prelude::*;

use super::super::Launch;
use super::*;
use crate::guest::Program;
use crate::recorded::host;
use crate::step::Step;

fn guest(words: &[OsString], mode: Option<MemoryMode>) -> Guest {
    let line = Line::parse(words).expect("a good line").expect("a guest");
    let program = Program::Line(Box::new(line.clone()));
    let mut guest = Guest::new("web".parse().expect("a name"), program);
    guest.cpus = line.cpus;
    guest.memory.maximum = line.memory;
    guest.memory.current = line.memory;
    guest.mode = mode.unwrap_or_default();
    guest.mode_given = mode.is_some();
    guest.nodes = line.fixed_nodes().map_or(NodeChoice::Advised, NodeChoice::Fixed);
    guest
}

fn launch(
    words: &[OsString],
    mode: Option<MemoryMode>,
    host: &Snapshot,
) -> Result<Launch, LaunchError> {
    let guest = guest(words, mode);
    let ask = guest.ask();
    let mut request = Request::new(ask.cpus, ask.memory);
    if let NodeChoice::Fixed(nodes) = &guest.nodes {
        request = request.with_nodes(nodes.clone());
    }
    let advice = advise(host, &request).expect("an answer");
    assert!(advice.fits(), "{words:?}");
    Launch::new(&guest, Some(&advice), host)
}

fn words(line: &str) -> Vec<OsString> {
    line.split(' ').map(OsString::from).collect()
}

/// What a launch runs, without the user's own words at its start and the control channel at its end.
fn added(line: &str, mode: Option<MemoryMode>) -> Option<String> {
    let words = words(line);
    let launch = launch(&words, mode, &host("ring-4")?).expect("a plan");
    let argv = launch.argv(3);
    let end = argv.len() - 4;
    let kept = words.iter().zip(&argv).take_while(|(own, shown)| own == shown).count();
    assert_eq!(
        argv[end..].join(" ".as_ref()),
        "-chardev socket,id=placer-qmp,fd=3 -mon chardev=placer-qmp,mode=control"
    );
    Some(argv[kept..end].join(" ".as_ref()).into_string().expect("text"))
}

/// Twelve lines as guides have them: a plain server, a desktop, firmware, shared memory for virtiofs, huge pages,
/// DPDK's vhost-user, NUMA in both spellings, I/O threads, a PCI device of its own, a paused debug guest, ARM.
const GUIDES: [(&str, &str); 12] = [
    (
        "qemu-system-x86_64 -enable-kvm -m 96 -smp 2 -drive file=disk.qcow2,if=virtio -nic user,model=virtio",
        "-object memory-backend-ram,id=pc.ram,size=96M,host-nodes=0,policy=bind -machine memory-backend=pc.ram \
         -monitor vc:80Cx24C -S",
    ),
    (
        "qemu-system-x86_64 -M q35,accel=kvm -cpu host -m 120M -smp cores=1,threads=2 -vga virtio -display none \
         -device intel-hda -device hda-duplex -usb -device usb-tablet -cdrom live.iso -boot d",
        "-object memory-backend-ram,id=pc.ram,size=120M,host-nodes=0,policy=bind -machine memory-backend=pc.ram \
         -monitor vc:80Cx24C -S",
    ),
    (
        "qemu-system-x86_64 -nographic -machine q35 -m 100M -drive if=pflash,format=raw,readonly=on,file=code.fd \
         -drive if=pflash,format=raw,file=vars.fd",
        "-object memory-backend-ram,id=pc.ram,size=100M,host-nodes=0,policy=bind -machine memory-backend=pc.ram \
         -serial mon:stdio -S",
    ),
    (
        "qemu-kvm -m 128M -object memory-backend-memfd,id=mem,size=128M,share=on -numa node,memdev=mem \
         -chardev socket,id=fs,path=/run/fs.sock -device vhost-user-fs-pci,chardev=fs,tag=home -nodefaults",
        "memory-backend-memfd,id=mem,size=128M,share=on,host-nodes=0,policy=bind -numa node,memdev=mem -chardev \
         socket,id=fs,path=/run/fs.sock -device vhost-user-fs-pci,chardev=fs,tag=home -nodefaults -S",
    ),
    ("qemu-system-x86_64 -m 64M -mem-path /dev/hugepages -mem-prealloc -nodefaults", "-S"),
    (
        "qemu-system-x86_64 -nodefaults -m 64M -machine memory-backend=hp -object \
         memory-backend-file,id=hp,size=64M,mem-path=/dev/shm,share=on,prealloc=on -netdev \
         vhost-user,id=n,chardev=c,queues=2 -device virtio-net-pci,netdev=n,mq=on",
        "memory-backend-file,id=hp,size=64M,mem-path=/dev/shm,share=on,prealloc=on,host-nodes=0,policy=bind \
         -netdev vhost-user,id=n,chardev=c,queues=2 -device virtio-net-pci,netdev=n,mq=on -S",
    ),
    (
        "qemu-system-x86_64 -nodefaults -m 400M -smp 4,sockets=2 -object memory-backend-ram,size=200M,id=m0 \
         -object memory-backend-ram,size=200M,id=m1 -numa node,nodeid=0,memdev=m0 -numa node,nodeid=1,memdev=m1 \
         -numa dist,src=0,dst=1,val=20",
        "memory-backend-ram,size=200M,id=m0,host-nodes=0,policy=bind -object \
         memory-backend-ram,size=200M,id=m1,host-nodes=1,policy=bind -numa node,nodeid=0,memdev=m0 \
         -numa node,nodeid=1,memdev=m1 -numa dist,src=0,dst=1,val=20 -S",
    ),
    (
        "qemu-system-x86_64 -nodefaults -m 64M -object \
         {\"qom-type\":\"memory-backend-ram\",\"id\":\"m0\",\"size\":67108864} -numa node,memdev=m0",
        "{\"qom-type\":\"memory-backend-ram\",\"id\":\"m0\",\"size\":67108864,\"host-nodes\":[0],\"policy\":\"bind\"} \
         -numa node,memdev=m0 -S",
    ),
    (
        "qemu-system-x86_64 -qmp unix:/run/q,server=on,wait=off -m 64M -object iothread,id=io0 -drive \
         file=a.img,if=none,id=d0 -device virtio-blk-pci,drive=d0,iothread=io0",
        "-object memory-backend-ram,id=pc.ram,size=64M,host-nodes=0,policy=bind -machine memory-backend=pc.ram -S",
    ),
    (
        "qemu-system-x86_64 -nodefaults -m 64M -device vfio-pci,host=41:00.0 -device vfio-pci,host=41:00.1",
        "-object memory-backend-ram,id=pc.ram,size=64M,host-nodes=0,policy=bind -machine memory-backend=pc.ram -S",
    ),
    (
        "qemu-system-x86_64 -S -s -nodefaults -m 64M -kernel bzImage -append nokaslr",
        "-object memory-backend-ram,id=pc.ram,size=64M,host-nodes=0,policy=bind -machine memory-backend=pc.ram",
    ),
    (
        "qemu-system-aarch64 -nodefaults -M virt -cpu cortex-a57 -m 64M -device nvme,drive=d,serial=1 -device \
         virtio-gpu-pci",
        "-object memory-backend-ram,id=mach-virt.ram,size=64M,host-nodes=0,policy=bind -machine \
         memory-backend=mach-virt.ram -S",
    ),
];

#[test]
fn lines_of_guides_are_bound_and_else_kept() {
    for (line, expected) in GUIDES {
        let Some(added) = added(line, None) else { return };
        assert_eq!(added, expected, "{line}");
    }
}

#[test]
fn what_the_user_binds_is_kept_or_completed() {
    let backend = |words: &str| {
        format!(
            "qemu-kvm -S -nodefaults -m 64M -machine memory-backend=a -object memory-backend-ram,id=a,size=64M{words}"
        )
    };
    for (own, expected) in [
        (",host-nodes=2,policy=bind", ""),
        (",host-nodes=2-3,policy=interleave", ""),
        (",policy=default", ""),
        (",host-nodes=2", "memory-backend-ram,id=a,size=64M,host-nodes=2,policy=bind"),
        (",policy=preferred", "memory-backend-ram,id=a,size=64M,policy=preferred,host-nodes=0"),
        // One comma at the end separates, two are one in the value before.
        (",", "memory-backend-ram,id=a,size=64M,host-nodes=0,policy=bind"),
        (
            ",x-use-canonical-path-for-ramblock-id=a,,",
            "memory-backend-ram,id=a,size=64M,x-use-canonical-path-for-ramblock-id=a,,,host-nodes=0,policy=bind",
        ),
    ] {
        let Some(added) = added(&backend(own), None) else { return };
        assert_eq!(added, expected, "{own}");
    }
    let Some(host) = host("ring-4") else { return };
    for (own, mode, error) in [
        (",host-nodes=9,policy=bind", None, "host-nodes names node 9; this host has nodes 0-3"),
        (
            ",policy=bind",
            Some(MemoryMode::Interleave),
            "says policy=bind, which --mode interleave contradicts",
        ),
    ] {
        let guest = guest(&words(&backend(own)), mode);
        let advice = advise(&host, &"1:64".parse().expect("a request")).expect("an answer");
        let refused =
            Launch::new(&guest, Some(&advice), &host).expect_err("not to be had").to_string();
        assert!(refused.contains(error), "{refused}");
    }
}

#[test]
fn modes_without_a_word_of_qemu_leave_the_line_alone() {
    let line = "qemu-kvm -S -nodefaults -m 64M -object memory-backend-ram,id=a,size=64M -numa node,memdev=a";
    for mode in [MemoryMode::PreferredMany, MemoryMode::WeightedInterleave, MemoryMode::None] {
        let Some(added) = added(line, Some(mode)) else { return };
        assert_eq!(added, "", "{mode}");
    }
    let preferred = added(line, Some(MemoryMode::Preferred)).expect("a host");
    assert!(preferred.contains("size=64M,host-nodes=0,policy=preferred "), "{preferred}");
}

/// A guest wider than a node is one cell still, and load decides nothing about what it sees.
#[test]
fn a_wide_guest_keeps_its_shape() {
    let Some(host) = host("ring-4") else { return };
    let line = words("qemu-system-x86_64 -nodefaults -S -m 400M -smp 3");
    let wide = launch(&line, None, &host).expect("a plan");
    let argv = wide.argv(3).join(" ".as_ref()).into_string().expect("text");
    assert!(argv.contains(",size=400M,host-nodes=0-1,policy=interleave "), "{argv}");
    assert!(!argv.contains("-numa") && argv.matches("-smp").count() == 1, "{argv}");
    assert_eq!(wide.notes().count(), 2, "{:?}", wide.notes().collect::<Vec<_>>());
    let parts: Vec<u64> =
        wide.charged().split.iter().map(|share| share.memory.whole_mib()).collect();
    assert_eq!(parts, [200, 200]);
    // Where one node lacks room for its half, pages go where there is room.
    let uneven = launch(&words("qemu-system-x86_64 -nodefaults -S -m 500M -smp 4"), None, &host)
        .expect("a plan");
    let argv = uneven.argv(3).join(" ".as_ref()).into_string().expect("text");
    assert!(argv.contains(",size=500M,host-nodes=0-1,policy=bind "), "{argv}");
    let strict = launch(&line, Some(MemoryMode::Strict), &host).expect("a plan");
    assert_eq!(strict.shape().mode, MemoryMode::Strict);
}

#[test]
fn each_cell_goes_to_a_node_with_its_vcpus_and_is_claimed_there() {
    let Some(host) = host("ring-4") else { return };
    let line = words(
        "qemu-kvm -nodefaults -m 300M,maxmem=1G,slots=2 -smp 4 -object memory-backend-ram,id=a,size=200M -object \
         memory-backend-ram,id=b,size=100M -object memory-backend-ram,id=d,size=50M -numa \
         node,memdev=a,cpus=0,cpus=3 -numa node,memdev=b,cpus=1-2 -device pc-dimm,memdev=d,node=1",
    );
    let launch = launch(&line, None, &host).expect("a plan");
    let pins = launch.outer_steps().into_iter().filter_map(|step| match step {
        Step::Pin { thread, cpus } => Some(format!("{thread} {cpus}")),
        _ => None,
    });
    let pins: Vec<String> = pins.take(4).collect();
    assert_eq!(pins, ["vCPU 0 0-1", "vCPU 1 2-3", "vCPU 2 2-3", "vCPU 3 0-1"]);
    let argv = launch.argv(3).join(" ".as_ref()).into_string().expect("text");
    for bound in [
        "id=a,size=200M,host-nodes=0,",
        "id=b,size=100M,host-nodes=1,",
        "id=d,size=50M,host-nodes=1,",
    ] {
        assert!(argv.contains(bound), "{bound}: {argv}");
    }
    let split = &launch.charged().split;
    let shares = split.iter().map(|share| (share.node.0, share.cpus, share.memory.whole_mib()));
    assert_eq!(shares.collect::<Vec<_>>(), [(0, 2.0, 200), (1, 2.0, 150)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every word of the user is there, in order, as it was; a backend's has more behind it.
    #[test]
    fn words_are_kept_byte_for_byte(
        order in Just(vec![
            "-m 64M", "-smp 2,maxcpus=4", "-append \u{e9}=,,x", "-nodefaults", "-drive file=a,,b.img,if=virtio",
            "-object memory-backend-ram,id=a,size=64M", "-numa node,memdev=a", "-S", "--cpu max", "-no-reboot",
        ]).prop_shuffle(),
        mode in prop::sample::select(MemoryMode::ALL.to_vec()),
    ) {
        let Some(host) = host("ring-4") else { return Ok(()) };
        let words = words(&format!("qemu-system-x86_64 {}", order.join(" ")));
        let argv = launch(&words, Some(mode), &host).expect("a plan").argv(9);
        for (own, kept) in words.iter().zip(&argv) {
            let own = own.as_encoded_bytes();
            let backend = own.starts_with(b"memory-backend-");
            let kept = kept.as_encoded_bytes();
            prop_assert!(kept == own || (backend && kept.starts_with(own)), "{words:?} {argv:?}");
        }
        prop_assert!(argv.len() >= words.len() + 4);
    }
}

#[test]
fn vcpus_follow_host_nodes_beside_memory_of_devices() {
    let Some(host) = host("ring-4") else { return };
    let words = words(
        "qemu-system-x86_64 -m 8M -object memory-backend-ram,id=r,size=8M,host-nodes=3,policy=bind \
         -machine memory-backend=r -object memory-backend-ram,id=shm,size=4M -device ivshmem-plain,memdev=shm",
    );
    let launch = launch(&words, None, &host).expect("a plan");
    let advice = launch.charged();
    assert_eq!(advice.nodes.to_string(), "3");

    // A module on another node: what is claimed there is what is there.
    let words = self::words(
        "qemu-system-x86_64 -m 8M,slots=1,maxmem=16M -object memory-backend-ram,id=d,size=8M,host-nodes=3,policy=bind \
         -device pc-dimm,memdev=d",
    );
    let launch = self::launch(&words, None, &host).expect("a plan");
    let advice = launch.charged();
    let there = advice.split.iter().find(|share| share.node.0 == 3);
    assert_eq!(there.map(|share| share.memory.whole_mib()), Some(8));
    assert!(launch.binding().memory.contains(placer_engine::NodeId(3)), "a cpuset has to allow it");
}
