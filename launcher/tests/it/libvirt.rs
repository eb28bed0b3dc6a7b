//! Domains through libvirt, with a program in virsh's place that does as it is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says why")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use placer_engine::{Request, Snapshot, SysRoot, advise};
use placer_launcher::domain::{Domain, NumaMode, Options, Placement};
use placer_launcher::libvirt::{Driver, Libvirt, Uri, verify};

const DOMAIN: &str = "<domain type='kvm'>
  <name>web 1</name>
  <memory unit='MiB'>100</memory>
  <vcpu>2</vcpu>
  <numatune><cpu required_cpus='2'/></numatune>
</domain>
";

const UUID: &str = "5f9a0f5c-0a69-4b8c-9b3c-5d3c1d5f3f0e";

/// A libvirt whose virsh writes down what it is asked, and then does what `does` says.
fn libvirt(dir: &Path, does: &str) -> Libvirt {
    let virsh = dir.join("virsh");
    let script = format!(
        "#!/bin/sh\nset -u\nDIR='{}'\n\
         printf '%s ' \"$@\" >>\"$DIR/asked\"; echo >>\"$DIR/asked\"\n{does}\n",
        dir.display()
    );
    fs::write(&virsh, script).unwrap();
    fs::set_permissions(&virsh, fs::Permissions::from_mode(0o755)).unwrap();
    let uri = Uri::of("kvm").unwrap();
    Libvirt::with(uri, &virsh, dir.to_owned()).unwrap()
}

fn placed() -> (Domain, Placement) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../sysfs-fixtures/ring-4");
    let snapshot = Snapshot::take(&SysRoot::at(root), Duration::ZERO).unwrap();
    let advice = advise(&snapshot, &"2:100".parse::<Request>().unwrap()).unwrap();
    let domain = Domain::parse("web.xml", DOMAIN.as_bytes()).unwrap().value;
    let placement = Placement::of(&domain, &snapshot, &advice, &Options::default()).unwrap();
    (domain, placement)
}

/// The questions, with the uuid left out.
fn asked(dir: &Path, uuid: &str) -> Vec<String> {
    let asked = fs::read_to_string(dir.join("asked")).unwrap_or_default();
    let short = |line: &str| {
        let line = line.strip_prefix("-q -k 0 -c qemu:///system ").unwrap().trim_end();
        if uuid.is_empty() { line.to_owned() } else { line.replace(uuid, "UUID") }
    };
    asked.lines().map(short).collect()
}

const CREATES: &str = "case $* in
*create*) cat /dev/stdin >\"$DIR/definition\"; echo 4242 >\"$DIR/web 1.pid\";;
esac";

/// The uuid that was put into a definition.
fn uuid(dir: &Path) -> String {
    let definition = fs::read_to_string(dir.join("definition")).unwrap();
    let (_, behind) = definition.split_once("<uuid>").expect("a uuid");
    behind.split('<').next().unwrap().to_owned()
}

#[test]
fn a_domain_is_defined_by_its_placed_text_and_not_started() {
    let dir = tempfile::tempdir().unwrap();
    let libvirt = libvirt(dir.path(), "cat /dev/stdin >\"$DIR/definition\"");
    let (domain, placement) = placed();
    libvirt.define(&domain, &placement).unwrap();
    assert_eq!(asked(dir.path(), ""), ["define /dev/stdin"]);
    let definition = fs::read_to_string(dir.path().join("definition")).unwrap();
    let wanted = String::from_utf8(domain.placed(&placement)).unwrap();
    assert_eq!(definition, wanted.replace("<cpu required_cpus='2'/>", ""));
    let refuses = self::libvirt(dir.path(), "echo 'error: no room' >&2; exit 1");
    let error = refuses.define(&domain, &placement).unwrap_err().to_string();
    assert!(error.contains("define guest web 1 through qemu:///system: \"no room\""), "{error}");
}

