//! What was read at one moment: texts and links by path. A value; nothing is opened here.

use std::collections::{BTreeMap, BTreeSet};

/// A host of 8,192 CPUs has some 250,000 files, most of them masks of 2 KB.
pub(super) const MAX_ENTRIES: usize = 400_000;
pub(super) const MAX_BYTES: usize = 256 << 20;

/// One path of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A directory that is there even if nothing in it is.
    Dir,
    /// A file.
    Text(Vec<u8>),
    /// A link to another path of the recording, given from its root.
    Link(String),
}

/// A host at one moment. Sorted, so that the same host is always written the same way.
#[derive(Debug, Default)]
pub(super) struct Tree {
    entries: BTreeMap<String, Entry>,
    bytes: usize,
    notes: Vec<String>,
}

impl Tree {
    /// Adds a path. Returns whether there was room for it.
    #[must_use]
    pub(super) fn add(&mut self, path: &str, entry: Entry) -> bool {
        let more = path.len() + if let Entry::Text(text) = &entry { text.len() } else { 0 };
        if self.entries.len() >= MAX_ENTRIES || more > MAX_BYTES - self.bytes {
            return false;
        }
        self.bytes += more;
        self.entries.insert(path.to_owned(), entry);
        true
    }

    /// Adds something a person should know.
    pub(super) fn note(&mut self, text: String) {
        const MOST: usize = 20;
        match self.notes.len() {
            ..MOST => self.notes.push(text),
            MOST => self.notes.push("more files could not be read".to_owned()),
            _ => {}
        }
    }

    pub(super) fn into_notes(self) -> Vec<String> {
        self.notes
    }

    /// Returns a file's text.
    pub(super) fn text(&self, path: &str) -> Option<&[u8]> {
        match self.entries.get(path)? {
            Entry::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the files and directories below a directory, sorted.
    pub(super) fn below<'a>(&'a self, dir: &str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let dir = format!("{dir}/");
        let from = self.entries.range(dir.clone()..);
        from.take_while(move |(path, _)| path.starts_with(&dir)).map(|(p, e)| (p.as_str(), e))
    }

    /// Returns whether a path, or anything below it, is there.
    fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path) || self.below(path).next().is_some()
    }

    /// Leaves out links to what was not recorded.
    pub(super) fn drop_dangling_links(&mut self) {
        loop {
            let dangling: Vec<String> = self
                .entries
                .iter()
                .filter(|(_, entry)| matches!(entry, Entry::Link(to) if !self.contains(to)))
                .map(|(path, _)| path.clone())
                .collect();
            if dangling.is_empty() {
                return;
            }
            // What led to one of these dangles now.
            for path in dangling {
                self.entries.remove(&path);
            }
        }
    }

    /// Returns everything, sorted by path.
    pub(super) fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Returns the texts of a later moment that are new or other than here, sorted by path.
    pub(super) fn changed<'a>(
        &'a self,
        later: &'a Self,
    ) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        later.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::Text(text) if self.entries.get(path) != Some(entry) => {
                Some((path.as_str(), text.as_slice()))
            }
            _ => None,
        })
    }

    /// Returns the paths that are gone at a later moment, sorted; a directory stands for all that
    /// was in it.
    pub(super) fn removed<'a>(&'a self, later: &Self) -> BTreeSet<&'a str> {
        let gone = self.entries.keys().filter(|path| !later.entries.contains_key(*path));
        gone.map(|path| {
            let mut gone = path.as_str();
            while let Some((dir, _)) = gone.rsplit_once('/')
                && !later.contains(dir)
            {
                gone = dir;
            }
            gone
        })
        .collect()
    }
}

/// Returns the path a link means, from the root of the host: `None` when it leads out of it or is
/// none a recording could hold.
pub(super) fn resolve(link: &str, to: &str) -> Option<String> {
    if to.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    const DEEPEST: usize = 40;
    let good = (1..=DEEPEST).contains(&parts.len()) && parts.iter().all(|part| is_name(part));
    good.then(|| parts.join("/"))
}

/// Returns the text of a link at one path to another one: `../../node/node1`.
pub(super) fn relative(link: &str, to: &str) -> String {
    let from: Vec<&str> = link.split('/').collect();
    let from = &from[..from.len() - 1];
    let to: Vec<&str> = to.split('/').collect();
    let same = from.iter().zip(&to[..to.len() - 1]).take_while(|(a, b)| a == b).count();
    let mut parts = vec![".."; from.len() - same];
    parts.extend(&to[same..]);
    parts.join("/")
}

/// Returns whether a name may be part of a recorded path: what sysfs uses, nothing that would have
/// to be quoted.
pub(super) fn is_name(name: &str) -> bool {
    const LONGEST: usize = 100;
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-+@!,=#%~".contains(&b))
        && !matches!(name, "." | "..")
}
