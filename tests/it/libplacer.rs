//! libplacer, `bindings/c`: its symbols and header, and the example programs, also under valgrind and sanitizers.
//!
//! The library is linked of the archive that cargo has built beside this test program, by the script that
//! `make capi` calls.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use needs::needs;
use regex::Regex;
use testkit::machine::Machine;

use crate::common::{self, fixture, project, run, text};

const GIB: u64 = 1 << 20;

/// Installs the library in a directory of the build, as `make install` does, and returns the directory.
fn installed() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libplacer");
        succeeds(Command::new(project().join("bindings/c/link")).arg(archive()).arg(&out));
        let mut install = Command::new(project().join("packaging/install-lib"));
        succeeds(install.arg(&out).env_remove("DESTDIR").env("PREFIX", &out).env_remove("LIBDIR"));
        out
    })
}

/// Returns the directory with the library.
fn library() -> PathBuf {
    installed().join("lib")
}

/// The newest archive: older ones are of other features or profiles.
fn archive() -> PathBuf {
    let program = std::env::current_exe().expect("this program");
    let files = std::fs::read_dir(program.parent().expect("its directory")).expect("readable");
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("libplacer_c-") && name.ends_with(".a")
    };
    let changed = |path: &PathBuf| path.metadata().and_then(|meta| meta.modified()).ok();
    let archives = files.flatten().map(|file| file.path()).filter(is_ours);
    archives.max_by_key(changed).expect("cargo has built the archive")
}

