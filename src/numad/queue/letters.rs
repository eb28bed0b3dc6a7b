//! What each letter of numad's protocol means to placer's daemon.

use std::time::Duration;

use placer_engine::policy::numad::Version;

use super::message::Message;
use crate::numad::{Advice, Options};

/// What a message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// `-w`: nodes.
    Advise(Advice),
    /// Something to go by: for the question that follows from the same client, or for all to come.
    Set(Setting),
    /// `-i` of no time: the daemon is to end.
    End,
    /// An option about what placer does not do.
    Nothing(&'static str),
}

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// `-C`: whether inactive file cache counts as free.
    CountInactiveFile(bool),
    /// `-t`: what a further hardware thread is worth, in percent.
    ThreadPercent(u8),
    /// `-l`, `-d`, `-v`: the highest level that is logged.
    LogLevel(i64),
    /// What concerns running guests, for a daemon that moves them.
    Manage(ManageSetting),
}

/// What can be set about moving running guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ManageSetting {
    /// `-p`: may be moved.
    Include(u32),
    /// `-x`: is not moved.
    Exclude(u32),
    /// `-r`: as the settings say.
    Unlist(u32),
    /// `-S`: whether others than those of `-p` are moved.
    ScanAll(bool),
    /// `-u`: how far the CPUs of a node may be used, in percent.
    Utilisation(u32),
    /// `-i`: the least time between two looks.
    Interval(Duration),
}

impl ManageSetting {
    /// Returns the option that it is set by.
    pub(crate) fn option(self) -> char {
        match self {
            Self::Include(_) => 'p',
            Self::Exclude(_) => 'x',
            Self::Unlist(_) => 'r',
            Self::ScanAll(_) => 'S',
            Self::Utilisation(_) => 'u',
            Self::Interval(_) => 'i',
        }
    }

    /// Returns its value for a log.
    pub(crate) fn value(self) -> u64 {
        match self {
            Self::Include(pid) | Self::Exclude(pid) | Self::Unlist(pid) => pid.into(),
            Self::ScanAll(all) => all.into(),
            Self::Utilisation(percent) => percent.into(),
            Self::Interval(time) => time.as_secs(),
        }
    }
}

/// Returns what a message asks for; `None`: its values are none that numad would have sent.
pub(crate) fn order(message: &Message) -> Option<Order> {
    let Message { letter, first, second, .. } = *message;
    Some(match letter {
        b'w' => Order::Advise(Advice {
            cpus_hundredths: i32::try_from(first).ok()?,
            megabytes: i32::try_from(second).ok()?,
        }),
        b'C' => Order::Set(Setting::CountInactiveFile(first != 0)),
        b't' => {
            let percent = u8::try_from(first).ok().filter(|percent| *percent <= 100)?;
            Order::Set(Setting::ThreadPercent(percent))
        }
        b'l' => Order::Set(Setting::LogLevel(first)),
        b'i' if second <= 0 => Order::End,
        b'i' => {
            manage(ManageSetting::Interval(Duration::from_secs(second.unsigned_abs().min(3_600))))
        }
        b'H' => Order::Nothing("placer does not set the kernel's scan for huge pages"),
        b'K' => Order::Nothing("memory that is bound stays as it is"),
        b'm' => Order::Nothing("guests are moved as a whole"),
        b'u' => {
            let percent =
                u32::try_from(first).ok().filter(|percent| (10..=130).contains(percent))?;
            manage(ManageSetting::Utilisation(percent))
        }
        b'S' => manage(ManageSetting::ScanAll(first != 0)),
        b'p' | b'r' | b'x' => match u32::try_from(first) {
            Err(_) => Order::Nothing("no process has that number"),
            Ok(pid) => manage(match letter {
                b'p' => ManageSetting::Include(pid),
                b'r' => ManageSetting::Unlist(pid),
                _ => ManageSetting::Exclude(pid),
            }),
        },
        _ => return None,
    })
}

fn manage(setting: ManageSetting) -> Order {
    Order::Set(Setting::Manage(setting))
}

/// What all questions go by that do not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    count_inactive_file: bool,
    /// `None`: never given, and then the settings decide.
    thread_percent: Option<u8>,
    /// `-R`, which only the daemon's own command line can give.
    reserved: Option<Vec<u8>>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { count_inactive_file: true, thread_percent: None, reserved: None }
    }
}

