//! What becomes of a message: a question for those who answer, or a setting.
//!
//! A client sends its options first and its question last, each in a message of its own. numad applies
//! each to all later questions. Here options wait a moment: if a question of the same client follows they
//! apply to that question alone, otherwise to all later ones, on the queues of both versions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use super::Shared;
use super::receivers::{Arrived, Watch};
use crate::numad::queue::letters::{ManageSetting, Order, Setting, Standing, order};
use crate::numad::queue::message::Message;
use crate::numad::queue::process::Process;
use crate::numad::{Advice, Options};
use crate::settings::Level;

/// A question that is to be answered.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) client: i32,
    /// Whether the kernel named the client as the last to send, when its question was taken.
    pub(crate) sent: bool,
    pub(crate) process: Option<Process>,
    pub(crate) options: Options,
    pub(crate) advice: Advice,
}

/// How long options wait for a question of a client that lives. One that asks nothing ends at once, and
/// one that asks may not get on, on a busy host.
const WAITED: Duration = Duration::from_secs(1);
/// How often it is looked whether they have waited long enough.
const LOOK: Duration = Duration::from_millis(5);
const IDLE: Duration = Duration::from_secs(1);
/// So many clients' options wait, and so many of one: one a letter.
const MOST_CLIENTS: usize = 256;
const MOST_OPTIONS: usize = 16;
/// So many messages are looked at in one go.
const BATCH: usize = 1024;

/// What one client has sent before its question.
#[derive(Debug)]
struct Beside {
    since: Instant,
    process: Option<Process>,
    /// Each with what speaks against letting it count for everybody.
    orders: Vec<(Order, Option<String>)>,
}

/// The thread that does it.
#[derive(Debug)]
pub(crate) struct Desk {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    /// What questions go by that do not say otherwise; the desks of both queues have the same.
    standing: Arc<ArcSwap<Standing>>,
    beside: BTreeMap<i32, Beside>,
    watch: Watch,
}

impl Desk {
    pub(crate) fn new(
        shared: Arc<Shared>,
        standing: Arc<ArcSwap<Standing>>,
        jobs: Sender<Job>,
    ) -> Self {
        Self { shared, jobs, standing, beside: BTreeMap::new(), watch: Watch::default() }
    }

