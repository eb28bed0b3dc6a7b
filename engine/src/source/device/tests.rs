//! What people call devices, on hosts made for it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

/// Two controllers of one subsystem, network interfaces on nodes 1 and 3, two GPUs.
struct Made(tempfile::TempDir);

impl Made {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().expect("a directory"));
        for (address, class, node) in [
            ("0000:01:00.0", "0x020000", "1"),
            ("0000:81:00.0", "0x020000", "3"),
            ("0000:82:00.0", "0x010802", "2"),
            ("0000:83:00.0", "0x010802", "2"),
            ("0000:c1:00.0", "0x030200", "3"),
            ("0001:c1:00.0", "0x030000", "0"),
            ("0000:00:02.0", "0x010000", "-1"),
        ] {
            let dir = format!("devices/pci/{address}");
            made.file(&format!("{dir}/class"), class);
            made.file(&format!("{dir}/numa_node"), node);
            made.link(&format!("bus/pci/devices/{address}"), &format!("../../../{dir}"));
        }
        for (class, name, dir) in [
            ("net", "eth0", "pci/0000:01:00.0/net/eth0"),
            ("net", "eth1", "pci/0000:81:00.0/net/eth1"),
            ("net", "bond0", "virtual/net/bond0"),
            ("net", "bond1", "virtual/net/bond1"),
            ("net", "eth1.100", "virtual/net/eth1.100"),
            ("net", "br0", "virtual/net/br0"),
            ("net", "tap0", "virtual/net/tap0"),
            ("net", "ring0", "virtual/net/ring0"),
            ("nvme", "nvme0", "pci/0000:82:00.0/nvme/nvme0"),
            ("nvme", "nvme1", "pci/0000:83:00.0/nvme/nvme1"),
            ("block", "nvme0n1", "virtual/nvme-subsystem/nvme-subsys0/nvme0n1"),
            ("block", "nvme0n1p1", "virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p1"),
            ("nvme-subsystem", "nvme-subsys0", "virtual/nvme-subsystem/nvme-subsys0"),
            ("block", "md0", "virtual/block/md0"),
            ("block", "dm-0", "virtual/block/dm-0"),
            ("block", "vda", "pci/0000:00:02.0/virtio0/block/vda"),
            ("block", "cciss!c0d0", "pci/0000:82:00.0/cciss!c0d0"),
            ("infiniband", "mlx5_0", "pci/0000:81:00.0/infiniband/mlx5_0"),
            ("drm", "card1", "pci/0000:c1:00.0/drm/card1"),
        ] {
            fs::create_dir_all(made.path(&format!("devices/{dir}"))).expect("made");
            made.link(&format!("class/{class}/{name}"), &format!("../../devices/{dir}"));
        }
        let lower = |of: &str, name: &str, to: &str| {
            made.link(&format!("devices/virtual/net/{of}/lower_{name}"), to);
        };
        lower("bond0", "eth1", "../../../pci/0000:81:00.0/net/eth1");
        lower("bond1", "eth0", "../../../pci/0000:01:00.0/net/eth0");
        lower("bond1", "eth1", "../../../pci/0000:81:00.0/net/eth1");
        lower("eth1.100", "bond0", "../bond0");
        lower("br0", "eth1.100", "../eth1.100");
        lower("br0", "tap0", "../tap0");
        lower("ring0", "ring0", "../ring0");
        let subsystem = "devices/virtual/nvme-subsystem/nvme-subsys0";
        for (nvme, address) in [("nvme0", "0000:82:00.0"), ("nvme1", "0000:83:00.0")] {
            let to = format!("../../../pci/{address}/nvme/{nvme}");
            made.link(&format!("{subsystem}/{nvme}"), &to);
        }
        made.file(&format!("{subsystem}/nvme0n1/nvme0n1p1/partition"), "1");
        made.link(
            "devices/virtual/block/md0/slaves/nvme0n1p1",
            "../../../nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p1",
        );
        made.link("devices/virtual/block/dm-0/slaves/md0", "../../md0");
        made.file("devices/virtual/block/dm-0/dm/name", "vg--0-guest\n");
        made
    }

    fn path(&self, relative: &str) -> std::path::PathBuf {
        self.0.path().join("sys").join(relative)
    }

    fn file(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn link(&self, relative: &str, to: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        symlink(Path::new(to), path).expect("linked");
    }

    fn node(&self, name: &str) -> Result<u32, String> {
        node_of(&SysRoot::at(self.0.path()), name).map(|node| node.0).map_err(|e| e.to_string())
    }
}

