//! Users' own command lines, started by the real QEMU.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use needs::needs;
use nix::sys::signal::Signal;
use placer_launcher::Ended;
use placer_launcher::guest::line::Line;
use placer_launcher::guest::{Guest, MemoryMode, Program, ThreadPin};
use placer_launcher::qemu::Launch;

use crate::qemu::{LONG, affinities, end, here, is_there, names, prepared, waited};

/// Lines as guides have them, with little memory, a firmware that halts, and no accelerator of the host's:
/// a plain server, two PCI devices, shared memory from a file, I/O threads, NUMA nodes in both spellings, options
/// of each kind at both ends, a guest that is to stay paused.
const LINES: [(&str, &str); 10] = [
    ("server", "-m 32M -smp 2 -nographic"),
    ("desktop", "-M q35 -m size=48M -smp cores=2,threads=1 -display none -usb -device usb-tablet"),
    (
        "devices",
        "-m 32 -display none -nodefaults -netdev user,id=n -device virtio-net-pci,netdev=n -device \
         {\"driver\":\"virtio-rng-pci\"}",
    ),
    (
        "shared",
        "-m 32M -display none -machine q35,memory-backend=mem -object \
         memory-backend-file,id=mem,size=32M,mem-path=DIR/ram,share=on",
    ),
    (
        "memfd",
        "-m 32M -display none -object memory-backend-memfd,id=mem,size=32M,share=on -numa node,memdev=mem",
    ),
    (
        "iothreads",
        "-m 32M -display none -object iothread,id=one -object {\"qom-type\":\"iothread\",\"id\":\"two\"} -drive \
         file=DIR/disk,,1.img,format=raw,if=none,id=d -device virtio-blk-pci,drive=d,iothread=one",
    ),
    (
        "cells",
        "-m 64M -smp 4,sockets=2 -display none -object memory-backend-ram,id=a,size=32M -object \
         {\"qom-type\":\"memory-backend-ram\",\"id\":\"b\",\"size\":33554432} -numa node,memdev=a,cpus=0-1 \
         -numa node,memdev=b,cpus=2-3 -numa dist,src=0,dst=1,val=20",
    ),
    ("merged", "--smp 1 -m 16M --smp maxcpus=3 -m 24M,slots=1,maxmem=1G -display none"),
    (
        "dimm",
        "-m 32M,slots=2,maxmem=1G -display none -object memory-backend-ram,id=d,size=32M -device \
         pc-dimm,id=dimm,memdev=d",
    ),
    ("paused", "-S -m 32M -display none"),
];

/// 64 KiB in which the first instructions halt for good.
fn rom(dir: &Path) -> String {
    let mut rom = vec![0_u8; 64 << 10];
    rom[0xfff0..0xfff4].copy_from_slice(b"\xfa\xf4\xeb\xfd");
    let file = dir.join("halt.rom");
    fs::write(&file, rom).expect("a ROM");
    file.display().to_string()
}

fn launch(line: &str, dir: &Path) -> Launch {
    launch_as(line, dir, |guest| guest.pin = ThreadPin::Cores)
}

fn launch_as(line: &str, dir: &Path, change: impl FnOnce(&mut Guest)) -> Launch {
    let line = line.replace("DIR", &dir.display().to_string());
    let socket = dir.join("own").display().to_string();
    let own = format!("-accel tcg -bios {} -qmp unix:{socket},server=on,wait=off", rom(dir));
    let words = format!("qemu-system-x86_64 {line} {own}");
    let words: Vec<OsString> = words.split_whitespace().map(Into::into).collect();
    let line = Line::parse(&words).expect("a good line").expect("a guest");
    let mut guest = Guest::new("web".parse().expect("a name"), Program::Command(Vec::new()));
    guest.cpus = line.cpus;
    guest.memory.maximum = line.memory;
    guest.memory.current = line.memory;
    // This host may have one node only, where nothing is bound unless it is asked for.
    (guest.mode, guest.mode_given) = (MemoryMode::Strict, true);
    change(&mut guest);
    guest.program = Program::Line(Box::new(line));
    let (snapshot, advice) = here();
    Launch::new(&guest, Some(&advice), &snapshot).expect("a plan")
}

/// Asks the user's own QMP socket.
fn status(dir: &Path) -> String {
    let mut socket = UnixStream::connect(dir.join("own")).expect("the user's socket");
    socket.set_read_timeout(Some(LONG)).expect("a limit");
    let ask = "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-status\"}";
    socket.write_all(ask.as_bytes()).expect("asked");
    let lines = BufReader::new(socket).lines().map(|line| line.expect("an answer"));
    let mut status = lines.skip_while(|line| !line.contains("\"status\""));
    status.next().expect("a status")
}

#[needs(qemu)]
#[test]
fn lines_of_guides_run_bound_thread_by_thread() {
    for (name, line) in LINES {
        let tmp = tempfile::tempdir().expect("a directory");
        fs::write(tmp.path().join("disk,1.img"), vec![0_u8; 1 << 20]).expect("an image");
        let launch = launch(line, tmp.path());
        let waiting = prepared(&launch).expect("a child");
        let pid = waiting.pid();
        let running = waiting.start_within(LONG).unwrap_or_else(|error| panic!("{name}: {error}"));

        let threads = launch.threads();
        let (names, affinities) = (names(pid), affinities(pid));
        // Without debug-threads=on they have no names; their CPUs are counted.
        assert!(names.len() > threads.vcpus.len().min(2), "{name}: {names:?}");
        let emulator = threads.emulator.to_string();
        let mut own: Vec<String> = threads.vcpus.iter().map(ToString::to_string).collect();
        own.extend(threads.iothreads.iter().map(ToString::to_string));
        for (id, found) in &affinities {
            assert!(own.contains(found) || *found == emulator, "{name}: {id} runs on {found}");
        }
        for wanted in own.iter().take(1) {
            assert!(affinities.values().any(|found| found == wanted), "{name}: {affinities:?}");
        }
        let maps = fs::read_to_string(format!("/proc/{pid}/numa_maps")).unwrap_or_default();
        if maps.is_empty() {
            testkit::require::does_not_apply("the kernel tells no memory policies");
        } else {
            // QEMU's own by the policy of the process, the guest's by that of its backend.
            assert!(maps.contains("bind=static:") && maps.contains(" bind:"), "{name}: {maps}");
        }
        let expected = if name == "paused" { "\"prelaunch\"" } else { "\"running\"" };
        let status = status(tmp.path());
        assert!(status.contains(expected), "{name}: {status}");
        end(pid, Signal::SIGTERM);
        assert_eq!(waited(running), Ok(Ended::Exited(0)), "{name}");
        assert!(!is_there(pid));
    }
}

