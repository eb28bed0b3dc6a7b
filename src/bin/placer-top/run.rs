//! Joins the ends: keys, signals and readings in, screens and recordings out.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick, unbounded};
use placer_engine::source::record::record;
use placer_engine::{Charges, Engine, Snapshot, SysRoot};
use ratatui::crossterm::event::{
    self, Event as Input, KeyCode, KeyEvent, KeyEventKind, KeyModifiers,
};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::answer::Choice;
use crate::draw::draw;
use crate::look::Look;
use crate::model::{Event, Key, Model, Order};
use crate::terminal::{self, Screen};
use crate::watch;
use placer::error_chain::chain;
use placer::protocol::top::Options;

/// How long the terminal may take to take its last output before the program ends without.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The time between the two readings of a recording, as placer record has it.
const WINDOW: Duration = Duration::from_secs(2);

/// What a key, a size or a signal asks of the loop.
enum Told {
    Event(Event),
    Signal(i32),
    /// The terminal takes no keys any more.
    Gone,
}

/// Runs until somebody leaves.
///
/// Errors: the host cannot be read, or there is no terminal to draw on.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    let root = options.root.as_ref().map_or_else(SysRoot::live, SysRoot::at);
    let choice =
        Choice { request: options.choice.request()?, numad: options.choice.numad_version()? };
    let interval = Duration::from_millis(options.interval_ms.max(100));
    let builder = Engine::builder(root.clone()).interval(interval);
    // All that can be refused is refused while the terminal is still as it was.
    let engine =
        builder.window(interval.max(Duration::from_secs(1))).start().map_err(|e| chain(&e))?;
    let (watcher, found) = watch::first(options, &root);
    let charges = found.charges;
    let source = match &options.root {
        Some(dir) => dir.display().to_string(),
        None => "this host".to_owned(),
    };
    let look = look();
    let told = signals().map_err(|e| format!("cannot watch for signals: {e}"))?;
    let mut screen = terminal::take().map_err(|e| {
        terminal::give_back();
        format!("cannot take the terminal: {e}; placer show prints the host once")
    })?;
    let size = screen.size().map_or((0, 0), |size| (size.width, size.height));
    let snapshot = counted(&engine.snapshot(), &charges);
    let text = options.request.clone().unwrap_or_default();
    let around = Arc::new(found.around);
    let model = Model::new(source, snapshot, around, choice, &text, size);
    let (found, _stop) = watch::start(watcher, interval).map_err(|e| {
        terminal::give_back();
        format!("cannot start a thread: {e}")
    })?;
    let mut session = Session {
        root,
        engine,
        charges,
        model,
        look,
        recorded: never(),
        recorder: None,
        panic_at: options.panic_after_ms.map(Duration::from_millis),
    };
    let signal = session.run(&mut screen, &told, &found);
    terminal::give_back();
    if let Some(recorder) = session.recorder.take() {
        // What is half written would be left.
        let _ = recorder.join();
    }
    session.engine.stop();
    if let Some(signal) = signal {
        // Whoever waits for this program sees what ended it.
        let _ = emulate_default_handler(signal);
    }
    Ok(ExitCode::SUCCESS)
}

struct Session {
    root: SysRoot,
    engine: Engine,
    charges: Charges,
    model: Model,
    look: Look,
    recorded: Receiver<Result<PathBuf, String>>,
    recorder: Option<JoinHandle<()>>,
    panic_at: Option<Duration>,
}

impl Session {
    /// Returns the signal that ended it, if one did.
    fn run(
        &mut self,
        screen: &mut Screen,
        told: &Receiver<Told>,
        found: &Receiver<watch::Found>,
    ) -> Option<i32> {
        let subscription = self.engine.subscribe();
        let (mut snapshots, mut found) = (subscription.receiver().clone(), found.clone());
        let ticks = tick(Duration::from_secs(1));
        let fault = self.panic_at.map_or_else(never, crossbeam_channel::after);
        loop {
            if self.draw(screen).is_err() {
                return None;
            }
            select! {
                recv(told) -> first => {
                    // Of keys that came together only the last screen is drawn.
                    let first = first.unwrap_or(Told::Gone);
                    for one in std::iter::once(first).chain(told.try_iter()) {
                        match self.hear(one, screen) {
                            Some(End::Left) => return None,
                            Some(End::Killed(signal)) => return Some(signal),
                            None => {}
                        }
                    }
                }
                recv(snapshots) -> snapshot => match snapshot {
                    Ok(snapshot) => {
                        let snapshot = counted(&snapshot, &self.charges);
                        _ = self.model.update(Event::Host(snapshot, None));
                    }
                    Err(_) => snapshots = never(),
                },
                recv(found) -> looked => match looked {
                    // The next snapshot is read after this, and counted with it: memory that is
                    // touched in between is counted twice and never not at all.
                    Ok(watch::Found { around, charges }) => {
                        self.charges = charges;
                        _ = self.model.update(Event::Around(Arc::new(around)));
                    }
                    Err(_) => found = never(),
                },
                recv(self.recorded) -> outcome => {
                    self.recorded = never();
                    let outcome = outcome.unwrap_or_else(|_| Err("not recorded".to_owned()));
                    _ = self.model.update(Event::Recorded(outcome));
                }
                recv(ticks) -> _ => {
                    if let Some(trouble) = self.engine.last_error() {
                        let snapshot = Arc::clone(&self.model.snapshot);
                        let event = Event::Host(snapshot, Some(chain(&*trouble)));
                        _ = self.model.update(event);
                    }
                }
                recv(fault) -> _ => fail(),
            }
        }
    }