#[test]
fn devices_are_found_by_what_people_type() {
    let made = Made::new();
    made.file("devices/pci/0001:c1:00.0/unique_id", "1a2b3c4d5e6f7081\n");
    for (name, node) in [
        ("0000:81:00.0", 3),
        ("81:00.0", 3),
        ("81:0.0", 3),
        ("81:00", 3),
        ("00000000:C1:00.0", 3),
        ("0001:c1:00.0", 0),
        ("eth0", 1),
        ("bond0", 3),
        ("eth1.100", 3),
        ("br0", 3),
        ("nvme0", 2),
        ("nvme0n1", 2),
        ("/dev/nvme0n1", 2),
        ("nvme0n1p1", 2),
        ("nvme-subsys0", 2),
        ("md0", 2),
        ("dm-0", 2),
        ("vg--0-guest", 2),
        ("vg-0/guest", 2),
        ("/dev/vg-0/guest", 2),
        ("/dev/mapper/vg--0-guest", 2),
        ("/dev/cciss/c0d0", 2),
        ("mlx5_0", 3),
        ("mlx5_0:1", 3),
        ("card1", 3),
        ("gpu0", 3),
        ("gpu1", 0),
        ("GPU-1a2b3c4d5e6f7081", 0),
        ("0x1A2B3C4D5E6F7081", 0),
    ] {
        assert_eq!(made.node(name), Ok(node), "{name}");
    }
}

#[test]
fn nvidias_gpus_are_counted_by_their_driver_and_found_by_uuid() {
    let made = Made::new();
    let gpus = made.0.path().join("proc/driver/nvidia/gpus/0001:c1:00.0");
    fs::create_dir_all(&gpus).expect("made");
    let about =
        "Model: \t\t A GPU\nGPU UUID: \t GPU-8d2f0000-0000-0000-0000-00000000abcd\nDMA Size: 47\n";
    fs::write(gpus.join("information"), about).expect("written");
    assert_eq!(made.node("gpu0"), Ok(0));
    assert!(made.node("gpu1").is_err());
    assert_eq!(made.node("GPU-8d2f0000-0000-0000-0000-00000000abcd"), Ok(0));
    assert_eq!(made.node("gpu-8D2F0000-0000-0000-0000-00000000ABCD"), Ok(0));
    assert!(made.node("GPU-8d2f0000-0000-0000-0000-00000000abce").is_err());
}

#[test]
fn devices_that_are_on_no_one_node_say_why() {
    let made = Made::new();
    for (name, part) in [
        ("bond1", "device \"bond1\": the devices below it are on several nodes (eth0: 1, eth1: 3)"),
        ("tap0", "device \"tap0\": no hardware is below it"),
        ("ring0", "device \"ring0\": no hardware is below it"),
        ("vda", "vda: the kernel does not know the node of this device (numa_node is -1)"),
        (
            "nosuch0",
            "no device \"nosuch0\" on this host; devices: bond0 (node 3), bond1 (node not known), \
             br0",
        ),
        ("gpu9", ", gpu0 (node 3), gpu1 (node 0)"),
        ("81:01.0", " on this host; devices: "),
        ("../etc", "device \"../etc\": expected a PCI address"),
        ("", "device \"\": expected a PCI address"),
        ("a b", "expected a PCI address"),
        ("/dev/", "expected a PCI address"),
    ] {
        let error = made.node(name).expect_err(name);
        assert!(error.contains(part), "{name}: {error}");
    }
}

#[test]
fn what_exists_is_listed_with_a_bound() {
    let made = Made::new();
    for at in 0..500 {
        let dir = format!("pci/0000:81:00.0/net/eth1v{at}");
        fs::create_dir_all(made.path(&format!("devices/{dir}"))).expect("made");
        made.link(&format!("class/net/eth1v{at}"), &format!("../../devices/{dir}"));
    }
    let error = made.node("nosuch0").expect_err("no such device");
    assert_eq!(error.matches("(node ").count(), MOST_LISTED, "{error}");
    assert!(error.ends_with(" more") && error.len() < 1000, "{error}");
}

#[test]
fn nothing_outside_sys_is_read() {
    let made = Made::new();
    let outside = made.0.path().join("outside");
    fs::create_dir(&outside).expect("made");
    fs::write(outside.join("numa_node"), "1").expect("written");
    made.link("class/net/evil0", "../../../outside");
    made.link("devices/virtual/net/tap0/lower_evil", "../../../../../outside");
    made.link("devices/virtual/net/tap0/device", "../../../../../outside");
    for name in ["evil0", "tap0"] {
        let error = made.node(name).expect_err(name);
        assert!(error.contains("no hardware is below it"), "{error}");
    }
}

#[test]
fn a_damaged_numa_node_is_named() {
    let made = Made::new();
    for text in ["", "x", "-2", "4294967296", "1 2"] {
        made.file("devices/pci/0000:01:00.0/numa_node", text);
        let root = SysRoot::at(made.0.path());
        let error = node_of(&root, "eth0").expect_err("damaged");
        assert!(matches!(error, DeviceError::Source(_)), "{text:?}: {error}");
    }
}

#[test]
fn a_mark_answers_for_a_name_and_does_not_hold_it() {
    let (name, mark) = ("vg0-guest", mark(b"VG0-guest"));
    assert!(names::is_disguised(mark.as_bytes(), name.as_bytes()) && is_mark(mark.as_bytes()));
    assert!(!mark.contains("guest") && !names::is_disguised(mark.as_bytes(), mark.as_bytes()));
    assert!(!names::is_disguised(mark.as_bytes(), b"vg0-guesu"));
}
