//! Puts the settings of a host where neither a variable nor a flag has said anything.

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::{Args, Choice, Command, Via};
use crate::settings::Settings;

impl Settings {
    /// Fills what was left open.
    pub fn fill(&self, args: &mut Args, matches: &ArgMatches) {
        let Some((_, given)) = matches.subcommand() else { return };
        let open =
            |id: &str| matches!(given.value_source(id), None | Some(ValueSource::DefaultValue));
        let Self { advise: set, .. } = self;
        match &mut args.command {
            // The real numad is asked as it is.
            Command::Advise(args) if args.via != Via::Numad => {
                put(open("window"), &mut args.host.window, &set.window);
                self.choose(&open, &mut args.choice);
                put(open("hold"), &mut args.hold, &set.hold);
                put(open("strict"), &mut args.strict, &set.strict);
                // `--hold 0` takes back what is set.
                args.hold = args.hold.filter(|time| !time.is_zero());
            }
            Command::Launch(args) => {
                put(open("window"), &mut args.host.window, &set.window);
                self.choose(&open, &mut args.choice);
            }
            Command::Place(args) => {
                put(open("window"), &mut args.host.window, &set.window);
                self.choose(&open, &mut args.choice);
            }
            Command::Fit(args) => {
                put(open("window"), &mut args.host.window, &set.window);
                self.choose(&open, &mut args.choice);
            }
            Command::Top(args) => self.choose(&open, &mut args.choice),
            Command::Show(args) => put(open("window"), &mut args.host.window, &set.window),
            Command::Status(args) => put(open("window"), &mut args.host.window, &set.window),
            _ => {}
        }
    }
}

impl Settings {
    fn choose(&self, open: &impl Fn(&str) -> bool, choice: &mut Choice) {
        let Self { advise: set, numad, .. } = self;
        choice.numad = numad.version;
        put(open("policy"), &mut choice.policy, &set.policy);
        put(open("within"), &mut choice.within, &set.within);
        put(open("memory_bound"), &mut choice.memory_bound, &set.memory_bound);
        put(open("smt_percent"), &mut choice.smt_percent, &set.smt_percent);
        put(open("prefer"), &mut choice.prefer, &set.prefer);
        put(open("cache"), &mut choice.cache, &set.cache);
        put(open("cache_penalty"), &mut choice.cache_penalty, &set.cache_penalty);
        put(open("cores"), &mut choice.cores, &set.cores);
        put(open("effort"), &mut choice.effort, &set.effort);
        if set.machine_wide {
            put(open("machine_wide"), &mut choice.machine_wide, &Some(true));
        }
    }
}

fn put<T: Clone>(open: bool, place: &mut T, value: &T) {
    if open {
        place.clone_from(value);
    }
}
