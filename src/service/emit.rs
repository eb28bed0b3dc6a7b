//! `placer advise --emit FORM`: the same decision as settings for another program.

use std::error::Error;

use clap::ValueEnum;
use placer_engine::{Advice, Request, Snapshot};
use placer_launcher::{Binding, MemoryMode, emit, qemu};

use super::notes::Notes;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EmitForm {
    /// numactl options, on one line.
    Numactl,
    /// Lines for the [Service] section of a unit.
    Systemd,
    /// QEMU options, one per line.
    Qemu,
    /// The vcpu and numatune elements of a domain.
    LibvirtXml,
    /// Lines of a container configuration.
    Lxc,
    /// cloud-hypervisor options, one per line.
    CloudHypervisor,
    /// Lines of a Proxmox VE guest configuration.
    Proxmox,
}

/// Settings for the ranks of an MPI job, which are placed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RankForm {
    /// A rankfile of Open MPI, a rank for each of several guests.
    Rankfile,
    /// The same with the kernel's numbers of CPUs (4.1 only).
    RankfilePhysical,
    /// An option of MPICH's Hydra, with several guests as ranks.
    Hydra,
}

/// Returns the settings. What a program has no setting for is said in a warning.
pub(super) fn text(
    form: EmitForm,
    mode: MemoryMode,
    request: &Request,
    advice: &Advice,
    snapshot: &Snapshot,
    notes: &mut Notes,
) -> Result<String, Box<dyn Error>> {
    let binding = Binding::of(advice, mode);
    let vcpus = u32::try_from(request.cpus.hundredths().div_ceil(100)).unwrap_or(u32::MAX).max(1);
    let settings = match form {
        EmitForm::Numactl => emit::numactl(&binding),
        EmitForm::Systemd => emit::systemd(&binding),
        EmitForm::Lxc => emit::lxc(&binding),
        EmitForm::LibvirtXml => emit::libvirt(&binding, vcpus),
        EmitForm::CloudHypervisor => qemu::cloud_hypervisor(request, advice, snapshot, mode)?,
        EmitForm::Proxmox => qemu::proxmox(request, advice, snapshot, mode)?,
        EmitForm::Qemu => {
            let lines = qemu::emit(request, advice, snapshot, mode)?;
            let unbound =
                matches!(mode, MemoryMode::PreferredMany | MemoryMode::WeightedInterleave);
            let notes = unbound.then(|| {
                format!(
                    "QEMU has no option for memory mode {mode}: placer launch sets it as a policy"
                )
            });
            emit::Settings { text: lines.join("\n") + "\n", notes: notes.into_iter().collect() }
        }
    };
    settings.notes.iter().for_each(|note| notes.warn(note));
    Ok(settings.text)
}