/// QEMU's own list of options: each that has no value is known to have none, and the others to have one.
#[needs(qemu)]
#[test]
fn options_have_values_where_qemu_says_so() {
    let help = std::process::Command::new("qemu-system-x86_64").arg("-help").output();
    let help = String::from_utf8(help.expect("QEMU").stdout).expect("text");
    let options = help.lines().filter(|line| line.starts_with('-') && !line.starts_with("-h "));
    let mut seen = 0;
    for option in options {
        let (name, rest) = option.split_once(' ').unwrap_or((option, ""));
        // What is behind several blanks explains the option.
        let valued = !rest.is_empty() && !rest.starts_with(' ');
        // These lines are set differently.
        let odd = ["-fda/-fdb", "-hda/-hdb", "-hdc/-hdd", "-dtb", "--preconfig", "-async-teardown"];
        if odd.contains(&name) {
            continue;
        }
        let words = ["qemu-kvm", name, "-m", "3G"].map(OsString::from);
        let takes_next = match Line::parse(&words) {
            // Its value was `-m`, and `3G` a disk.
            Ok(Some(line)) => line.memory.whole_mib() != 3072,
            Ok(None) => continue,
            Err(error) => error.to_string().contains("\"-m\""),
        };
        let xen = name.starts_with("-xen");
        assert!(takes_next == valued || xen, "{option}");
        seen += 1;
    }
    assert!(seen > 80, "{seen} options");
}

/// A conversation over the user's own socket, one line at a time.
struct Own(BufReader<UnixStream>);

impl Own {
    fn connect(dir: &Path) -> Self {
        let socket = UnixStream::connect(dir.join("own")).expect("the user's socket");
        socket.set_read_timeout(Some(LONG)).expect("a limit");
        let mut own = Self(BufReader::new(socket));
        assert!(own.line().contains("\"QMP\""));
        own.ask("{\"execute\":\"qmp_capabilities\"}");
        own
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer");
        line
    }

    fn ask(&mut self, question: &str) -> serde_json::Value {
        self.0.get_mut().write_all(question.as_bytes()).expect("asked");
        loop {
            let answer: serde_json::Value = serde_json::from_str(&self.line()).expect("JSON");
            assert!(answer.get("error").is_none(), "{question}: {answer}");
            if answer.get("return").is_some() {
                return answer["return"].clone();
            }
        }
    }
}

/// The user plugs a vCPU in over a control channel of the user's own, beside placer's, and ends the guest over it.
#[needs(qemu)]
#[test]
fn a_vcpu_that_is_plugged_in_later_is_pinned() {
    let (snapshot, _) = here();
    let host = snapshot.topology().cpus_of(&snapshot.topology().node_set());
    let own = placer_launcher::sys::affinity(0).expect("a process").intersection(&host);
    let [first, second] = own.iter().take(2).collect::<Vec<_>>()[..] else {
        return testkit::require::does_not_apply("this process has one CPU");
    };
    let tmp = tempfile::tempdir().expect("a directory");
    let line = "-M pc -m 32M -smp 1,sockets=2,cores=1,threads=1,maxcpus=2 -display none";
    let one = |cpu| std::iter::once(cpu).collect::<placer_engine::CpuSet>();
    let launch = launch_as(line, tmp.path(), |guest| {
        guest.pins.vcpus = [(0, one(first)), (1, one(second))].into();
        // What a new thread inherits.
        guest.pins.emulator = Some(one(first));
    });
    let running = prepared(&launch).expect("a child").start_within(LONG).expect("a machine");
    let (pid, dir) = (running.pid(), tmp.path().to_owned());
    let user = std::thread::spawn(move || {
        let mut own = Own::connect(&dir);
        own.ask(
            "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"qemu64-x86_64-cpu\",\"id\":\"late\",\
             \"socket-id\":1,\"core-id\":0,\"thread-id\":0}}",
        );
        let vcpus = own.ask("{\"execute\":\"query-cpus-fast\"}");
        let late = vcpus.as_array().expect("a list").iter().find(|vcpu| vcpu["cpu-index"] == 1);
        let thread = late.expect("two vCPUs")["thread-id"].as_u64().expect("a number");
        let thread = u32::try_from(thread).expect("a thread");
        let since = std::time::Instant::now();
        let mut cpus = affinities(pid).remove(&thread);
        while cpus != Some(second.to_string()) && since.elapsed() < LONG {
            std::thread::sleep(std::time::Duration::from_millis(20));
            cpus = affinities(pid).remove(&thread);
        }
        own.ask("{\"execute\":\"quit\"}");
        cpus
    });
    assert_eq!(waited(running), Ok(Ended::Exited(0)));
    assert_eq!(user.join().expect("a thread"), Some(second.to_string()));
}
