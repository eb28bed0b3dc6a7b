//! What is wanted of the manager of running guests beside the settings: by flag, and by numad's options.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use placer_engine::claims::{ProcessId, Processes};

use crate::numad::Options;
use crate::numad::queue::letters::ManageSetting;
use crate::service::managing::NumadOptions;

/// Processes that one of numad's lists has.
const MOST_LISTED: usize = 4_096;

/// What is wanted by flag and by numad's options.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    by_flag: AtomicBool,
    hindered: AtomicBool,
    options: Mutex<NumadOptions>,
}

impl Wanted {
    pub(super) fn by_flag(&self) {
        self.by_flag.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_by_flag(&self) -> bool {
        self.by_flag.load(Ordering::Relaxed)
    }

    /// Notes whether something keeps the manager from running.
    pub(super) fn hinder(&self, hindered: bool) {
        self.hindered.store(hindered, Ordering::Relaxed);
    }

    /// Returns whether the manager runs where it is wanted.
    pub(super) fn runs(&self) -> bool {
        !self.hindered.load(Ordering::Relaxed)
    }

    /// Takes processes that have ended off numad's lists, and returns their pids: others may be given them.
    pub(super) fn forget_ended(&self) -> Vec<u32> {
        let Ok(mut look) = Processes::look() else { return Vec::new() };
        let mut options = self.lock();
        let mut ended = Vec::new();
        let mut runs = |process: &ProcessId| {
            let runs = look.identify(process.pid) == Some(*process);
            if !runs {
                ended.push(process.pid);
            }
            runs
        };
        options.include.retain(&mut runs);
        options.exclude.retain(&mut runs);
        ended
    }

    /// Returns what numad's options say.
    pub(super) fn options(&self) -> NumadOptions {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, NumadOptions> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what numad's name was started with.
    pub(super) fn start_with(&self, options: &Options) {
        let pids = |pids: &BTreeSet<i64>| {
            let pids = pids.iter().filter_map(|&pid| u32::try_from(pid).ok());
            pids.map(identified).collect()
        };
        let given = |letter| options.given.contains(&letter);
        *self.lock() = NumadOptions {
            include: pids(&options.inclusion_pids),
            exclude: pids(&options.exclusion_pids),
            only_listed: !options.scan_all,
            least_interval: Duration::from_secs(options.max_interval_s.into()),
            utilisation: given(b'u').then_some(options.target_utilisation.into()),
            reserved: options.reserved.clone().map(|list| (options.version, list)),
        };
    }

    /// Takes what a client of numad's has sent.
    pub(super) fn set(&self, setting: ManageSetting) {
        let mut options = self.lock();
        match setting {
            ManageSetting::Include(pid)
            | ManageSetting::Exclude(pid)
            | ManageSetting::Unlist(pid) => {
                options.include.retain(|process| process.pid != pid);
                options.exclude.retain(|process| process.pid != pid);
                let list = match setting {
                    ManageSetting::Include(_) => &mut options.include,
                    ManageSetting::Exclude(_) => &mut options.exclude,
                    _ => return,
                };
                // Any number can be sent. The oldest goes.
                if list.len() >= MOST_LISTED {
                    list.remove(0);
                }
                list.push(identified(pid));
            }
            ManageSetting::ScanAll(all) => options.only_listed = !all,
            ManageSetting::Utilisation(percent) => options.utilisation = Some(percent),
            ManageSetting::Interval(time) => options.least_interval = time,
        }
    }
}

/// Returns the process that has a pid now. Where there is none, the next look finds that it has ended.
fn identified(pid: u32) -> ProcessId {
    let found = Processes::look().ok().and_then(|mut look| look.identify(pid));
    found.unwrap_or(ProcessId { pid_namespace: 0, pid, start: u64::MAX })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use placer_engine::policy::numad::Version;

    use super::*;
    use crate::numad::options::{Outcome as Line, parse};

    #[test]
    fn numads_options_say_what_may_be_moved() {
        let options = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            match parse(Version::V2025, "numad".as_ref(), &args, false) {
                Line::Run(options) => options,
                Line::Exit(exit) => panic!("{line}: {exit:?}"),
            }
        };
        let wanted = Wanted::default();
        wanted.start_with(&options("-i 15 -p 7 -p -3 -x 8 -S 0 -u 80 -R 0-1"));
        let mut expected = NumadOptions {
            include: vec![identified(7)],
            exclude: vec![identified(8)],
            only_listed: true,
            least_interval: Duration::from_secs(15),
            utilisation: Some(80),
            reserved: Some((Version::V2025, b"0-1".to_vec())),
        };
        assert_eq!(wanted.options(), expected);
        // The default of -u is numad's, not what was asked for.
        wanted.start_with(&options("-i 15"));
        assert_eq!(wanted.options().utilisation, None);

        *wanted.lock() = expected.clone();
        for setting in [
            ManageSetting::Exclude(7),
            ManageSetting::Unlist(8),
            ManageSetting::Include(9),
            ManageSetting::ScanAll(true),
            ManageSetting::Utilisation(100),
            ManageSetting::Interval(Duration::from_secs(300)),
        ] {
            wanted.set(setting);
        }
        (expected.include, expected.exclude) = (vec![identified(9)], vec![identified(7)]);
        (expected.only_listed, expected.utilisation) = (false, Some(100));
        expected.least_interval = Duration::from_secs(300);
        assert_eq!(wanted.options(), expected);
        let most = u32::try_from(MOST_LISTED).expect("few");
        for pid in 0..most + 10 {
            wanted.set(ManageSetting::Exclude(pid));
        }
        let listed = wanted.options().exclude;
        let ends = (listed.first().map(|process| process.pid), listed.last().map(|last| last.pid));
        assert_eq!((listed.len(), ends), (MOST_LISTED, (Some(10), Some(most + 9))));
    }

    #[test]
    fn listed_processes_that_have_ended_are_forgotten() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("sleep");
        let (own, other) = (std::process::id(), child.id());
        let wanted = Wanted::default();
        wanted.set(ManageSetting::Include(other));
        wanted.set(ManageSetting::Exclude(own));
        // More than the kernel gives.
        wanted.set(ManageSetting::Exclude(u32::MAX));
        assert_eq!(wanted.forget_ended(), [u32::MAX]);
        child.kill().expect("killed");
        child.wait().expect("ended");
        // Another process has the pid of the one that was listed.
        wanted.lock().exclude[0].start += 1;
        assert_eq!(wanted.forget_ended(), [other, own]);
        assert_eq!(wanted.options(), NumadOptions::default());
    }
}