#[test]
fn the_definition_that_libvirt_keeps_is_read_with_its_passwords() {
    let dir = tempfile::tempdir().unwrap();
    let about = |state: &str, persistent: &str, saved: &str| {
        format!(
            "case $* in *dominfo*) echo 'Name:           web'; echo 'UUID:           {UUID}'; echo 'State:          {state}'; \
             echo 'Persistent:     {persistent}'; echo 'Managed save:   {saved}';; \
             *--inactive*--security-info*) printf '<domain/>';; *) exit 1;; esac"
        )
    };
    for (state, saved, wanted) in [
        ("shut off", "no", (false, false)),
        ("shut off", "yes", (false, true)),
        ("running", "no", (true, false)),
        ("paused", "no", (true, false)),
    ] {
        let libvirt = libvirt(dir.path(), &about(state, "yes", saved));
        let stored = libvirt.stored("web").unwrap();
        assert_eq!((stored.running, stored.saved), wanted, "{state} {saved}");
        assert_eq!(stored.text, b"<domain/>");
    }
    let last = asked(dir.path(), UUID).pop();
    assert_eq!(last.as_deref(), Some("dumpxml --inactive --security-info --domain UUID"));
    // virsh takes a number for an id first: another guest may have it for its name.
    let libvirt = libvirt(dir.path(), &about("running", "yes", "no"));
    assert!(libvirt.stored(&UUID.to_uppercase()).is_ok());
    let error = libvirt.stored("3").unwrap_err().to_string();
    assert!(error.contains(&format!("virsh found guest \"web\" (uuid {UUID})")), "{error}");
    let libvirt = self::libvirt(dir.path(), &about("running", "no", "no"));
    assert_eq!(
        libvirt.stored("web").unwrap_err().to_string(),
        "cannot read the definition of guest web from qemu:///system: it is transient: libvirt \
         keeps no definition of it (define it first: virsh dumpxml, then virsh define)"
    );
}

#[test]
fn a_domain_is_created_paused_from_its_placed_text_then_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let libvirt = libvirt(dir.path(), CREATES);
    let (domain, placement) = placed();
    let created = libvirt.create(&domain, &placement, None).unwrap();
    assert_eq!(created.pid(), 4242);
    created.resume().unwrap();
    let uuid = uuid(dir.path());
    assert_eq!(asked(dir.path(), &uuid), ["create --paused /dev/stdin", "resume UUID"]);
    let definition = fs::read_to_string(dir.path().join("definition")).unwrap();
    let wanted = String::from_utf8(domain.placed(&placement)).unwrap();
    // What libvirt does not know is left out, and a uuid put in: nothing else differs.
    let wanted = wanted.replace("<cpu required_cpus='2'/>", "");
    let wanted = wanted.replace("</name>\n", &format!("</name>\n  <uuid>{uuid}</uuid>\n"));
    assert_eq!(definition, wanted);
}

#[test]
fn what_was_created_and_not_resumed_is_destroyed() {
    let (domain, placement) = placed();
    // Something else fails: the value is dropped.
    let dir = tempfile::tempdir().unwrap();
    let libvirt = libvirt(dir.path(), CREATES);
    drop(libvirt.create(&domain, &placement, None).unwrap());
    let expected = ["create --paused /dev/stdin", "destroy UUID"];
    assert_eq!(asked(dir.path(), &uuid(dir.path())), expected);
    // There is no pid.
    let dir = tempfile::tempdir().unwrap();
    let libvirt = self::libvirt(dir.path(), &CREATES.replace("4242", "x"));
    let error = libvirt.create(&domain, &placement, None).unwrap_err().to_string();
    assert!(error.starts_with("cannot find the process of guest web 1: "), "{error}");
    assert_eq!(asked(dir.path(), &uuid(dir.path())), expected);
    // It cannot be resumed.
    let dir = tempfile::tempdir().unwrap();
    let does = format!("{CREATES}\ncase $* in *resume*) echo 'error: no way' >&2; exit 1;; esac");
    let libvirt = self::libvirt(dir.path(), &does);
    let error =
        libvirt.create(&domain, &placement, None).unwrap().resume().unwrap_err().to_string();
    assert_eq!(error, "cannot resume guest web 1: \"no way\"");
    let expected = ["create --paused /dev/stdin", "resume UUID", "destroy UUID"];
    assert_eq!(asked(dir.path(), &uuid(dir.path())), expected);
}

/// A definition with a uuid of its own, in a spelling that virsh takes for a name.
fn placed_with_uuid() -> (Domain, Placement) {
    let (_, placement) = placed();
    let uuid = UUID.replace('-', "").to_uppercase();
    let text = DOMAIN.replace("</name>", &format!("</name><uuid>{uuid}</uuid>"));
    (Domain::parse("web.xml", text.as_bytes()).unwrap().value, placement)
}