fn succeeds(command: &mut Command) -> Output {
    let output = run(command);
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

/// Compiles an example, and returns the program.
fn example(name: &str, dir: &Path, more: &[&str]) -> PathBuf {
    compile(&project().join(format!("bindings/c/examples/{name}.c")), &dir.join(name), more)
}

/// Compiles a program by what pkg-config says.
fn compile(source: &Path, program: &Path, more: &[&str]) -> PathBuf {
    let mut config = Command::new("pkg-config");
    config
        .args(["--cflags", "--libs", "placer"])
        .env("PKG_CONFIG_PATH", library().join("pkgconfig"));
    let flags = text(&succeeds(&mut config).stdout).trim().to_owned();
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-g", "-pthread", "-o"]).arg(program);
    succeeds(cc.arg(source).args(more).args(flags.split(' ')).arg("-ldl"));
    program.to_owned()
}

/// A recorded host with room for one guest of 1 CPU and 4 GiB, and a directory for claims.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let host = Machine::new().node(0, 0..4, 8 * GIB, 6 * GIB);
        host.write(&dir.path().join("host"));
        std::fs::create_dir(dir.path().join("claims")).expect("made");
        Self { dir }
    }

    fn host(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    fn claims(&self) -> PathBuf {
        self.dir.path().join("claims")
    }

    /// Runs a program, below others, with the library. No settings of the caller's reach it.
    fn run(&self, program: &Path, above: &[&str], arguments: &[&Path]) -> String {
        let mut words = above.iter().map(Path::new).chain([program]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("LD_LIBRARY_PATH", library()).env("ASAN_OPTIONS", "detect_leaks=1");
        command.env("UBSAN_OPTIONS", "halt_on_error=1");
        text(&succeeds(&mut command).stdout)
    }

    /// Runs the example programs.
    fn run_all(&self, flags: &[&str], above: &[&str], above_with_thread: &[&str]) {
        let dir = self.dir.path();
        let build = |name: &str| example(name, dir, flags);
        let (host, claims) = (self.host(), self.claims());
        let both = [host.as_path(), claims.as_path()];
        let placed = self.run(&build("place"), above, &both);
        assert!(placed.starts_with("nodes 0, CPUs 0-3\n"), "{placed}");
        assert_eq!(placed.lines().count(), 2, "this host: {placed}");
        let version = format!("libplacer {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(self.run(&build("options"), above_with_thread, &both), version);
        assert_eq!(self.run(&build("hazards"), above_with_thread, &both), "ok\n");
        let ledger = std::fs::read_dir(&claims).expect("the claims").flatten();
        let ledgers = ledger.filter(|file| file.path().extension().is_some_and(|e| e == "jsonl"));
        let left: Vec<String> = ledgers
            .map(|file| std::fs::read_to_string(file.path()).expect("a ledger"))
            .filter(|text| text.contains("\"id\""))
            .collect();
        assert_eq!(left, [""; 0], "all claims were released");
    }
}

#[needs(cc)]
#[test]
fn every_symbol_is_in_the_header_and_in_the_symbols_file() {
    let shared = library().join("libplacer.so.0");
    let nm = succeeds(Command::new("nm").args(["-D", "--defined-only"]).arg(&shared));
    let nm = text(&nm.stdout);
    let exported: BTreeSet<&str> = nm
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .filter(|name| *name != "LIBPLACER_0.1" && *name != "LIBPLACER_0.1@@LIBPLACER_0.1")
        .map(|name| name.strip_suffix("@@LIBPLACER_0.1").unwrap_or(name))
        .collect();
    let header = std::fs::read_to_string(project().join("bindings/c/placer.h")).expect("a header");
    let comments = Regex::new(r"(?s)/\*.*?\*/").expect("a pattern");
    let code = comments.replace_all(&header, "").into_owned();
    let function = Regex::new(r"\b(placer_\w+)\(").expect("a pattern");
    let declared: Vec<&str> = function
        .captures_iter(&code)
        .filter_map(|found| found.get(1))
        .map(|m| m.as_str())
        .collect();
    assert_eq!(exported, declared.iter().copied().collect());
    assert_eq!(exported.len(), declared.len(), "declared once each");

    let symbols = project().join("bindings/c/libplacer0.symbols");
    let symbols = std::fs::read_to_string(symbols).expect("the symbols");
    let kept: BTreeSet<&str> = symbols
        .lines()
        .filter_map(|line| line.strip_prefix(" placer_")?.split('@').next())
        .collect();
    let exported: BTreeSet<&str> =
        exported.iter().map(|name| name.trim_start_matches("placer_")).collect();
    assert_eq!(
        kept, exported,
        "symbols are added with the version that has them, and never removed"
    );

    let page = std::fs::read_to_string(project().join("bindings/c/libplacer.3")).expect("a page");
    let missing = |name: &&&str| !page.contains(&format!("placer_{name}"));
    assert_eq!(exported.iter().find(missing), None, "in the manual page");
}

#[needs(cc)]
#[test]
fn the_library_has_its_soname_and_needs_the_c_library_alone() {
    let shared = library().join("libplacer.so.0");
    let read = succeeds(Command::new("readelf").args(["-d", "--wide"]).arg(&shared));
    let read = text(&read.stdout);
    let names = Regex::new(r"\((SONAME|NEEDED)\).*\[(.*)\]").expect("a pattern");
    let found: BTreeSet<(&str, &str)> = names
        .captures_iter(&read)
        .filter_map(|found| Some((found.get(1)?.as_str(), found.get(2)?.as_str())))
        // The dynamic linker, for thread-local storage.
        .filter(|(_, name)| !name.starts_with("ld-linux"))
        .collect();
    let wanted =
        [("NEEDED", "libc.so.6"), ("NEEDED", "libgcc_s.so.1"), ("SONAME", "libplacer.so.0")];
    assert_eq!(found, wanted.into_iter().collect());
}

#[needs(cc, cxx)]
#[test]
fn the_header_compiles_as_c89_and_cxx() {
    let header = project().join("bindings/c/placer.h");
    for (compiler, language, standard) in
        [("cc", "c", "c89"), ("cc", "c", "c17"), ("c++", "c++", "c++98"), ("c++", "c++", "c++17")]
    {
        let mut command = Command::new(compiler);
        command.args(["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pedantic-errors", "-x"]);
        succeeds(command.args([language, &format!("-std={standard}")]).arg(&header));
    }
}

#[needs(cc)]
#[test]
fn example_programs_run() {
    let place = Place::new();
    place.run_all(&[], &[], &[]);
    // Not below the others: valgrind reads the symbols of each copy, and sanitizers keep what was loaded.
    let (unload, library) =
        (example("unload", place.dir.path(), &[]), library().join("libplacer.so.0"));
    assert_eq!(place.run(&unload, &[], &[&library, &place.host()]), "ok\n");
}

/// The program on the guide's page about C: on this host, with claims of its own.
#[needs(cc)]
#[test]
fn the_guides_program_runs() {
    let place = Place::new();
    let page = std::fs::read_to_string(project().join("docs/src/c.md")).expect("the page");
    let shown = page.split("```c\n").nth(1).and_then(|rest| rest.split("```").next());
    let shown = shown.expect("a program").replace(
        "placer_request_new(host",
        &format!("placer_host_set(host, \"state-dir\", \"{}\", &error) != PLACER_OK ||\n placer_request_new(host", place.claims().display()),
    );
    assert!(shown.contains("state-dir"));
    let source = place.dir.path().join("guest.c");
    std::fs::write(&source, shown).expect("written");
    let program = compile(&source, &place.dir.path().join("guest"), &["-D_POSIX_C_SOURCE=200809L"]);
    let said = place.run(&program, &[], &[]);
    assert!(said.starts_with("nodes ") && said.contains(", CPUs "), "{said}");
}

#[needs(cc, valgrind)]
#[test]
fn example_programs_are_clean_under_valgrind() {
    // Without a thread nothing is left at the end. With one std keeps a block for each thread of the program.
    let strict = "valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=all --errors-for-leak-kinds=all";
    let usual = "valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite";
    let words = |line: &'static str| line.split(' ').collect::<Vec<_>>();
    Place::new().run_all(&[], &words(strict), &words(usual));
}

#[needs(cc, sanitizers)]
#[test]
fn example_programs_are_clean_with_sanitizers() {
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    Place::new().run_all(&flags, &[], &[]);
}

/// The packages of Debian, made of this library: a program is compiled with what they install.
#[needs(cc, dpkg_shlibdeps)]
#[test]
fn the_debian_packages_have_what_a_program_needs() {
    let place = Place::new();
    let dir = place.dir.path();
    let library = format!("libplacer.so.{}", env!("CARGO_PKG_VERSION"));
    std::fs::create_dir(dir.join("capi")).expect("made");
    let mut strip = Command::new("strip");
    succeeds(strip.arg(installed().join(&library)).arg("-o").arg(dir.join("capi").join(&library)));
    let make = project().join("packaging/make-lib-debs");
    for out in ["debs", "again"] {
        succeeds(Command::new(&make).arg(dir.join("capi")).arg(dir.join(out)));
    }
    let files = std::fs::read_dir(dir.join("debs")).expect("a directory").flatten();
    let mut packages: Vec<PathBuf> = files.map(|file| file.path()).collect();
    packages.sort();
    assert_eq!(packages.len(), 2);
    let root = dir.join("root");
    let field = |package: &Path, name: &str| {
        let mut deb = Command::new("dpkg-deb");
        text(&succeeds(deb.arg("-f").arg(package).arg(name)).stdout).trim_end().to_owned()
    };
    for package in &packages {
        let name = package.file_name().expect("a name");
        let bytes = |dir: &Path| std::fs::read(dir.join(name)).expect("a package");
        assert_eq!(
            bytes(&dir.join("debs")),
            bytes(&dir.join("again")),
            "made twice, they are alike"
        );
        succeeds(Command::new("dpkg-deb").arg("-x").arg(package).arg(&root));
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(field(&packages[0], "Depends"), format!("libplacer0 (= {version})"));
    assert_eq!(field(&packages[1], "Package"), "libplacer0");
    let needs = field(&packages[1], "Depends");
    assert!(needs.contains("libc6 (>= ") && needs.contains("libgcc-s1 (>= "), "{needs}");
    let symbols = succeeds(Command::new("dpkg-deb").arg("-I").arg(&packages[1]).arg("symbols"));
    assert!(text(&symbols.stdout).starts_with("libplacer.so.0 libplacer0"), "{symbols:?}");

    let libraries = std::fs::read_dir(root.join("usr/lib")).expect("a directory").flatten();
    let libraries = libraries.map(|entry| entry.path()).next().expect("one for the architecture");
    let mut config = Command::new("pkg-config");
    config.args(["--cflags", "--libs", "placer"]).env("PKG_CONFIG_SYSROOT_DIR", &root);
    let flags =
        text(&succeeds(config.env("PKG_CONFIG_LIBDIR", libraries.join("pkgconfig"))).stdout);
    let (source, program) = (project().join("bindings/c/examples/ask.c"), dir.join("ask"));
    succeeds(Command::new("cc").arg(source).arg("-o").arg(&program).args(flags.split_whitespace()));
    let mut ask = Command::new(&program);
    ask.arg("-r").arg(fixture("ring-4")).arg("2:100").env("LD_LIBRARY_PATH", &libraries);
    let answer: serde_json::Value =
        serde_json::from_str(&text(&succeeds(&mut ask).stdout)).expect("JSON");
    assert_eq!(answer["fits"], true);
}

/// The answer is that of the program, without what only that one explains.
#[needs(cc)]
#[test]
fn the_json_is_that_of_placer_advise() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ask, place) = (example("ask", dir.path(), &[]), Place::new());
    for (host, request) in [
        ("ring-4", "2:100"),
        ("ring-4-busy", "4:500"),
        ("ring-4-busy", "0.5:64M"),
        ("two-nodes", "99:1T"),
    ] {
        let root = fixture(host);
        for sampler in [&[][..], &[Path::new("-s")]] {
            let state = place.claims();
            let arguments = [Path::new("-c"), &state, Path::new("-r"), &root, Path::new(request)];
            let answer = place.run(&ask, &[], &[sampler, &arguments].concat());
            let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
            let program =
                common::placer().args(["advise", request, "--json", "--root"]).arg(&root).output();
            let mut program = common::json(&program.expect("placer runs"));
            let fields = program.as_object_mut().expect("an object");
            for explained in ["alternatives", "numad", "numad_version", "remedies", "free_caches"] {
                fields.remove(explained);
            }
            assert_eq!(answer, program, "{host} {request}");
        }
    }
}