    /// Works until a `None` arrives.
    pub(crate) fn run(mut self, arrivals: &Receiver<Option<Arrived>>) {
        loop {
            self.shared.beats[0].beat();
            let pause = if self.beside.is_empty() { IDLE } else { LOOK };
            let first = match arrivals.recv_timeout(pause) {
                Ok(Some(first)) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Ok(None) | Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut batch: Vec<Arrived> = first.into_iter().collect();
            let more = |batch: &mut Vec<Arrived>| {
                while batch.len() < BATCH
                    && let Ok(Some(one)) = arrivals.try_recv()
                {
                    batch.push(one);
                }
            };
            more(&mut batch);
            if batch.iter().any(|one| one.what.as_ref().is_ok_and(|m| m.letter == b'w')) {
                self.watch.settle(&self.shared.places, batch.len() > MOST_CLIENTS);
                more(&mut batch);
            }
            self.take(batch);
            self.let_count();
        }
    }

    /// Takes messages in one go, and lets time pass.
    #[cfg(fuzzing)]
    pub(crate) fn take_at_once(&mut self, batch: Vec<Arrived>) {
        self.take(batch);
        self.let_count();
    }

    /// Options before questions: of one client they were sent before.
    fn take(&mut self, batch: Vec<Arrived>) {
        let mut questions = Vec::new();
        for Arrived { what, last_sender, user } in batch {
            let message = match what {
                Ok(message) => message,
                Err(why) => {
                    self.shared.refuse(last_sender, &why);
                    continue;
                }
            };
            match order(&message) {
                Some(Order::Advise(advice)) => {
                    questions.push((message.sender, last_sender == message.sender, advice));
                }
                Some(order) => self.keep(&message, order, last_sender, user),
                None => self.shared.refuse(last_sender, &unknown(&message)),
            }
        }
        for (client, sent, advice) in questions {
            self.ask(client, sent, advice);
        }
    }

    fn keep(&mut self, message: &Message, order: Order, last_sender: i32, user: Option<u32>) {
        let client = message.sender;
        let letter = char::from(message.letter);
        if let Order::Nothing(why) = order {
            let fields: [(&str, &dyn std::fmt::Display); 3] =
                [("pid", &client), ("option", &letter), ("why", &why)];
            self.shared.tell(Level::Info, "this numad option has no effect", &fields);
            return;
        }
        let against = against(client, last_sender, user);
        if !self.beside.contains_key(&client) && self.beside.len() >= MOST_CLIENTS {
            self.shared.refuse(last_sender, &"too many clients send options at once");
            return;
        }
        let beside = self.beside.entry(client).or_insert_with(|| Beside {
            since: Instant::now(),
            process: Process::look(client),
            orders: Vec::new(),
        });
        if beside.orders.len() < MOST_OPTIONS {
            beside.orders.push((order, against));
        }
    }

    fn ask(&mut self, client: i32, sent: bool, advice: Advice) {
        let mut standing = Standing::clone(&self.standing.load());
        for (order, _) in
            self.beside.remove(&client).map(|beside| beside.orders).unwrap_or_default()
        {
            if let Order::Set(setting) = order {
                standing.set(setting);
            }
        }
        let process = Process::look(client);
        let options = standing.options(self.shared.version, advice);
        let job = Job { client, sent, process, options, advice };
        // Where there is little room those come first of whom it is known that they are there.
        let crowded = self.jobs.len() * 2 > self.jobs.capacity().unwrap_or(usize::MAX);
        let sent = match job.process {
            None if crowded => Err(TrySendError::Full(job)),
            _ => self.jobs.try_send(job),
        };
        if sent.is_err() {
            self.shared.waiting(|waiting| waiting.remove(&client));
            self.shared.refuse(client, &"too many questions at once");
        }
    }

    /// Lets options count for everybody that no question has followed.
    fn let_count(&mut self) {
        let over = |beside: &Beside| {
            let gone = beside.process.as_ref().is_none_or(Process::has_gone);
            beside.since.elapsed() >= if gone { LOOK } else { WAITED }
        };
        let due: Vec<i32> =
            self.beside.iter().filter(|(_, beside)| over(beside)).map(|(pid, _)| *pid).collect();
        for client in due {
            let orders = self.beside.remove(&client).map(|beside| beside.orders);
            for (order, against) in orders.unwrap_or_default() {
                match against {
                    Some(why) => self.shared.refuse(client, &why),
                    None => self.obey(client, &order),
                }
            }
        }
    }

    fn obey(&mut self, client: i32, order: &Order) {
        let what = match order {
            Order::End => {
                let _ = kill(Pid::from_raw(self.shared.pid), Signal::SIGTERM);
                "to end"
            }
            Order::Set(Setting::Manage(setting)) if !self.shared.core.moves() => {
                let option = setting.option();
                let why = match self.shared.core.manages() {
                    true => "the daemon cannot move guests, as its log says",
                    false => "the daemon moves no guests: see enabled in [manage] of the settings",
                };
                let fields: [(&str, &dyn std::fmt::Display); 3] =
                    [("pid", &client), ("option", &option), ("why", &why)];
                self.shared.tell(Level::Info, "this numad option has no effect", &fields);
                return;
            }
            Order::Set(setting) => {
                self.standing.rcu(|standing| {
                    let mut new = Standing::clone(standing);
                    new.set(*setting);
                    new
                });
                match setting {
                    Setting::CountInactiveFile(true) => "to count inactive file cache as free",
                    Setting::CountInactiveFile(false) => "not to count inactive file cache as free",
                    Setting::ThreadPercent(_) => "to value hardware threads otherwise",
                    Setting::LogLevel(level) => {
                        self.shared.core.log().set_level(log_level(*level));
                        "to log otherwise"
                    }
                    Setting::Manage(setting) => {
                        self.shared.core.wanted().set(*setting);
                        match setting {
                            ManageSetting::Include(_) => "to move this process as well",
                            ManageSetting::Exclude(_) => "to leave this process alone",
                            ManageSetting::Unlist(_) => "to treat this process as all others",
                            ManageSetting::ScanAll(true) => "to move all processes that it may",
                            ManageSetting::ScanAll(false) => "to move listed processes alone",
                            ManageSetting::Utilisation(_) => "to use the CPUs of a node so far",
                            ManageSetting::Interval(_) => "to look for moves not more often",
                        }
                    }
                }
            }
            Order::Advise(_) | Order::Nothing(_) => return,
        };
        let set = match order {
            Order::Set(Setting::ThreadPercent(percent)) => percent.to_string(),
            Order::Set(Setting::LogLevel(level)) => level.to_string(),
            Order::Set(Setting::Manage(setting)) => setting.value().to_string(),
            _ => "-".to_owned(),
        };
        let fields: [(&str, &dyn std::fmt::Display); 3] =
            [("pid", &client), ("what", &what), ("value", &set)];
        self.shared.tell(Level::Notice, "options received from a numad client", &fields);
    }
}

/// Returns what speaks against letting a client change what counts for everybody.
///
/// The queue takes messages of root and its group alone. A process that has ended by now cannot be
/// asked about, and clients end as soon as they have sent.
fn against(client: i32, last_sender: i32, user: Option<u32>) -> Option<String> {
    if last_sender != client {
        return Some(format!(
            "it names {client} as its sender, and the last to send was {last_sender} (two at \
             once? then once more)"
        ));
    }
    match user {
        Some(user) if user != 0 && user != geteuid().as_raw() => {
            Some(format!("user {user} may query but not change settings"))
        }
        _ => None,
    }
}

fn unknown(message: &Message) -> String {
    let Message { letter, first, second, .. } = message;
    format!("numad has no command {} with {first} and {second}", char::from(*letter))
}

/// numad's levels are syslog's, and any number is one.
fn log_level(level: i64) -> Level {
    match level {
        ..=3 => Level::Error,
        4 => Level::Warning,
        5 => Level::Notice,
        6 => Level::Info,
        7.. => Level::Debug,
    }
}

/// When something was last done, for the watchdog.
#[derive(Debug)]
pub(crate) struct Beat {
    since: Instant,
    seconds: std::sync::atomic::AtomicU64,
}

impl Beat {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), seconds: 0.into() }
    }

    pub(crate) fn beat(&self) {
        self.seconds.store(self.since.elapsed().as_secs(), Ordering::Relaxed);
    }

    /// Returns how many seconds ago that was.
    pub(crate) fn age(&self) -> u64 {
        self.since.elapsed().as_secs().saturating_sub(self.seconds.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_change_what_counts_for_everybody() {
        let own = geteuid().as_raw();
        // Gone by now: the kernel had let it send.
        assert_eq!(against(7, 7, None), None);
        assert_eq!(against(7, 7, Some(0)), None);
        assert_eq!(against(7, 7, Some(own)), None);
        let other = own + 1000;
        let why = format!("user {other} may query but not change settings");
        assert_eq!(against(7, 7, Some(other)), Some(why));
        for last in [8, 0] {
            assert!(against(7, last, Some(0)).is_some(), "a forged sender");
        }
    }
}
