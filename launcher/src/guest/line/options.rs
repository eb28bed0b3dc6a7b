//! The words of a command line as options and their values.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

/// Options without a value, of QEMU 4 to 10.
pub(super) const FLAGS: &[&str] = &[
    "S",
    "alt-grab",
    "async-teardown",
    "audio-help",
    "ctrl-grab",
    "curses",
    "daemonize",
    "enable-fips",
    "enable-hax",
    "enable-kvm",
    "enable-sync-profile",
    "full-screen",
    "h",
    "help",
    "jitdump",
    "mem-prealloc",
    "no-acpi",
    "no-fd-bootchk",
    "no-hpet",
    "no-kvm",
    "no-quit",
    "no-reboot",
    "no-shutdown",
    "no-user-config",
    "nodefaults",
    "nodefconfig",
    "nographic",
    "old-param",
    "one-insn-per-tb",
    "only-migratable",
    "perfmap",
    "portrait",
    "preconfig",
    "s",
    "sdl",
    "semihosting",
    "show-cursor",
    "singlestep",
    "snapshot",
    "usb",
    "version",
    "win2k-hack",
    "xen-attach",
    "xen-create",
    "xen-domid-restrict",
];

/// Options with a value, of the same.
pub(super) const VALUED: &[&str] = &[
    "D",
    "L",
    "M",
    "accel",
    "acpitable",
    "action",
    "add-fd",
    "append",
    "audio",
    "audiodev",
    "balloon",
    "bios",
    "blockdev",
    "boot",
    "bt",
    "cdrom",
    "chardev",
    "chroot",
    "compat",
    "cpu",
    "d",
    "debugcon",
    "device",
    "dfilter",
    "display",
    "drive",
    "dtb",
    "dump-vmstate",
    "echr",
    "fda",
    "fdb",
    "fsdev",
    "fw_cfg",
    "g",
    "gdb",
    "global",
    "hda",
    "hdb",
    "hdc",
    "hdd",
    "icount",
    "incoming",
    "initrd",
    "iscsi",
    "k",
    "kernel",
    "loadvm",
    "m",
    "machine",
    "mem-path",
    "mon",
    "monitor",
    "msg",
    "mtdblock",
    "name",
    "net",
    "netdev",
    "nic",
    "numa",
    "object",
    "option-rom",
    "overcommit",
    "parallel",
    "pflash",
    "pidfile",
    "plugin",
    "prom-env",
    "qmp",
    "qmp-pretty",
    "qtest",
    "qtest-log",
    "readconfig",
    "rotate",
    "rtc",
    "run-with",
    "runas",
    "sandbox",
    "sd",
    "seed",
    "semihosting-config",
    "serial",
    "set",
    "shim",
    "smbios",
    "smp",
    "soundhw",
    "spice",
    "startdate",
    "tb-size",
    "tpmdev",
    "trace",
    "usbdevice",
    "uuid",
    "vga",
    "virtfs",
    "virtioconsole",
    "vnc",
    "watchdog",
    "watchdog-action",
    "writeconfig",
    "xen-domid",
];

/// Options that list what there is when their value is `help`.
const LISTING: &[&str] = &[
    "M", "accel", "audio", "audiodev", "chardev", "cpu", "d", "device", "display", "global",
    "machine", "net", "netdev", "nic", "object", "soundhw", "tpmdev", "trace", "vga", "watchdog",
];

/// An option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Its name, without its hyphens.
    pub(super) name: String,
    /// Its value; empty where it has none. Bytes that are not UTF-8 are replaced.
    pub(super) value: String,
    /// Which word of the line has the value.
    pub(super) at: usize,
}

impl Word {
    /// Returns whether QEMU prints something and ends.
    pub(super) fn only_prints(&self) -> bool {
        let listed = |word: &str| {
            let last = word.rsplit(',').next().unwrap_or(word);
            matches!(last, "help" | "?")
        };
        match self.name.as_str() {
            "h" | "help" | "version" | "audio-help" => true,
            name => LISTING.contains(&name) && listed(&self.value),
        }
    }
}

/// The options of a line, in order.
pub(super) struct Words<'a> {
    argv: &'a [OsString],
    next: usize,
}

impl<'a> Words<'a> {
    /// Returns the options of a line whose first word is the program.
    pub(super) fn of(argv: &'a [OsString]) -> Self {
        Self { argv, next: 1 }
    }
}

impl Iterator for Words<'_> {
    type Item = Result<Word, String>;

    /// Errors: an option whose value is missing.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at = self.next;
            let word = self.argv.get(at)?;
            self.next += 1;
            // A word without a hyphen is a disk image.
            let Some(name) = word.as_bytes().strip_prefix(b"-") else { continue };
            let name = name.strip_prefix(b"-").unwrap_or(name);
            let name = String::from_utf8_lossy(name).into_owned();
            let value = self.argv.get(at + 1);
            let is_option = |value: &OsString| value.as_bytes().starts_with(b"-");
            let valued = match (VALUED.contains(&name.as_str()), value) {
                (true, None) => return Some(Err(format!("-{name}: its value is missing"))),
                (true, Some(_)) => true,
                (false, _) if FLAGS.contains(&name.as_str()) => false,
                // Of a later QEMU: a value if what follows looks like one.
                (false, value) => value.is_some_and(|value| !is_option(value)),
            };
            self.next += usize::from(valued);
            let value = value.filter(|_| valued);
            let value = value.map(|value| value.to_string_lossy().into_owned());
            return Some(Ok(Word { name, value: value.unwrap_or_default(), at: at + 1 }));
        }
    }
}
