//! Commands that ask a daemon to start something: what they start is the daemon's child, so placing the
//! command places nothing.

use std::ffi::OsString;
use std::path::Path;

/// Returns what to use instead of a command that is a client of a daemon. `None`: it is none that is known.
pub(super) fn instead(argv: &[OsString]) -> Option<String> {
    let program = Path::new(argv.first()?).file_name()?.to_str()?;
    let words: Vec<&str> = argv.iter().skip(1).filter_map(|word| word.to_str()).collect();
    // The first word that is no option; the values of options before it are few.
    let verb = words.iter().find(|word| !word.starts_with('-')).copied().unwrap_or_default();
    let has = |verbs: &[&str]| words.iter().any(|word| verbs.contains(word));
    let (daemon, use_this) = match program {
        "docker" | "nerdctl" if has(&["run", "start", "create", "exec", "up", "restart"]) => (
            "its daemon starts the container",
            "--cpuset-cpus $(placer advise CPUS:MEMORY --cpus) and --cpuset-mems of docker",
        ),
        "podman" if has(&["--remote", "-r"]) || verb == "start" => (
            "another process starts the container",
            "--cpuset-cpus $(placer advise CPUS:MEMORY --cpus) and --cpuset-mems of podman",
        ),
        "virsh" if has(&["start", "create", "restore"]) => {
            ("libvirtd starts the guest", "placer launch DOMAIN.xml")
        }
        "virt-install" => ("libvirtd starts the guest", "placer launch DOMAIN.xml"),
        "systemctl" if has(&["start", "restart", "isolate", "reload-or-restart"]) => (
            "systemd starts the service",
            "placer advise CPUS:MEMORY --emit systemd, as a drop-in of the service",
        ),
        "systemd-run" if !has(&["--scope"]) => (
            "systemd starts the command",
            "systemd-run --scope, or placer launch with the command itself",
        ),
        "machinectl" if has(&["start", "shell"]) => {
            ("systemd-machined starts it", "placer advise CPUS:MEMORY --emit systemd")
        }
        "kubectl" | "crictl" | "oc" if has(&["run", "create", "apply", "start", "runp"]) => (
            "the node's runtime starts the containers",
            "the static CPU manager policy of the kubelet",
        ),
        "incus" | "lxc" if has(&["start", "launch", "exec", "restart"]) => (
            "its daemon starts the instance",
            "limits.cpu of the instance, with the CPUs of placer advise CPUS:MEMORY --cpus",
        ),
        "qm" | "pct" if has(&["start"]) => (
            "the host's daemon starts the guest",
            "placer advise CPUS:MEMORY --emit proxmox, in the guest's configuration",
        ),
        _ => return None,
    };
    Some(format!("{program} is placed, and what it starts is not: {daemon}; use {use_this}"))
}

#[cfg(test)]
mod tests {
    use super::instead;

    fn said(line: &str) -> Option<String> {
        instead(&line.split(' ').map(Into::into).collect::<Vec<_>>())
    }

    #[test]
    fn clients_of_daemons_are_told_what_places_their_guests() {
        for (line, part) in [
            ("docker run -it debian", "--cpuset-cpus"),
            ("/usr/bin/docker --context x run debian", "--cpuset-cpus"),
            ("docker compose up", "--cpuset-cpus"),
            ("podman --remote run debian", "--cpuset-mems"),
            ("virsh start web", "placer launch DOMAIN.xml"),
            ("virsh -c qemu:///system create web.xml", "placer launch DOMAIN.xml"),
            ("systemctl restart postgresql", "--emit systemd"),
            ("systemd-run make", "--scope"),
        ] {
            let said = said(line).unwrap_or_default();
            assert!(said.contains(part), "{line}: {said}");
        }
    }

    #[test]
    fn commands_that_run_their_own_children_are_not() {
        for line in [
            "podman run debian",
            "docker ps",
            "virsh list",
            "systemctl status x",
            "systemd-run --scope make",
            "make run",
            "./docker.sh run",
        ] {
            assert_eq!(said(line), None, "{line}");
        }
    }
}
