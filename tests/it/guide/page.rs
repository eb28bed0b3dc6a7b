//! A page of the guide, as far as tests ask about it: its fenced blocks, links and headings.

use std::path::{Path, PathBuf};

use crate::common::project;

/// A fenced block.
pub(crate) struct Block {
    /// What follows the fence, as in `console,ignore`.
    pub(crate) info: String,
    /// The line of the fence.
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Block {
    pub(crate) fn language(&self) -> &str {
        self.info.split(',').next().unwrap_or("")
    }

    /// Returns what stands behind a prompt.
    pub(crate) fn commands<'a>(&'a self, prompt: &'a str) -> impl Iterator<Item = &'a str> {
        self.text.lines().filter_map(move |line| line.strip_prefix(prompt))
    }
}

pub(crate) struct Page {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) blocks: Vec<Block>,
    /// All lines outside of blocks, with their numbers.
    prose: Vec<(usize, String)>,
}

/// Returns every page of the guide but its contents, sorted.
pub(crate) fn pages() -> Vec<Page> {
    let entries = std::fs::read_dir(project().join("docs/src")).expect("the guide");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.retain(|path| !path.ends_with("SUMMARY.md"));
    paths.sort();
    paths.iter().map(|path| Page::read(path)).collect()
}

impl Page {
    pub(crate) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a page");
        let mut page = Self {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            path: path.to_owned(),
            blocks: Vec::new(),
            prose: Vec::new(),
        };
        let mut inside = false;
        for (line, content) in (1..).zip(text.lines()) {
            match (inside, content.strip_prefix("```")) {
                (true, Some("")) => inside = false,
                (true, _) => {
                    let block = page.blocks.last_mut().expect("it was opened");
                    block.text += content;
                    block.text.push('\n');
                }
                (false, Some(info)) => {
                    let info = info.trim().to_owned();
                    page.blocks.push(Block { info, line, text: String::new() });
                    inside = true;
                }
                (false, None) => {
                    // Such a block would be shown, and run by nobody.
                    assert!(!content.contains("```"), "{}:{line}: an indented fence", page.name);
                    page.prose.push((line, content.to_owned()));
                }
            }
        }
        assert!(!inside, "{}: a block without an end", page.name);
        page
    }

    /// Returns the target of each link, with its line.
    pub(crate) fn links(&self) -> impl Iterator<Item = (usize, String)> {
        self.prose.iter().flat_map(|(line, text)| {
            let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            targets.map(|target| (*line, target.to_owned()))
        })
    }

    /// Returns the lines below a heading that begins so, up to the next.
    pub(crate) fn below(&self, heading: &str) -> Vec<&str> {
        let lines = self.prose.iter().map(|(_, line)| line.as_str());
        let from = lines.skip_while(|line| !line.starts_with(heading)).skip(1);
        from.take_while(|line| !line.starts_with("## ")).collect()
    }

    /// Returns what is quoted in headings, and in the first cells of tables of what "it says".
    pub(crate) fn messages(&self) -> Vec<&str> {
        let (mut found, mut inside) = (Vec::new(), false);
        for (_, line) in &self.prose {
            inside = line.starts_with("| it says") || inside && line.starts_with('|');
            let quoting = match line.strip_prefix("## ") {
                Some(title) => title,
                None if inside => line.split(" | ").next().unwrap_or(""),
                None => continue,
            };
            found.extend(quoting.split('`').skip(1).step_by(2));
        }
        found
    }

    /// Returns the anchor of each heading, as mdBook makes them.
    pub(crate) fn anchors(&self) -> impl Iterator<Item = String> {
        let headings = self.prose.iter().filter(|(_, line)| line.starts_with('#'));
        headings.map(|(_, line)| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
            title.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
        })
    }
}

/// Returns a page as trycmd wants it: an empty line after what a command prints, since it takes the last
/// line end for its own, and no backslash, since it takes each for a separator of paths.
pub(crate) fn for_trycmd(text: &str) -> String {
    let (mut made, mut inside) = (String::new(), false);
    let mut printed = false;
    for line in text.lines() {
        if inside && printed && (line == "```" || line.starts_with("$ ")) {
            made.push('\n');
        }
        printed = inside && !line.starts_with("$ ") && !line.starts_with("? ");
        if line.starts_with("```") {
            inside = line == "```console";
            printed = false;
        }
        made += &if printed { line.replace('\\', "/") } else { line.to_owned() };
        made.push('\n');
    }
    made
}

/// Returns the page of what trycmd has written: the only backslashes that are printed end lines.
pub(crate) fn from_trycmd(text: &str) -> String {
    let (mut made, mut inside) = (String::new(), false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            inside = line == "```console";
        }
        let next = lines.peek().copied().unwrap_or("");
        if inside && line.is_empty() && (next == "```" || next.starts_with("$ ")) {
            continue;
        }
        match line.strip_suffix(" /").filter(|_| inside) {
            Some(start) => made += &format!("{start} \\\n"),
            None => made += &format!("{line}\n"),
        }
    }
    made
}
