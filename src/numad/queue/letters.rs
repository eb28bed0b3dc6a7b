//! What each letter of numad's protocol means to placer's daemon.

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
    /// An option about moving other people's processes, which placer does not do.
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
        b'i' => Order::Nothing("placer makes no passes over processes"),
        b'H' => Order::Nothing("placer does not set the kernel's scan for huge pages"),
        b'K' | b'm' | b'u' => Order::Nothing("no process is moved"),
        b'p' | b'r' | b'S' | b'x' => Order::Nothing("placer moves no processes"),
        _ => return None,
    })
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
            Setting::LogLevel(_) => {}
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
        for letter in *b"HKmprSux" {
            assert!(matches!(asked(letter, 60, 0), Some(Order::Nothing(_))), "{letter}");
        }
        assert!(matches!(asked(b'i', 5, 15), Some(Order::Nothing(_))));
        for letter in (b'A'..=b'z').filter(u8::is_ascii_alphabetic) {
            let known = b"CHiKlmprStuwx".contains(&letter);
            assert_eq!(asked(letter, 1, 1).is_some(), known, "{}", letter as char);
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