    fn draw(&mut self, screen: &mut Screen) -> io::Result<()> {
        let size = screen.size()?;
        if (size.width, size.height) != self.model.size {
            _ = self.model.update(Event::Size(size.width, size.height));
        }
        let (model, look) = (&self.model, self.look);
        screen.draw(|frame| draw(model, look, frame.area(), frame.buffer_mut()))?;
        Ok(())
    }

    fn hear(&mut self, told: Told, screen: &mut Screen) -> Option<End> {
        let order = match told {
            Told::Gone => return Some(End::Left),
            Told::Event(event) => self.model.update(event)?,
            Told::Signal(SIGTSTP) => Order::Suspend,
            Told::Signal(SIGCONT) => {
                // Whoever had the terminal meanwhile may have left it in any state.
                terminal::give_back();
                return again(screen);
            }
            Told::Signal(signal) => return Some(End::Killed(signal)),
        };
        match order {
            Order::Quit => return Some(End::Left),
            Order::Suspend => {
                terminal::give_back();
                // Stops here, as the kernel would have done it, until somebody says SIGCONT; that
                // is then told as well, and takes the terminal again.
                let _ = emulate_default_handler(SIGTSTP);
                return again(screen);
            }
            Order::Redraw => _ = anew(screen),
            Order::Record(dir) => self.record(dir),
        }
        None
    }

    fn record(&mut self, dir: PathBuf) {
        let (done, recorded) = bounded(1);
        let root = self.root.clone();
        let dir = at_home(dir);
        let run = move || {
            let outcome = record(&root, &dir, WINDOW).map_err(|e| chain(&e));
            let _ = done.send(outcome.map(|_| dir));
        };
        match std::thread::Builder::new().name("placer-record".to_owned()).spawn(run) {
            Ok(thread) => (self.recorder, self.recorded) = (Some(thread), recorded),
            Err(error) => {
                let outcome = Err(format!("cannot start a thread: {error}"));
                _ = self.model.update(Event::Recorded(outcome));
            }
        }
    }
}

/// What a test asks for, to see how the terminal is left.
#[expect(clippy::panic, reason = "asked for by a test alone")]
fn fail() {
    std::panic::panic_any("asked to panic");
}

enum End {
    Left,
    Killed(i32),
}

fn again(screen: &mut Screen) -> Option<End> {
    let taken = terminal::enter().and_then(|()| anew(screen));
    taken.is_err().then_some(End::Left)
}

/// Has everything drawn anew. Not by `Terminal::clear`: that asks the terminal where its cursor is, and
/// the answer goes to the thread that waits for keys.
fn anew(screen: &mut Screen) -> io::Result<()> {
    let size = screen.size()?;
    screen.resize(size.into())
}

/// Returns a snapshot that counts what was promised.
fn counted(snapshot: &Arc<Snapshot>, charges: &Charges) -> Arc<Snapshot> {
    if charges.is_empty() {
        return Arc::clone(snapshot);
    }
    Arc::new(Snapshot::clone(snapshot).with_charges(charges.clone()))
}

/// Listens to keys and signals, in a thread each.
fn signals() -> io::Result<Receiver<Told>> {
    let (sender, told) = unbounded();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT])?;
    let of_signals = sender.clone();
    let listen = move || {
        for signal in signals.forever() {
            let ends = !matches!(signal, SIGTSTP | SIGCONT);
            if of_signals.send(Told::Signal(signal)).is_err() {
                return;
            }
            if ends {
                // The loop ends within moments, unless the terminal takes no output.
                std::thread::sleep(LAST_WORDS);
                terminal::give_back_modes();
                let _ = emulate_default_handler(signal);
            }
        }
    };
    std::thread::Builder::new().name("placer-signals".to_owned()).spawn(listen)?;
    std::thread::Builder::new().name("placer-keys".to_owned()).spawn(move || keys(&sender))?;
    Ok(told)
}

fn keys(told: &Sender<Told>) {
    loop {
        let event = match event::read() {
            Ok(Input::Key(key)) => match key_of(key) {
                Some(key) => Told::Event(Event::Key(key)),
                None => continue,
            },
            Ok(Input::Resize(columns, lines)) => Told::Event(Event::Size(columns, lines)),
            Ok(_) => continue,
            Err(_) => Told::Gone,
        };
        let gone = matches!(event, Told::Gone);
        if told.send(event).is_err() || gone {
            return;
        }
    }
}

fn key_of(key: KeyEvent) -> Option<Key> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char(c) if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Control(c),
        KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::ALT) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Tab => Key::Tab,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Delete => Key::Delete,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::F(1) => Key::Char('?'),
        _ => return None,
    })
}

fn look() -> Look {
    let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(value).unwrap_or_default();
    let term = value("TERM").unwrap_or_default();
    Look::of(&locale, &term, value("NO_COLOR").is_some())
}

/// No shell has seen the path, so a leading `~/` is still there.
fn at_home(dir: PathBuf) -> PathBuf {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    match (dir.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => dir,
    }
}
