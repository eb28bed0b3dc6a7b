//! `<os>` and `<devices>`: what is started.

use super::{domain, notes, read};
use crate::definition::parse_list;
use crate::guest::*;

/// A machine with most of what there is.
pub(super) const MACHINE: &str = "<?xml version='1.0'?>
        <domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
          <name>vm</name>
          <memory unit='GiB'>2</memory>
          <memoryBacking><hugepages><page size='2' unit='M'/></hugepages></memoryBacking>
          <vcpu>2</vcpu>
          <iothreads>1</iothreads>
          <cputune>
            <vcpupin vcpu='1' cpuset='3'/><emulatorpin cpuset='0'/><iothreadpin iothread='1' cpuset='1'/>
          </cputune>
          <os>
            <type arch='x86_64' machine='q35'>hvm</type>
            <loader readonly='yes' type='pflash'>/code.fd</loader><nvram>/vars.fd</nvram>
            <kernel>/vmlinuz</kernel><initrd>/initrd</initrd><cmdline>a=&quot;b&#x26;c&quot; <![CDATA[<d>]]></cmdline>
          </os>
          <devices>
            <emulator>/usr/bin/qemu-system-x86_64</emulator>
            <disk type='file'><source file='/a.img'/><target dev='vda'/></disk>
            <disk type='file' device='cdrom'><driver type='raw'/><source file='/b.iso'/></disk>
            <disk type='file'><driver type='qcow2'/><source file='/c'/><target dev='sda' bus='sata'/><readonly/></disk>
            <serial type='unix'><source mode='bind' path='/s'/></serial>
            <console type='pty'><target type='serial'/></console>
            <interface type='user'><mac address='52:54:00:aa:BB:01'/><model type='e1000'/></interface>
          </devices>
          <qemu:commandline><qemu:arg value='-no&#10;shutdown'/></qemu:commandline>
        </domain>";

#[test]
fn a_machine() {
    let some = |text: &str| Some(text.to_owned());
    let disk = |file: &str, format: &str, device, bus, readonly| Disk {
        file: file.to_owned(),
        format: format.to_owned(),
        device,
        bus,
        readonly,
    };
    let qemu = Qemu {
        emulator: some("/usr/bin/qemu-system-x86_64"),
        arch: some("x86_64"),
        machine: some("q35"),
        accelerator: Accelerator::Tcg,
        firmware: Some(Firmware::Flash {
            code: "/code.fd".to_owned(),
            variables: some("/vars.fd"),
        }),
        kernel: some("/vmlinuz"),
        initrd: some("/initrd"),
        cmdline: some("a=\"b&c\" <d>"),
        disks: vec![
            disk("/a.img", "raw", DiskDevice::Disk, DiskBus::Virtio, false),
            disk("/b.iso", "raw", DiskDevice::Cdrom, DiskBus::Ide, true),
            disk("/c", "qcow2", DiskDevice::Disk, DiskBus::Ide, true),
        ],
        serials: vec![Serial::Unix("/s".to_owned())],
        network: Network::User { model: some("e1000"), mac: some("52:54:00:aa:BB:01") },
        iothreads: 1,
        args: vec!["-no\nshutdown".to_owned()],
    };
    let guest = read(MACHINE).unwrap();
    assert_eq!(guest.program, Program::Qemu(qemu));
    assert_eq!(guest.pages, Pages::Huge(placer_engine::Bytes::new(2 << 20)));
    assert_eq!(guest.pins.vcpus, [(1, parse_list("3").unwrap())].into());
    assert_eq!(guest.pins.emulator, Some(parse_list("0").unwrap()));
    assert_eq!(guest.pins.iothreads, [(1, parse_list("1").unwrap())].into());
    assert_eq!(notes(MACHINE), Vec::<String>::new());
}

#[test]
fn a_container() {
    let text = domain(
        "lxc",
        "<os><type>exe</type><init>/bin/sh</init><initarg>-c</initarg><initarg> true </initarg></os>
         <devices><filesystem type='mount'><source dir='/srv'/><target dir='/'/></filesystem>
         <console type='pty'/></devices>",
    );
    let lxc = Lxc {
        root: LxcRoot::Directory("/srv".to_owned()),
        init: Some("/bin/sh".to_owned()),
        args: vec!["-c".to_owned(), " true ".to_owned()],
        config: Vec::new(),
    };
    assert_eq!(read(&text).map(|guest| guest.program), Ok(Program::Lxc(lxc)));
}