#[test]
fn a_guest_that_was_there_before_is_left_alone() {
    let (domain, placement) = placed_with_uuid();
    for (state, created) in [
        ("echo paused", false),
        ("echo running", false),
        ("echo 'error: no connection' >&2; exit 1", false),
        ("echo 'shut off'", true),
        ("echo \"error: failed to get domain '$6'\" >&2; exit 1", true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let does = format!("case $* in *domstate*) {state};; esac\n{CREATES}");
        let libvirt = libvirt(dir.path(), &does);
        // libvirt has it among those that run.
        fs::write(dir.path().join("web 1.xml"), "").unwrap();
        let made = libvirt.create(&domain, &placement, None);
        assert_eq!(made.is_ok(), created, "{state}");
        drop(made);
        let all = ["domstate UUID", "create --paused /dev/stdin", "destroy UUID"];
        let expected = if created { &all[..] } else { &all[..1] };
        assert_eq!(asked(dir.path(), UUID), expected, "{state}");
    }
}

#[test]
fn a_paused_guest_with_another_name_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    // libvirtd ends before it has refused the uuid.
    let does = "case $* in
*create*) echo 'error: Connection reset by peer' >&2; exit 1;;
*domstate*) echo paused;;
*domname*) echo other;;
esac";
    let libvirt = libvirt(dir.path(), does);
    let (domain, placement) = placed_with_uuid();
    libvirt.create(&domain, &placement, None).unwrap_err();
    let expected = ["create --paused /dev/stdin", "domstate UUID", "domname UUID"];
    assert_eq!(asked(dir.path(), UUID), expected);
}

#[test]
fn a_guest_whose_guard_was_killed_is_destroyed_all_the_same() {
    let (domain, placement) = placed();
    let dir = tempfile::tempdir().unwrap();
    let kills = "case $* in *create*) for p in /proc/[0-9]*; do
    grep -q placer-guard \"$p/cmdline\" 2>/dev/null && grep -q \"$DIR\" \"$p/cmdline\" && kill -9 \"${p#/proc/}\"
done;; esac";
    let libvirt = libvirt(dir.path(), &format!("{CREATES}\n{kills}\nexit 0"));
    drop(libvirt.create(&domain, &placement, None).unwrap());
    let expected = ["create --paused /dev/stdin", "destroy UUID"];
    assert_eq!(asked(dir.path(), &uuid(dir.path())), expected);
}

#[test]
fn a_signal_ends_a_virsh_that_does_not_answer() {
    let (domain, placement) = placed();
    let dir = tempfile::tempdir().unwrap();
    let does = "case $* in *create*) exec sleep 300;; *domstate*) echo paused;; *domname*) echo 'web 1';; esac";
    let libvirt = libvirt(dir.path(), does);
    let since = std::time::Instant::now();
    // For this thread, which blocks it now.
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
    let error = libvirt.create(&domain, &placement, None).unwrap_err().to_string();
    assert!(error.contains("SIGTERM came before"), "{error}");
    assert!(since.elapsed() < Duration::from_secs(250));
    // libvirt may go on with the guest.
    let last = asked(dir.path(), "").pop().unwrap_or_default();
    assert!(last.starts_with("destroy "), "{last}");
}

/// What a fake virsh does that has created a guest, which is paused.
const PAUSED: &str = "case $* in
*create*) until [ -e \"$DIR/go\" ]; do sleep 0.01; done
    cat /dev/stdin >\"$DIR/definition\"; echo 4242 >\"$DIR/web 1.pid\"; echo created;;
*domstate*) echo paused;;
*domname*) echo 'web 1';;
esac";

