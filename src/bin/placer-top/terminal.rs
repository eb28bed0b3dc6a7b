//! The terminal: taken, and given back however the program ends.

use std::io::{self, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

pub(crate) type Screen = Terminal<CrosstermBackend<Stdout>>;

/// Whether the terminal is ours to give back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the terminal. From here on a panic, in whatever thread, gives it back before its message is
/// printed: the release build ends with the panic, and no destructor would run.
pub(crate) fn take() -> io::Result<Screen> {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        give_back();
        earlier(panic);
    }));
    enter()?;
    Terminal::new(CrosstermBackend::new(io::stdout()))
}

/// Enters the alternate screen, where nothing of what was there is lost, and takes keys as they come.
pub(crate) fn enter() -> io::Result<()> {
    TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

/// Gives the terminal back as it was; once, whoever comes first.
pub(crate) fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // Nothing can be done about a terminal that has gone.
        let _ = disable_raw_mode();
        let mut stdout = io::stdout();
        let _ = execute!(stdout, Show, LeaveAlternateScreen);
        let _ = stdout.flush();
    }
}

/// Gives back the modes alone, when the terminal takes no more output.
pub(crate) fn give_back_modes() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = disable_raw_mode();
    }
}
