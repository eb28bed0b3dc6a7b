//! procfs as the second opinion on what is read from `/proc` here.

use std::fs::File;
use std::io::BufReader;

use placer_engine::source::HostReader;
use placer_engine::{CpuId, CpuTimes, Limits, SysRoot};
use procfs_core::process::Status;
use procfs_core::{FromBufRead, FromBufReadSI, KernelStats, SystemInfoInterface};

/// What procfs wants to know of the system to read ticks and pages, none of which is compared.
struct AnySystem;

impl SystemInfoInterface for AnySystem {
    fn boot_time_secs(&self) -> procfs_core::ProcResult<u64> {
        Ok(0)
    }
    fn ticks_per_second(&self) -> u64 {
        100
    }
    fn page_size(&self) -> u64 {
        4096
    }
    fn is_little_endian(&self) -> bool {
        cfg!(target_endian = "little")
    }
}

fn idle(reader: &mut HostReader) -> Vec<u64> {
    let mut times = CpuTimes::default();
    reader.cpu_times(&mut times).expect("a Linux host");
    times.iter().map(|(_, ticks)| ticks).collect()
}

#[test]
fn idle_ticks() {
    let mut reader = HostReader::open(&SysRoot::live()).expect("a live host");
    let before = idle(&mut reader);
    let file = BufReader::new(File::open("/proc/stat").expect("a Linux host"));
    let theirs = KernelStats::from_buf_read(file, &AnySystem).expect("procfs reads it");
    let after = idle(&mut reader);
    assert_eq!(before.len(), theirs.cpu_time.len());
    for (cpu, theirs) in theirs.cpu_time.iter().enumerate() {
        // Idle time of a CPU was seen to step back by a tick when it wakes.
        let ours = before[cpu].saturating_sub(2)..=after[cpu] + 2;
        assert!(ours.contains(&theirs.idle), "CPU at {cpu}: {ours:?}, {}", theirs.idle);
    }
}

#[test]
fn what_this_process_may_use() {
    let file = BufReader::new(File::open("/proc/self/status").expect("a Linux host"));
    let theirs = Status::from_buf_read(file).expect("procfs reads it");
    let ours = Limits::read(&SysRoot::live()).expect("two lists");
    let ranges = theirs.cpus_allowed_list.expect("a kernel since 2.6.26");
    let theirs: Vec<(CpuId, CpuId)> =
        ranges.into_iter().map(|(a, b)| (CpuId(a), CpuId(b))).collect();
    assert_eq!(ours.cpus.expect("a list").ranges().collect::<Vec<_>>(), theirs);
}