/// Not a test: a launcher that creates a guest and is killed before it lets it run.
#[test]
#[ignore = "runs until it is killed"]
fn a_launcher_that_waits() {
    let Some(dir) = std::env::var_os("PLACER_TEST_DIR").map(PathBuf::from) else { return };
    let libvirt = libvirt(&dir, PAUSED);
    let (domain, placement) = placed();
    let _created = libvirt.create(&domain, &placement, None).unwrap();
    fs::write(dir.join("created"), "").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(30), "30 s have passed, and not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_launcher_that_is_killed_leaves_no_paused_guest() {
    // Killed once the guest is there, and while virsh creates it.
    for created in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut launcher = std::process::Command::new(std::env::current_exe().unwrap());
        launcher.args(["--ignored", "--exact", "libvirt::a_launcher_that_waits", "--nocapture"]);
        launcher.env("PLACER_TEST_DIR", dir.path()).stdout(std::process::Stdio::null());
        let mut launcher = launcher.spawn().unwrap();
        wait_until("virsh creates", || dir.path().join("asked").exists());
        if created {
            fs::write(dir.path().join("go"), "").unwrap();
            wait_until("the guest is there", || dir.path().join("created").exists());
        }
        launcher.kill().unwrap();
        launcher.wait().unwrap();
        fs::write(dir.path().join("go"), "").unwrap();
        let ended =
            || asked(dir.path(), "").last().is_some_and(|last| last.starts_with("destroy "));
        wait_until("the guest is destroyed", ended);
        let expected =
            ["create --paused /dev/stdin", "domstate UUID", "domname UUID", "destroy UUID"];
        assert_eq!(asked(dir.path(), &uuid(dir.path())), expected, "created: {created}");
    }
}

#[test]
fn a_libvirtd_that_is_killed_leaves_no_paused_guest() {
    let dir = tempfile::tempdir().unwrap();
    // It ends while it creates the guest, and is back at the second question.
    let does = "case $* in
*create*) cat /dev/stdin >\"$DIR/definition\"; echo 'error: End of file while reading data' >&2; exit 1;;
*domstate*) [ -e \"$DIR/back\" ] && echo 'paused'; touch \"$DIR/back\";;
*domname*) echo 'web 1';;
esac";
    let libvirt = libvirt(dir.path(), does);
    let (domain, placement) = placed();
    let error = libvirt.create(&domain, &placement, None).unwrap_err().to_string();
    assert!(error.contains("End of file while reading data"), "{error}");
    let expected = [
        "create --paused /dev/stdin",
        "domstate UUID",
        "domstate UUID",
        "domname UUID",
        "destroy UUID",
    ];
    assert_eq!(asked(dir.path(), &uuid(dir.path())), expected);
    // It ends before the guest runs, and is back at the second question.
    let dir = tempfile::tempdir().unwrap();
    let does = format!(
        "{CREATES}\ncase $* in *resume*) exit 1;; *destroy*) [ -e \"$DIR/back\" ] || {{ touch \"$DIR/back\"; exit 1; }};; esac"
    );
    let libvirt = self::libvirt(dir.path(), &does);
    libvirt.create(&domain, &placement, None).unwrap().resume().unwrap_err();
    let expected = ["create --paused /dev/stdin", "resume UUID", "destroy UUID", "destroy UUID"];
    assert_eq!(asked(dir.path(), &uuid(dir.path())), expected);
    // A guest that runs is another one of that name.
    let dir = tempfile::tempdir().unwrap();
    let does = "case $* in
*create*) echo 'error: Disconnected due to end of file' >&2; exit 1;;
*domstate*) echo running;;
esac";
    let libvirt = self::libvirt(dir.path(), does);
    libvirt.create(&domain, &placement, None).unwrap_err();
    let asked = asked(dir.path(), "");
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[test]
fn what_libvirt_refuses_is_told_in_its_words_and_destroys_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let does = "echo \"error: Failed to create domain from /dev/stdin\" >&2
echo \"error: operation failed: domain 'web 1' already exists with uuid 1\" >&2; exit 1";
    let libvirt = libvirt(dir.path(), does);
    let (domain, placement) = placed();
    let error = libvirt.create(&domain, &placement, None).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot create guest web 1 through qemu:///system: \"Failed to create domain from /dev/stdin; \
         operation failed: domain 'web 1' already exists with uuid 1\""
    );
    assert_eq!(asked(dir.path(), ""), ["create --paused /dev/stdin"]);
}

