//! Guests as a domain definition describes them, made at random.

use placer_engine::{Bytes, CpuId, CpuShare, IdSet, NodeId};
use placer_launcher::domain::Outcome;
use placer_launcher::guest::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

fn set<T: placer_engine::Id>() -> impl Strategy<Value = IdSet<T>> {
    vec(0u32..5000, 1..8).prop_map(|ids| ids.into_iter().map(T::from_number).collect())
}

/// Text on one line, with what XML has to escape and what it has not.
fn line() -> impl Strategy<Value = String> {
    "[ -~äß€😀]{1,20}"
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._-]{1,10}"
}

/// An argument may hold line ends and tabs as well.
fn argument() -> impl Strategy<Value = String> {
    "[ -~\t\r\nä]{0,20}"
}

fn disk() -> impl Strategy<Value = Disk> {
    let device = prop_oneof![Just(DiskDevice::Disk), Just(DiskDevice::Cdrom)];
    let bus = prop_oneof![Just(DiskBus::Virtio), Just(DiskBus::Ide)];
    (line(), token(), device, bus, any::<bool>()).prop_map(
        |(file, format, device, bus, readonly)| {
            let readonly = readonly || device == DiskDevice::Cdrom;
            Disk { file, format, device, bus, readonly }
        },
    )
}

fn serial() -> impl Strategy<Value = Serial> {
    prop_oneof![
        Just(Serial::Pty),
        Just(Serial::Stdio),
        Just(Serial::Null),
        line().prop_map(Serial::File),
        line().prop_map(Serial::Unix),
    ]
}

fn firmware() -> impl Strategy<Value = Firmware> {
    prop_oneof![
        line().prop_map(Firmware::Rom),
        (line(), option::of(line()))
            .prop_map(|(code, variables)| Firmware::Flash { code, variables }),
    ]
}

fn network() -> impl Strategy<Value = Network> {
    prop_oneof![
        Just(Network::None),
        (option::of(token()), option::of("[0-9a-f]{2}(:[0-9A-F]{2}){5}"))
            .prop_map(|(model, mac)| Network::User { model, mac }),
    ]
}

fn qemu() -> impl Strategy<Value = Qemu> {
    let accelerator = prop_oneof![Just(Accelerator::Kvm), Just(Accelerator::Tcg)];
    (
        (option::of(line()), option::of(token()), option::of(token()), accelerator),
        (option::of(firmware()), option::of(line()), option::of(line()), option::of(line())),
        (vec(disk(), 0..4), vec(serial(), 0..3), network(), 0u32..5, vec(argument(), 0..4)),
    )
        .prop_map(|(machine, start, devices)| Qemu {
            emulator: machine.0,
            arch: machine.1,
            machine: machine.2,
            accelerator: machine.3,
            firmware: start.0,
            kernel: start.1,
            initrd: start.2,
            cmdline: start.3,
            disks: devices.0,
            serials: devices.1,
            network: devices.2,
            iothreads: devices.3,
            args: devices.4,
        })
}

fn lxc() -> impl Strategy<Value = Lxc> {
    let root = prop_oneof![Just(LxcRoot::Host), line().prop_map(LxcRoot::Directory)];
    (root, option::of(line()), vec(argument(), 0..4)).prop_map(|(root, init, args)| Lxc {
        root,
        init,
        args,
        config: Vec::new(),
    })
}

/// CPUs, memory and what is asked for, as the elements about them can say it together.
fn place() -> impl Strategy<Value = (CpuPlacement, MemoryMode, NodeChoice, Required)> {
    let mode = proptest::sample::select(MemoryMode::ALL);
    let nodes = prop_oneof![Just(NodeChoice::Advised), set::<NodeId>().prop_map(NodeChoice::Fixed)];
    let required = (option::of(1u64..5000), option::of(1u64..1 << 40)).prop_map(|(cpus, kib)| {
        let cpus = cpus.map(|cpus| CpuShare::from_hundredths(cpus * 100));
        Required { cpus, memory: kib.map(|kib| Bytes::new(kib << 10)) }
    });
    (0..3, option::of(set::<CpuId>()), mode, nodes, required).prop_map(
        |(kind, cpus, mode, nodes, required)| {
            // Unbound memory has no nodes.
            let nodes = if mode == MemoryMode::None { NodeChoice::Advised } else { nodes };
            let asks = required != Required::default();
            match (kind, cpus) {
                (0, cpus) => {
                    let instead_of = cpus.filter(|_| asks);
                    (CpuPlacement::Advised { instead_of }, mode, nodes, required)
                }
                (_, Some(cpus)) => (CpuPlacement::Fixed(cpus), mode, nodes, Required::default()),
                // Memory by advice would take CPUs that nobody named along.
                (_, None) => match nodes {
                    NodeChoice::Advised => {
                        (CpuPlacement::All, MemoryMode::None, nodes, Required::default())
                    }
                    nodes => (CpuPlacement::All, mode, nodes, Required::default()),
                },
            }
        },
    )
}

fn pins(iothreads: u32) -> impl Strategy<Value = Pins> {
    let iothreads = if iothreads == 0 {
        Just(Default::default()).boxed()
    } else {
        btree_map(1..=iothreads, set::<CpuId>(), 0..3).boxed()
    };
    (btree_map(0u32..4, set::<CpuId>(), 0..3), option::of(set::<CpuId>()), iothreads)
        .prop_map(|(vcpus, emulator, iothreads)| Pins { vcpus, emulator, iothreads })
}

/// A guest that a domain definition describes wholly.
pub(crate) fn guest() -> impl Strategy<Value = Guest> {
    let program = prop_oneof![qemu().prop_map(Program::Qemu), lxc().prop_map(Program::Lxc)];
    program.prop_flat_map(|program| {
        let iothreads = match &program {
            Program::Qemu(qemu) => qemu.iothreads,
            _ => 0,
        };
        let pages = prop_oneof![
            Just(Pages::Ordinary),
            Just(Pages::HugeDefault),
            (10u32..40).prop_map(|bits| Pages::Huge(Bytes::new(1 << bits))),
        ];
        let name = "[!-.0-~ä][ -.0-~]{0,20}".prop_filter("no directory", |n| n != "." && n != "..");
        (
            (name, Just(program), 4u32..5000, 1u32..5),
            (1u64..1 << 40, 0u64..1 << 40, pages),
            (place(), pins(iothreads)),
        )
            .prop_map(
                |((name, program, maximum, current), (kib, less, pages), (place, pins))| {
                    let mut guest = Guest::new(name.parse().unwrap(), program);
                    guest.cpus = CpuCount { maximum, current };
                    guest.memory.maximum = Bytes::new(kib << 10);
                    guest.memory.current = Bytes::new((kib - less % kib) << 10);
                    guest.pages = pages;
                    guest.pins = pins;
                    (guest.placement, guest.mode, guest.nodes, guest.required) = place;
                    guest
                },
            )
    })
}

/// What may come of a launch.
pub(crate) fn outcome() -> impl Strategy<Value = Outcome> {
    (set::<CpuId>(), set::<NodeId>(), pins(0)).prop_map(|(cpus, nodes, pins)| Outcome {
        cpus,
        nodes,
        pins,
    })
}
