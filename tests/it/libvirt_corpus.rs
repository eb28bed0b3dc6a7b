//! Every domain definition of libvirt's own tests for QEMU that its schema accepts, placed: `make test-xml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{project, run, text};
use crate::print_xml::{domains, host, print, rest};

/// The files that a schema accepts.
fn valid(schema: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let args = ["--noout", "--nonet", "--relaxng"];
    let output = run(Command::new("xmllint").args(args).arg(schema).args(files));
    let said = text(&output.stderr);
    let valid = |file: &&PathBuf| {
        let line = format!("{} validates", file.display());
        said.lines().any(|said| said == line)
    };
    files.iter().filter(valid).cloned().collect()
}

/// What libvirt's driver for tests says to a definition. `None`: it takes it.
fn complaint(dir: &Path, definition: &str) -> Option<String> {
    let kind = regex::Regex::new(r#"(<domain[^>]*\stype=)['"][a-z]+['"]"#).expect("a pattern");
    let file = dir.join("defined.xml");
    fs::write(&file, kind.replace(definition, "$1'test'").as_bytes()).expect("written");
    let define = ["-q", "-c", "test:///default", "define"];
    let output = run(Command::new("virsh").args(define).arg(&file));
    (!output.status.success()).then(|| text(&output.stderr).trim().replace('\n', "; "))
}

#[test]
#[ignore = "fetches libvirt's source: make test-xml"]
fn every_definition_of_libvirts_tests_is_placed_or_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    // Else each complaint below is about virsh and not about a definition.
    let trivial =
        "<domain type='kvm'><name>a</name><memory>65536</memory><os><type>hvm</type></os></domain>";
    assert_eq!(complaint(dir.path(), trivial), None);
    let source = run(Command::new(project().join("ci/libvirt-source")).arg("--root"));
    assert!(source.status.success(), "{}", text(&source.stderr));
    let source = PathBuf::from(text(&source.stdout).trim());
    host(dir.path());
    let meminfo = dir.path().join("proc/meminfo");
    let known = fs::read_to_string(&meminfo).unwrap_or_default();
    fs::write(&meminfo, known + "Hugepagesize:       2048 kB\n").expect("written");

    let data = source.join("tests/qemuxml2argvdata");
    let files = fs::read_dir(&data).expect("definitions").map(|entry| entry.expect("an entry"));
    let files = files.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
    files.sort();
    let all = files.len();
    for (name, definition) in domains() {
        let file = dir.path().join(format!("case-{name}.xml"));
        fs::write(&file, definition).expect("written");
        files.push(file);
    }
    let cases = files.len() - all;
    let schema = source.join("src/conf/schemas/domain.rng");
    let files = valid(&schema, &files);
    println!(
        "{all} definitions of libvirt's tests and {cases} cases, {} of them valid",
        files.len()
    );
    assert!(files.len() > 1000, "{}", files.len());

    let (mut accepted, mut unfit, mut wrong) = (Vec::new(), 0, Vec::new());
    let mut refused = BTreeMap::<String, usize>::new();
    let mut not_for_tests = 0;
    for file in &files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let definition = fs::read_to_string(file).expect("text");
        let output = print(dir.path(), &definition, &[]);
        let (printed, said) = (text(&output.stdout), text(&output.stderr));
        let named = said.lines().find_map(|line| {
            // FILE:LINE:COLUMN: <ELEMENT>: WHAT
            let (place, what) = line.split_once(": <")?;
            let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            (place.rsplit(':').take(2).all(digits)).then(|| format!("<{what}"))
        });
        match (output.status.code(), named) {
            (Some(0), _) if rest(&printed) != rest(&definition) => {
                wrong.push(format!("{name}: another guest"));
            }
            (Some(0), _) => {
                let placed = dir.path().join(format!("placed-{name}"));
                fs::write(&placed, &printed).expect("written");
                // What this driver does not take anyway says nothing.
                match complaint(dir.path(), &definition) {
                    Some(_) => not_for_tests += 1,
                    None => wrong.extend(
                        complaint(dir.path(), &printed).map(|why| format!("{name}: {why}")),
                    ),
                }
                accepted.push(placed);
            }
            (Some(1), _) if said.contains("not starting: ") => unfit += 1,
            (Some(2), Some(what)) if printed.is_empty() => *refused.entry(what).or_default() += 1,
            (code, _) => wrong.push(format!("{name}: exit {code:?}, {said}")),
        }
    }
    let still = valid(&schema, &accepted);
    wrong.extend(
        accepted
            .iter()
            .filter(|file| !still.contains(file))
            .map(|file| format!("{}: no longer valid", file.display())),
    );
    let count = refused.values().sum::<usize>();
    println!(
        "{} accepted, {count} refused by name, {unfit} do not fit the host, {} wrong",
        accepted.len(),
        wrong.len()
    );
    println!(
        "{not_for_tests} of those accepted are not for libvirt's driver for tests, placed or not"
    );
    refused.iter().for_each(|(what, count)| println!("  {count:4} {what}"));
    wrong.iter().for_each(|line| println!("WRONG {line}"));
    assert_eq!(wrong.len(), 0);
    assert!(not_for_tests < accepted.len(), "no placed definition was defined");
    assert_eq!(accepted.len() + count + unfit, files.len());
}
