//! Puts the settings of a host where neither a variable nor a flag has said anything.

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::Settings;
use crate::args::{Args, Command, Via};

impl Settings {
    /// Fills what was left open.
    pub(crate) fn fill(&self, args: &mut Args, matches: &ArgMatches) {
        let Some((_, given)) = matches.subcommand() else { return };
        let open = |id| matches!(given.value_source(id), None | Some(ValueSource::DefaultValue));
        let Self { advise: set, .. } = self;
        match &mut args.command {
            // The real numad is asked as it is.
            Command::Advise(args) if args.via != Via::Numad => {
                put(open("policy"), &mut args.policy, &set.policy);
                put(open("window"), &mut args.host.window, &set.window);
                put(open("within"), &mut args.within, &set.within);
                put(open("memory_bound"), &mut args.memory_bound, &set.memory_bound);
                put(open("smt_percent"), &mut args.smt_percent, &set.smt_percent);
                put(open("prefer"), &mut args.prefer, &set.prefer);
                put(open("effort"), &mut args.effort, &set.effort);
                put(open("machine_wide"), &mut args.machine_wide, &set.machine_wide);
                put(open("hold"), &mut args.hold, &set.hold);
                put(open("strict"), &mut args.strict, &set.strict);
                // `--hold 0` takes back what is set.
                args.hold = args.hold.filter(|time| !time.is_zero());
            }
            Command::Show(args) => put(open("window"), &mut args.host.window, &set.window),
            _ => {}
        }
    }
}

fn put<T: Clone>(open: bool, place: &mut T, value: &T) {
    if open {
        place.clone_from(value);
    }
}
