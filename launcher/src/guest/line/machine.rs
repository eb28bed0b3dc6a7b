//! What QEMU does by itself: names and sizes of machine types, the monitor, and options that are refused.

use placer_engine::Bytes;

/// Returns the architecture of an emulator by the name of its program.
pub(super) fn arch(program: &str) -> String {
    let own = || std::env::consts::ARCH.to_owned();
    program.strip_prefix("qemu-system-").map_or_else(own, str::to_owned)
}

/// Returns the name that the memory of a machine type has when QEMU makes it. A backend of this name takes its
/// place: saved guests and migration find memory by its name. `None`: not known.
pub(super) fn ram_name(arch: &str, kind: Option<&str>) -> Option<&'static str> {
    let kind = kind.unwrap_or_default();
    Some(match arch {
        "x86_64" | "i386" => match kind {
            "" | "pc" | "q35" => "pc.ram",
            "microvm" => "microvm.ram",
            _ if kind.starts_with("pc-") => "pc.ram",
            _ => return None,
        },
        "aarch64" | "arm" if kind == "virt" || kind.starts_with("virt-") => "mach-virt.ram",
        "riscv64" | "riscv32" if kind == "virt" => "riscv_virt_board.ram",
        "ppc64" if kind.is_empty() || kind.starts_with("pseries") => "ppc_spapr.ram",
        "s390x" if kind.is_empty() || kind.starts_with("s390-ccw-virtio") => "s390.ram",
        _ => return None,
    })
}

/// Returns the memory of a machine whose line says nothing about it.
pub(super) fn default_memory(arch: &str, kind: Option<&str>) -> Bytes {
    let pseries = arch == "ppc64" && kind.is_none_or(|kind| kind.starts_with("pseries"));
    Bytes::new(if pseries { 512 << 20 } else { 128 << 20 })
}

/// Returns why an option is refused.
pub(super) fn refused(name: &str, value: &str) -> Option<&'static str> {
    // What -set changes, by the group of its option.
    let set = ["object.", "memory.", "numa.", "smp-opts.", "machine.", "device."];
    match name {
        "daemonize" => Some(
            "QEMU would leave the process that is bound and waited for; start placer in the background",
        ),
        "preconfig" => Some("QEMU has no vCPUs to pin before it leaves this state"),
        "readconfig" => {
            Some("placer does not read this file; write its options into the command line")
        }
        "xen-attach" | "xen-domid" | "xen-create" => Some("Xen places its domains itself"),
        "set" if set.iter().any(|group| value.starts_with(group)) => {
            Some("it changes another option; write the property there")
        }
        _ => None,
    }
}

/// What a line says about its monitor and serial ports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Console {
    nographic: bool,
    has_monitor: bool,
    has_serial: bool,
}

impl Console {
    pub(super) fn see(&mut self, name: &str) {
        match name {
            "nographic" => self.nographic = true,
            "monitor" | "mon" | "qmp" | "qmp-pretty" | "nodefaults" => self.has_monitor = true,
            "serial" => self.has_serial = true,
            _ => {}
        }
    }

    /// Notes a device: this one takes the place of the serial port that QEMU would make. Consoles of s390x do not.
    pub(super) fn has_device(&mut self, driver: &str) {
        self.has_serial |= driver == "isa-serial";
    }

    /// Returns the options for the monitor that QEMU would have without ours.
    pub(super) fn default_monitor(self) -> Vec<&'static str> {
        match (self.has_monitor, self.nographic, self.has_serial) {
            (true, ..) => Vec::new(),
            (false, false, _) => vec!["-monitor", "vc:80Cx24C"],
            (false, true, false) => vec!["-serial", "mon:stdio"],
            (false, true, true) => vec!["-monitor", "stdio"],
        }
    }
}
