//! The guest that is to be started: from its file, or from a command line.

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use placer_launcher::definition::read_at_most;
use placer_launcher::domain::{self, Domain};
use placer_launcher::guest::line::Line;
use placer_launcher::guest::{CpuCount, Guest, MemorySize, NodeChoice, Pages, Program, ThreadPin};
use placer_launcher::guest_file;

use placer::args::Launch;
use placer::service::notes::Notes;

/// What is to be started.
pub(super) enum Definition {
    /// A command, or a guest file of placer's own.
    Guest(Guest),
    /// A domain of libvirt's.
    Domain(Domain),
}

/// Reads what is to be started, and puts what flags and variables say in place of what its file says.
pub(super) fn read(args: &Launch, notes: &mut Notes) -> Result<Definition, Box<dyn Error>> {
    let Some(path) = &args.guest else {
        let guest = match Line::parse(&args.command)? {
            Some(line) => of_line(args, line)?,
            None => command(args)?,
        };
        return Ok(Definition::Guest(with_flags(args, guest, notes)?));
    };
    Ok(match read_file(path, notes)? {
        Definition::Guest(guest) => Definition::Guest(with_flags(args, guest, notes)?),
        Definition::Domain(domain) => Definition::Domain(domain),
    })
}

fn with_flags(args: &Launch, mut guest: Guest, notes: &mut Notes) -> Result<Guest, Box<dyn Error>> {
    if let Some(cpus) = args.cpus {
        let whole = u32::try_from(cpus.hundredths().div_ceil(100)).unwrap_or(u32::MAX).max(1);
        if matches!(guest.program, Program::Qemu(_)) {
            if u64::from(whole) * 100 != cpus.hundredths() {
                return Err(format!("--cpus: a machine has whole CPUs, found {cpus}").into());
            }
            guest.required.cpus = None;
        } else {
            guest.required.cpus = Some(cpus);
        }
        guest.cpus = CpuCount { maximum: whole, current: whole };
    }
    if let Some(memory) = args.memory {
        guest.memory = MemorySize { maximum: memory, current: memory };
        guest.required.memory = None;
    }
    guest.mode = args.mode.unwrap_or(guest.mode);
    guest.mode_given |= args.mode.is_some();
    guest.near = args.choice.near.clone().or(guest.near);
    if let Some(mode) = args.cgroup {
        guest.cgroup.mode = mode;
    }
    if let Some(parent) = &args.cgroup_parent {
        guest.cgroup.parent = Some(parent.clone());
    }
    guest.pin = args.pin.unwrap_or(guest.pin);
    guest.isolated |= args.isolated;
    if !guest.program.is_machine() && (guest.pin != ThreadPin::Nodes || guest.isolated) {
        notes.warn("pin and isolated are for machines, whose threads are known: not used");
    }
    if let Some(size) = args.choice.pages {
        guest.pages = Pages::Huge(size);
    }
    Ok(guest)
}

/// Makes the guest of a QEMU command line, which says how large it is.
fn of_line(args: &Launch, mut line: Line) -> Result<Guest, Box<dyn Error>> {
    let refused = [
        (args.cpus.is_some(), "--cpus", "-smp says how many vCPUs it has"),
        (args.memory.is_some(), "--memory", "-m says how much memory it has"),
        (args.choice.pages.is_some(), "--pages", "use -object memory-backend-memfd,hugetlb=on"),
    ];
    if let Some((_, flag, why)) = refused.iter().find(|(given, ..)| *given) {
        return Err(format!("{flag} does not go with a QEMU command line: {why}").into());
    }
    line.look_at_files();
    let name = line.name.as_deref().and_then(|name| name.parse().ok());
    let mut guest = Guest::new(
        match name {
            Some(name) => name,
            None => command(args)?.name,
        },
        Program::Command(Vec::new()),
    );
    guest.cpus = line.cpus;
    guest.memory = MemorySize { maximum: line.memory, current: line.memory };
    guest.pages = line.pages();
    guest.nodes = line.fixed_nodes().map_or(NodeChoice::Advised, NodeChoice::Fixed);
    guest.program = Program::Line(Box::new(line));
    Ok(guest)
}

fn command(args: &Launch) -> Result<Guest, Box<dyn Error>> {
    let program = args.command.first().map(Path::new).and_then(Path::file_name);
    let name = program.unwrap_or_default().to_string_lossy();
    // A name for messages alone: whatever is in it that a name cannot have is left out.
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    let name = if name.is_empty() { "command".to_owned() } else { name };
    Ok(Guest::new(name.parse()?, Program::Command(args.command.clone())))
}

/// Reads a guest's file, a domain definition or TOML: the first character tells.
fn read_file(path: &Path, notes: &mut Notes) -> Result<Definition, Box<dyn Error>> {
    let name = path.display().to_string();
    let cannot = |e: std::io::Error| format!("cannot read {name}: {e}");
    let bytes = if path == Path::new("-") {
        read_at_most(std::io::stdin().lock(), domain::MAX_BYTES).map_err(cannot)?
    } else {
        // Never waits for somebody to write into a pipe.
        let flags = OFlag::O_NONBLOCK.bits();
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(cannot)?;
        if !file.metadata().map_err(cannot)?.is_file() {
            return Err(format!("{name}: expected an ordinary file, found something else").into());
        }
        read_at_most(&file, domain::MAX_BYTES).map_err(cannot)?
    };
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let first = text.iter().find(|b| !b.is_ascii_whitespace());
    if first == Some(&b'<') {
        let read = Domain::parse(&name, &bytes)?;
        read.notes.iter().for_each(|note| notes.warn(note));
        return Ok(Definition::Domain(read.value));
    }
    let read = guest_file::parse(&name, &bytes)?;
    read.notes.iter().for_each(|note| notes.warn(note));
    Ok(Definition::Guest(read.value))
}
