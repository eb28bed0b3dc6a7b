//! Flags that were typed and would change nothing beside the others.
//!
//! Of variables and settings that is not said: they are for all commands together.

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::{Args, Command, PolicyName, Via};

/// What only policy best asks about; the places of these flags in clap's terms.
const BESTS: [&str; 7] =
    ["memory_bound", "smt_percent", "prefer", "effort", "cache", "cache_penalty", "cores"];

/// Those of them that decide where a guest is placed, not whether it fits.
const WHERE: [&str; 5] = ["memory_bound", "prefer", "effort", "cache", "cache_penalty"];

/// Refuses a command line with a flag that would be passed over.
///
/// Errors: the first of them, and what it would need.
pub fn refuse(args: &Args, matches: &ArgMatches) -> Result<(), String> {
    let Some((_, given)) = matches.subcommand() else { return Ok(()) };
    let typed = |id: &&str| given.value_source(id) == Some(ValueSource::CommandLine);
    let flag = |id: &str| format!("--{}", id.replace('_', "-"));
    let choice = match &args.command {
        Command::Advise(args) if !args.together && args.copies.is_none() && typed(&"pin") => {
            return Err("--pin needs --together or --copies".to_owned());
        }
        Command::Advise(args) if args.via == Via::Numad => {
            let best = ["policy"].into_iter().filter(|_| args.choice.policy == PolicyName::Best);
            let also = ["machine_wide", "window", "mode"].into_iter().chain(best);
            return BESTS.into_iter().chain(also).find(typed).map_or(Ok(()), |id| {
                let why = "numad goes by rules of its own, and measures for 2 s";
                Err(format!("{} and --via numad exclude each other: {why}", flag(id)))
            });
        }
        Command::Advise(args) => &args.choice,
        Command::Launch(args) => &args.choice,
        Command::Place(args) => &args.choice,
        Command::Fit(args) => &args.choice,
        Command::Top(args) => &args.choice,
        _ => return Ok(()),
    };
    match BESTS.into_iter().find(typed) {
        Some(id) if choice.policy == PolicyName::Numad => {
            Err(format!("{} needs --policy best: numad's rules do not support it", flag(id)))
        }
        _ => match WHERE.into_iter().find(typed) {
            Some(id) if matches!(args.command, Command::Fit(_)) => {
                Err(format!("{} does not change how many guests fit: omit it", flag(id)))
            }
            _ => Ok(()),
        },
    }
}
