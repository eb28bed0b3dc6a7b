//! Writes what lies beside the program in a package: manual pages, completions, the settings file, the
//! link by numad's name.
//!
//! Nothing of it is kept in the project, so nothing can be out of date: `make install` and `make deb`
//! run this. It reads the flags by the program's own modules, so that they may use nothing but each
//! other and the libraries; a program of its own keeps the two generators out of `placer`.

mod page;
mod settings;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use placer::{args, atomic_file};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(dir), None) = (args.next(), args.next()) else {
        eprintln!("usage: placer-extras DIR: writes DIR/man, DIR/completions, DIR/placer.toml");
        return ExitCode::from(2);
    };
    match write_all(&PathBuf::from(dir)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("placer-extras: {error}");
            if let Some(cause) = error.source() {
                eprintln!("  {cause}");
            }
            ExitCode::from(2)
        }
    }
}

fn write_all(dir: &Path) -> Result<(), Box<dyn Error>> {
    let command = args::Args::command().disable_help_subcommand(true);
    for (name, text) in page::pages(&command)? {
        let section = name.rsplit('.').next().unwrap_or_default();
        write(&dir.join(format!("man/man{section}")), &name, &text)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), "placer", &mut text);
        write(&dir.join("completions"), completion_name(shell), &text)?;
    }
    write(dir, "placer.toml", settings::packaged()?.as_bytes())?;
    link(&dir.join("numad"))
}

/// Makes the link that packages install as /usr/bin/numad: by that name the program is numad.
fn link(path: &Path) -> Result<(), Box<dyn Error>> {
    let fail = |error| format!("cannot make the link {}: {error}", path.display());
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(fail(error).into()),
        _ => symlink("placer", path).map_err(fail)?,
    }
    Ok(())
}

/// Returns the name under which a shell looks for its completions of placer.
fn completion_name(shell: Shell) -> &'static str {
    match shell {
        Shell::Zsh => "_placer",
        Shell::Fish => "placer.fish",
        _ => "placer",
    }
}

fn write(dir: &Path, name: &str, text: &[u8]) -> Result<(), Box<dyn Error>> {
    let path = dir.join(name);
    let fail = |error| format!("cannot make the directory {}: {error}", dir.display());
    fs::create_dir_all(dir).map_err(fail)?;
    Ok(atomic_file::replace(&path, text)?)
}
