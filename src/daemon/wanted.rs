//! What is wanted of the manager of running guests beside the settings: by flag, and by numad's options.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::numad::Options;
use crate::numad::queue::letters::ManageSetting;
use crate::service::managing::NumadOptions;

/// Processes that one of numad's lists has.
const MOST_LISTED: usize = 4_096;

/// What is wanted by flag and by numad's options.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    by_flag: AtomicBool,
    options: Mutex<NumadOptions>,
}

impl Wanted {
    pub(super) fn by_flag(&self) {
        self.by_flag.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_by_flag(&self) -> bool {
        self.by_flag.load(Ordering::Relaxed)
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
            pids.iter().filter_map(|&pid| u32::try_from(pid).ok()).collect::<BTreeSet<u32>>()
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
                options.include.remove(&pid);
                options.exclude.remove(&pid);
                let list = match setting {
                    ManageSetting::Include(_) => &mut options.include,
                    ManageSetting::Exclude(_) => &mut options.exclude,
                    _ => return,
                };
                list.insert(pid);
                // Any number can be sent; of processes there are not more.
                while list.len() > MOST_LISTED {
                    list.pop_first();
                }
            }
            ManageSetting::ScanAll(all) => options.only_listed = !all,
            ManageSetting::Utilisation(percent) => options.utilisation = Some(percent),
            ManageSetting::Interval(time) => options.least_interval = time,
        }
    }
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
            include: [7].into(),
            exclude: [8].into(),
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
        (expected.include, expected.exclude) = ([9].into(), [7].into());
        (expected.only_listed, expected.utilisation) = (false, Some(100));
        expected.least_interval = Duration::from_secs(300);
        assert_eq!(wanted.options(), expected);
        for pid in 0..10_000 {
            wanted.set(ManageSetting::Exclude(pid));
        }
        assert_eq!(wanted.options().exclude.len(), MOST_LISTED);
    }
}
