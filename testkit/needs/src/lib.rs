//! The attribute `#[needs(...)]`, which marks a test as ignored on a machine that lacks what it needs.
//!
//! ```text
//! #[needs(root, numad)]
//! #[test]
//! fn a_test_that_asks_numad_as_root() {}
//!
//! test a_test_that_asks_numad_as_root ... ignored, needs numad (make deps-test)
//! ```
//!
//! libtest has no way to report a running test as ignored, so the machine is probed when the test is
//! compiled: build and run tests as the same user, on the same machine. Under `PLACER_REQUIRE=all`, which
//! `.ci/run` sets, a test that lacks something fails when it runs. Only what a machine cannot have (another
//! processor, say) is a reason to ignore a test there too. A change of `PLACER_REQUIRE` or `PATH` recompiles the
//! tests; so does an installation by `ci/deps test`.
//!
//! `own_kernel` is for tests of what emulators lack: it ignores them where they are compiled for another processor than
//! the compiler runs on (`make test-arch`).

mod probe;

use std::fmt::Write;

use proc_macro::{TokenStream, TokenTree};

use self::probe::{Found, Need};

/// Marks the test that follows as ignored if this machine lacks one of the needs listed, by their names in
/// `probe.rs`. To be written above `#[test]`.
#[proc_macro_attribute]
pub fn needs(names: TokenStream, test: TokenStream) -> TokenStream {
    let required = std::env::var_os("PLACER_REQUIRE").is_some_and(|value| value == "all");
    let written = parse_names(names).and_then(|names| attributes(&names, required, probe::find));
    let mut tokens = match written.as_deref().map(str::parse::<TokenStream>) {
        Ok(Ok(tokens)) => tokens,
        Ok(Err(error)) => return compile_error(&error.to_string()),
        Err(error) => return compile_error(error),
    };
    tokens.extend(test);
    tokens
}

fn compile_error(message: &str) -> TokenStream {
    format!("::core::compile_error!({message:?});").parse().unwrap_or_default()
}

/// Parses names separated by commas.
fn parse_names(tokens: TokenStream) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for (position, token) in tokens.into_iter().enumerate() {
        match token {
            TokenTree::Ident(name) if position % 2 == 0 => names.push(name.to_string()),
            TokenTree::Punct(comma) if position % 2 == 1 && comma.as_char() == ',' => {}
            other => return Err(format!("expected names separated by commas, found {other}")),
        }
    }
    Ok(names)
}

/// Returns what is written above the test: items that make the compiler track the environment, and the
/// attribute `ignore` if a need is not met. If everything is `required`, only what some machines cannot have is
/// probed.
fn attributes(
    names: &[String],
    required: bool,
    find: impl Fn(&'static Need) -> Found,
) -> Result<String, String> {
    if names.is_empty() {
        return Err("expected at least one need".to_owned());
    }
    let (mut missing, mut installable, mut own) = (Vec::new(), false, None);
    for name in names {
        let need = probe::NEEDS.iter().find(|need| need.name == name);
        let need = need.ok_or_else(|| format!("unknown need {name}: see testkit/needs"))?;
        if need.is_for_own_processor() {
            own = Some(need.what);
            continue;
        }
        if required && !need.is_not_for_all() {
            continue;
        }
        match find(need) {
            Found::CannotBeHad(reason) => missing.push(format!("{} ({reason})", need.what)),
            Found::Missing if !required => {
                installable |= need.is_installed();
                missing.push(need.what.to_owned());
            }
            Found::Here | Found::Missing => {}
        }
    }
    let mut written = String::new();
    for variable in ["PLACER_REQUIRE", "PATH"] {
        // Cargo recompiles what reads a variable when the variable changes.
        let _ = write!(
            written,
            "const _: ::core::option::Option<&str> = ::core::option_env!({variable:?});"
        );
    }
    if !missing.is_empty() {
        let hint = if installable { " (make deps-test)" } else { "" };
        let _ = write!(written, "#[ignore = {:?}]", format!("needs {}{hint}", missing.join(", ")));
    } else if let Some(what) = own {
        // The compiler knows what it compiles for, this part of it only where it runs.
        let here = std::env::consts::ARCH;
        let reason = format!("needs {what}");
        let _ = write!(written, "#[cfg_attr(not(target_arch = {here:?}), ignore = {reason:?})]");
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACKED: &str = "const _: ::core::option::Option<&str> = \
         ::core::option_env!(\"PLACER_REQUIRE\");const _: ::core::option::Option<&str> = \
         ::core::option_env!(\"PATH\");";

    fn written(names: &[&str], required: bool, met: &[&str]) -> Result<String, String> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let found = |need: &Need| match need.name {
            "numad_2025" => Found::CannotBeHad("for x86-64".to_owned()),
            name if met.contains(&name) => Found::Here,
            _ => Found::Missing,
        };
        let written = attributes(&names, required, found)?;
        Ok(written.strip_prefix(TRACKED).expect("the environment is tracked").to_owned())
    }

    #[test]
    fn every_missing_need_is_in_the_reason() {
        let names = ["root", "numad", "tmux"];
        let ignored = |reason: &str| Ok(format!("#[ignore = \"needs {reason}\"]"));
        assert_eq!(written(&names, false, &["tmux"]), ignored("root, numad (make deps-test)"));
        assert_eq!(written(&names, false, &["numad", "tmux"]), ignored("root"));
        assert_eq!(written(&names, false, &names), Ok(String::new()));
    }

    #[test]
    fn nothing_is_ignored_or_probed_where_everything_is_required() {
        let names = ["root".to_owned(), "numad".to_owned()];
        let written = attributes(&names, true, |_| unreachable!("probed"));
        assert_eq!(written.as_deref(), Ok(TRACKED));
    }

    #[test]
    fn what_a_machine_cannot_have_is_a_reason_everywhere() {
        let reason = "#[ignore = \"needs numad 20251104 (for x86-64)\"]".to_owned();
        for required in [false, true] {
            assert_eq!(written(&["root", "numad_2025"], required, &["root"]), Ok(reason.clone()));
        }
        // Fetched and not fetched alike: the test fails where it is required.
        let names = ["numad_2025".to_owned()];
        for found in [Found::Here, Found::Missing] {
            assert_eq!(attributes(&names, true, |_| found.clone()).as_deref(), Ok(TRACKED));
        }
    }

    #[test]
    fn what_an_emulator_lacks_is_ignored_for_other_processors_alone() {
        let attribute = format!(
            "#[cfg_attr(not(target_arch = {:?}), ignore = \"needs a kernel of its own processor, not emulation\")]",
            std::env::consts::ARCH
        );
        for required in [false, true] {
            assert_eq!(written(&["own_kernel"], required, &[]), Ok(attribute.clone()));
        }
        let missing = written(&["own_kernel", "root"], false, &[]);
        assert_eq!(missing, Ok("#[ignore = \"needs root\"]".to_owned()));
        assert_eq!(written(&["own_kernel", "root"], false, &["root"]), Ok(attribute));
    }

    #[test]
    fn an_unknown_need_and_none_are_errors() {
        let unknown = written(&["numda"], true, &[]);
        assert_eq!(unknown, Err("unknown need numda: see testkit/needs".to_owned()));
        assert!(written(&[], false, &[]).is_err());
    }

    #[test]
    fn needs_are_sorted_and_each_is_there_once() {
        let names: Vec<&str> = probe::NEEDS.iter().map(|need| need.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
