//! Guest files that are taken, and ones that are refused.

/// A file that holds most of what there is.
pub(super) const WHOLE: &str = r#"
name = "vm"
cpus = 4
memory = "2G"
pages = "1G"
mode = "preferred-many"
nodeset = "0-1"
cpuset = "0-3,^2"
[qemu]
accel = "tcg"
bios = "rom.bin"
serial = { file = "ä.log" }
args = ["-no-user-config"]
[[qemu.disks]]
file = "disk.qcow2"
format = "qcow2"
"#;

/// Lines that may stand in a file with a command, and ones that may not.
const LINES: &[(bool, &str)] = &[
    (true, ""),
    (true, "memory = 1"),
    (false, "memory = 0"),
    (false, "memory = -1"),
    (false, "memory = 1.5"),
    (true, "memory = \"8G\""),
    (true, "memory = \"007\""),
    (false, "memory = \"0K\""),
    (false, "memory = \"8GB\""),
    (false, "memory = \"8GiB\""),
    (false, "memory = \"8g\""),
    (false, "memory = \"\""),
    (false, "memory = \" 8G\""),
    (false, "memory = true"),
    (false, "memory = [1]"),
    (true, "pages = \"2M\""),
    (true, "pages = \"default\""),
    (false, "pages = \"3M\""),
    (false, "pages = \"1024K\""),
    (false, "pages = \"02M\""),
    (false, "pages = \"+2M\""),
    (false, "pages = 2"),
    (true, "near = \"eth0\""),
    (false, "near = \"\""),
    (false, "near = \"a\\nb\""),
    (true, "mode = \"none\""),
    (false, "mode = \"bind\""),
    (false, "mode = \"Strict\""),
    (true, "nodeset = \"0\""),
    (true, "nodeset = \"1-4,^3, 7\""),
    (false, "nodeset = \"^1-2\""),
    (false, "nodeset = \"\""),
    (false, "nodeset = \"1,\""),
    (false, "nodeset = \"all\""),
    (false, "nodeset = 1"),
    (true, "cpuset = \"all\""),
    (true, "cpuset = \"0-3\""),
    (false, "cpuset = \"any\""),
    (true, "pin = \"cores\"\nisolated = true"),
    (false, "pin = \"threads\""),
    (false, "isolated = \"yes\""),
    (true, "cgroup = \"systemd\"\ncgroup_parent = \"a.slice\""),
    (false, "cgroup = \"mine\""),
    (false, "cgroup-parent = \"a\""),
    (false, "colour = 1"),
    (false, "[qemu]"),
    (false, "[lxc]"),
];

/// Files as they are.
const FILES: &[(bool, &str)] = &[
    (true, WHOLE),
    (false, ""),
    (false, "cpus = 1\ncommand = [\"a\"]"),
    (false, "name = \"g\"\ncommand = [\"a\"]"),
    (false, "name = \"a/b\"\ncpus = 1\ncommand = [\"a\"]"),
    (false, "name = \"..\"\ncpus = 1\ncommand = [\"a\"]"),
    (false, "name = 1\ncpus = 1\ncommand = [\"a\"]"),
    (true, "name = \"g\"\ncpus = 0.25\ncommand = [\"a\", \"\"]"),
    (true, "name = \"g\"\ncpus = \"2.5\"\ncommand = [\"a\"]"),
    (false, "name = \"g\"\ncpus = 0\ncommand = [\"a\"]"),
    (false, "name = \"g\"\ncpus = 65537\ncommand = [\"a\"]"),
    (false, "name = \"g\"\ncpus = \"4:500\"\ncommand = [\"a\"]"),
    (false, "name = \"g\"\ncpus = 1\ncommand = []"),
    (false, "name = \"g\"\ncpus = 1\ncommand = \"a\""),
    (false, "name = \"g\"\ncpus = 1"),
    (true, "name = \"g\"\ncpus = 1\n[lxc]"),
    (true, "name = \"g\"\ncpus = 1\n[lxc]\nrootfs = \"/srv\""),
    (false, "name = \"g\"\ncpus = 1\n[lxc]\nrootfs = \"/srv\"\ncontainer = \"a\""),
    (true, "name = \"g\"\ncpus = 1\n[lxc.config]\n\"lxc.a\" = [\"1\", \"2\"]\n\"lxc.b\" = \"3\""),
    (false, "name = \"g\"\ncpus = 1\n[lxc.config]\n\"lxc.a\" = 1"),
    (false, "name = \"g\"\ncpus = 1\n[lxc.config]\n\"lxc.a\" = \"1\\n2\""),
    (false, "name = \"g\"\ncpus = 1\n[lxc.config]\n\"a = b\" = \"1\""),
    (false, "name = \"g\"\ncpus = 1\n[qemu]"),
    (true, "name = \"g\"\ncpus = 1\nmemory = 1\n[qemu]"),
    (false, "name = \"g\"\ncpus = 1.5\nmemory = 1\n[qemu]"),
    (
        true,
        "name = \"g\"\ncpus = \"2.0\"\nmemory = 1\n[qemu]\nserial = \"pty\"\nnetwork = \"user\"",
    ),
    (true, "name = \"g\"\ncpus = 1\nmemory = 1\n[qemu]\nserial = { unix = \"/s\" }\niothreads = 2"),
    (false, "name = \"g\"\ncpus = 1\nmemory = 1\n[qemu]\nserial = { tcp = \"/s\" }"),
    (false, "name = \"g\"\ncpus = 1\nmemory = 1\n[qemu]\nserial = \"com1\""),
    (false, "name = \"g\"\ncpus = 1\nmemory = 1\n[qemu]\niothreads = -1"),
    (false, "name = \"g\"\ncpus = 1\nmemory = 1\n[qemu]\naccel = \"hvf\""),
    (false, "name = \"g\"\ncpus = 1\nmemory = 1\n[qemu]\nmachine = \"q35,accel=kvm\""),
    (false, "name = \"g\"\ncpus = 1\nmemory = 1\n[[qemu.disks]]\nfile = \"a\""),
    (false, "name = \"g\"\ncpus = 1\nmemory = 1\n[[qemu.disks]]\nfile = \"a\"\nformat = \"raw,x\""),
];

/// Every sample: whether it is taken, and its text.
pub(super) fn all() -> impl Iterator<Item = (bool, String)> {
    let head = "name = \"g\"\ncpus = 1\ncommand = [\"a\"]\n";
    let lines = LINES.iter().map(move |&(taken, line)| (taken, format!("{head}{line}\n")));
    lines.chain(FILES.iter().map(|&(taken, text)| (taken, text.to_owned())))
}