#[test]
fn without_virsh_the_error_names_what_to_install_and_what_else_starts_a_guest() {
    let uri = Uri::of("lxc").unwrap();
    let error = Libvirt::with(uri, Path::new("/nowhere/virsh"), PathBuf::new()).unwrap_err();
    let error = error.to_string();
    for part in ["libvirt-clients", "guest.toml"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn only_libvirts_of_this_host_are_spoken_to() {
    for (text, uri) in [
        ("qemu:///system", "qemu:///system"),
        ("qemu:///session", "qemu:///session"),
        ("lxc:///", "lxc:///system"),
    ] {
        assert_eq!(text.parse::<Uri>().unwrap().to_string(), uri);
    }
    for text in ["qemu+ssh://host/system", "qemu://host/system", "test:///default", "", "-c"] {
        assert!(text.parse::<Uri>().is_err(), "{text}");
    }
}

/// A made-up /proc: a process 7 of these threads, each with its name and its CPUs.
fn proc(dir: &Path, threads: &[(u32, &str, &str)], mems: &str, maps: &str) {
    let put = |path: String, text: String| {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (id, comm, cpus) in threads {
        let place = if *id < 100 { format!("7/task/{id}") } else { format!("{id}") };
        put(format!("{place}/comm"), format!("{comm}\n"));
        put(format!("{place}/status"), format!("Name:\tx\nCpus_allowed_list:\t{cpus}\n"));
    }
    // One of the kernel's threads, and a process that has taken its name.
    put("100/stat".to_owned(), "100 (vhost-7) S 2 0 0 0 -1 2097216 0 0 0".to_owned());
    put("200/stat".to_owned(), "200 (vhost-7) S 1 0 0 0 -1 4194304 0 0 0".to_owned());
    put("200/comm".to_owned(), "vhost-7\n".to_owned());
    put("200/status".to_owned(), "Name:\tx\nCpus_allowed_list:\t0-7\n".to_owned());
    fs::create_dir_all(dir.join("7/fd")).unwrap();
    let _ = std::os::unix::fs::symlink("/dev/vhost-net", dir.join("7/fd/29"));
    put("7/status".to_owned(), format!("Mems_allowed_list:\t{mems}\n"));
    put("7/numa_maps".to_owned(), maps.to_owned());
}

fn placement() -> Placement {
    let list = |text: &str| placer_launcher::definition::parse_list(text).unwrap();
    Placement {
        cpus: list("0-3"),
        mode: Some(NumaMode::Strict),
        nodes: placer_launcher::definition::parse_list("0").unwrap(),
        vcpus: [(0, list("1"))].into(),
        emulator: Some(list("2-3")),
        iothreads: [(6, list("3"))].into(),
        ..Placement::default()
    }
}

const THREADS: [(u32, &str, &str); 6] = [
    (7, "qemu-system-x86", "2-3"),
    (8, "CPU 0/KVM", "1"),
    (9, "CPU 1/KVM", "0-3"),
    (10, "IO iothread6", "3"),
    (11, "IO mon_iothread", "2"),
    (100, "vhost-7", "2-3"),
];
const MAPS: &str = "55d0 default file=/usr/bin/qemu\n7f00 bind:0 anon=4 dirty=4 N0=4\n";

#[test]
fn a_guest_that_is_where_it_was_placed_passes() {
    let dir = tempfile::tempdir().unwrap();
    proc(dir.path(), &THREADS, "0-1", MAPS);
    assert_eq!(verify(dir.path(), 7, &placement(), Driver::Qemu), Ok(Vec::new()));
    // The cpuset alone holds it too.
    proc(dir.path(), &THREADS, "0", "7f00 default anon=4 N0=4\n");
    assert_eq!(verify(dir.path(), 7, &placement(), Driver::Qemu), Ok(Vec::new()));
}

#[test]
fn one_thread_or_mapping_elsewhere_is_found() {
    for (id, part) in [
        (7, "qemu-system-x86"),
        (8, "CPU 0/KVM"),
        (9, "CPU 1/KVM"),
        (10, "IO iothread6"),
        (11, "IO mon_iothread"),
        (100, "vhost-7"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut threads = THREADS;
        threads.iter_mut().filter(|thread| thread.0 == id).for_each(|thread| thread.2 = "0-7");
        proc(dir.path(), &threads, "0-1", MAPS);
        let error = verify(dir.path(), 7, &placement(), Driver::Qemu).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("0-7"), "{error}");
    }
    for (mems, maps, part) in [
        ("0-1", "7f00 default anon=4 N0=4\n", "no mapping has this policy"),
        ("0-1", "7f00 bind:0-1 anon=4 N0=4\n", "bind:0-1"),
        ("0-1", "7f00 prefer:0 anon=4 N0=4\n", "no mapping has this policy"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        proc(dir.path(), &THREADS, mems, maps);
        let error = verify(dir.path(), 7, &placement(), Driver::Qemu).unwrap_err().to_string();
        assert!(error.contains(part), "{maps}: {error}");
    }
}