impl Standing {
    /// Returns what a daemon goes by that was started with these options.
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            count_inactive_file: options.count_inactive_file,
            thread_percent: options.given.contains(&b't').then_some(options.thread_percent),
            reserved: options.reserved.clone(),
        }
    }

    /// Lets a setting count from now on.
    pub(crate) fn set(&mut self, setting: Setting) {
        match setting {
            Setting::CountInactiveFile(count) => self.count_inactive_file = count,
            Setting::ThreadPercent(percent) => self.thread_percent = Some(percent),
            Setting::LogLevel(_) | Setting::Manage(_) => {}
        }
    }

    /// Returns the options of a question of a version's client, as if it had been given them all.
    pub(crate) fn options(&self, version: Version, advice: Advice) -> Options {
        let mut options = Options { advice: Some(advice), ..Options::of(version) };
        options.count_inactive_file = self.count_inactive_file;
        options.reserved.clone_from(&self.reserved);
        options.given.insert(b'w');
        if let Some(percent) = self.thread_percent {
            options.thread_percent = percent;
            options.given.insert(b't');
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_of_the_protocol() {
        use Setting::{CountInactiveFile, LogLevel, ThreadPercent};
        let asked = |letter, first, second| order(&Message::new(7, letter, first, second));
        let advice = Advice { cpus_hundredths: 400, megabytes: 500 };
        assert_eq!(asked(b'w', 400, 500), Some(Order::Advise(advice)));
        // numad's own arithmetic may have wrapped.
        let negative = Advice { cpus_hundredths: -100, megabytes: 0 };
        assert_eq!(asked(b'w', -100, 0), Some(Order::Advise(negative)));
        assert_eq!(asked(b'w', 1 << 40, 0), None);
        assert_eq!(asked(b'w', 0, i64::MIN), None);
        assert_eq!(asked(b'C', 0, 0), Some(Order::Set(CountInactiveFile(false))));
        assert_eq!(asked(b'C', 1, 0), Some(Order::Set(CountInactiveFile(true))));
        assert_eq!(asked(b't', 100, 0), Some(Order::Set(ThreadPercent(100))));
        assert_eq!((asked(b't', 101, 0), asked(b't', -1, 0)), (None, None));
        assert_eq!(asked(b'l', 7, 0), Some(Order::Set(LogLevel(7))));
        for (min, max) in [(5, 0), (5, -1), (0, i64::MIN)] {
            assert_eq!(asked(b'i', min, max), Some(Order::End));
        }
        for letter in *b"HKm" {
            assert!(matches!(asked(letter, 60, 0), Some(Order::Nothing(_))), "{letter}");
        }
        for (letter, first, set) in [
            (b'p', 7, ManageSetting::Include(7)),
            (b'x', 7, ManageSetting::Exclude(7)),
            (b'r', 7, ManageSetting::Unlist(7)),
            (b'S', 0, ManageSetting::ScanAll(false)),
            (b'u', 130, ManageSetting::Utilisation(130)),
        ] {
            assert_eq!(asked(letter, first, 0), Some(manage(set)));
            let value = u64::try_from(first).expect("a number");
            assert_eq!((set.option(), set.value()), (char::from(letter), value));
        }
        assert!(matches!(asked(b'p', -7, 0), Some(Order::Nothing(_))));
        assert_eq!(
            (asked(b'u', 9, 0), asked(b'u', 131, 0), asked(b'u', -1, 0)),
            (None, None, None)
        );
        let seconds = |s| Some(manage(ManageSetting::Interval(Duration::from_secs(s))));
        assert_eq!((asked(b'i', 5, 15), asked(b'i', 5, i64::MAX)), (seconds(15), seconds(3_600)));
        for letter in (b'A'..=b'z').filter(u8::is_ascii_alphabetic) {
            let known = b"CHiKlmprStuwx".contains(&letter);
            assert_eq!(asked(letter, 60, 60).is_some(), known, "{}", letter as char);
        }
    }

    #[test]
    fn options_are_those_in_force() {
        let advice = Advice::default();
        let mut standing = Standing::default();
        let version = Version::V2015;
        let mut options = Options { advice: Some(advice), ..Options::of(version) };
        options.given.insert(b'w');
        assert_eq!(standing.options(version, advice), options);
        standing.set(Setting::CountInactiveFile(false));
        standing.set(Setting::ThreadPercent(50));
        options.count_inactive_file = false;
        options.thread_percent = 50;
        options.given.insert(b't');
        assert_eq!(standing.options(version, advice), options);
    }
}
