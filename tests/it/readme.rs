//! What the README shows of the program, against what the program prints.
//!
//! `UPDATE_EXPECT=1` writes it anew; the diff is read, then committed.

use crate::common;

use common::{placer, project, run, text};

#[test]
fn every_command_in_the_readme_prints_what_stands_there() {
    let path = project().join("README.md");
    let readme = std::fs::read_to_string(&path).expect("a README");
    let (mut made, mut count) = (String::new(), 0);
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        made += &format!("{line}\n");
        if line != "```console" {
            continue;
        }
        let command = lines.next().expect("a command");
        let args = command.strip_prefix("$ placer ").expect("a command of ours");
        let output = run(placer().args(args.split(' ')).current_dir(project()));
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
        made += &format!("{command}\n{}```\n", text(&output.stdout));
        lines.by_ref().take_while(|line| *line != "```").for_each(drop);
        count += 1;
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &made).expect("written");
    } else {
        assert_eq!(made, readme);
    }
    assert!(count > 0);
}
