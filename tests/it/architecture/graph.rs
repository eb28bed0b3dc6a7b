//! The modules of a crate and what they name, read from `use` lines and from paths.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module by its path from the root of the crate, which is the empty one.
pub(crate) type Module = Vec<String>;

/// The modules of a crate, and which of them name which.
pub(crate) struct Graph {
    pub(crate) modules: BTreeMap<Module, PathBuf>,
    pub(crate) edges: BTreeSet<(Module, Module)>,
}

impl Graph {
    /// Reads a crate from its folder of sources. Programs below `bin` and tests are left out.
    pub(crate) fn read(root: &Path) -> Self {
        let files =
            super::rust_files(root).into_iter().filter(|file| !file.starts_with(root.join("bin")));
        let modules: BTreeMap<Module, PathBuf> =
            files.map(|file| (module_of(root, &file), file)).collect();
        let texts: BTreeMap<&Module, String> =
            modules.iter().map(|(module, file)| (module, super::code(file))).collect();
        let reexports: BTreeMap<&Module, BTreeMap<String, String>> =
            texts.iter().map(|(module, text)| (*module, reexports(text))).collect();
        let names = Names { modules: &modules, reexports: &reexports };
        let mut edges = BTreeSet::new();
        for (module, text) in &texts {
            for path in paths(text) {
                let Some(path) = names.absolute(module, &path) else { continue };
                let named = names.module(&path, 8);
                if named != **module {
                    edges.insert(((*module).clone(), named));
                }
            }
        }
        Self { modules, edges }
    }

    /// Returns each circle of modules beside one another, with the uses that close it. What lies below a
    /// module counts as the module; a module and what lies below it may name each other.
    pub(crate) fn circles(&self) -> Vec<String> {
        let parents: BTreeSet<&[String]> =
            self.modules.keys().filter_map(|module| module.split_last()).map(|(_, p)| p).collect();
        parents.into_iter().flat_map(|parent| self.circles_in(parent)).collect()
    }

    fn circles_in(&self, parent: &[String]) -> Vec<String> {
        let child = |module: &Module| -> Option<String> {
            module.strip_prefix(parent).and_then(|rest| rest.first()).cloned()
        };
        let mut beside: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for (from, to) in &self.edges {
            if let (Some(a), Some(b)) = (child(from), child(to))
                && a != b
            {
                beside.entry((a, b)).or_default().push(format!(
                    "{} -> {}",
                    from.join("::"),
                    to.join("::")
                ));
            }
        }
        let reaches = |from: &str, to: &str| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
            while let Some(at) = open.pop() {
                for ((_, next), _) in beside.iter().filter(|((a, _), _)| *a == at) {
                    if next == to {
                        return true;
                    }
                    if seen.insert(next.clone()) {
                        open.push(next.clone());
                    }
                }
            }
            false
        };
        let closing = beside.iter().filter(|((a, b), _)| reaches(b, a));
        closing.flat_map(|(_, uses)| uses.clone()).collect()
    }
}

/// How names are resolved.
struct Names<'a> {
    modules: &'a BTreeMap<Module, PathBuf>,
    reexports: &'a BTreeMap<&'a Module, BTreeMap<String, String>>,
}

impl Names<'_> {
    /// Returns a path from the root of the crate; `None` for one of another crate.
    fn absolute(&self, module: &Module, path: &str) -> Option<Module> {
        let mut words: Vec<String> = path.split("::").map(str::to_owned).collect();
        let mut base = match words.first()?.as_str() {
            "crate" => {
                words.remove(0);
                Module::new()
            }
            "self" => {
                words.remove(0);
                module.clone()
            }
            "super" => module.clone(),
            first => {
                let mut child = module.clone();
                child.push(first.to_owned());
                self.modules.contains_key(&child).then(|| module.clone())?
            }
        };
        while words.first().is_some_and(|word| word == "super") {
            words.remove(0);
            base.pop();
        }
        base.extend(words);
        Some(base)
    }

    /// Returns the module in which a name is defined.
    fn module(&self, path: &[String], depth: u32) -> Module {
        let longest = (0..=path.len()).rev().find(|&len| self.modules.contains_key(&path[..len]));
        let module = path[..longest.unwrap_or(0)].to_vec();
        let Some(name) = path.get(module.len()) else { return module };
        let target = self.reexports.get(&module).and_then(|names| names.get(name));
        let target = target.and_then(|target| self.absolute(&module, target));
        match target {
            Some(mut target) if depth > 0 && target != path[..=module.len()] => {
                target.extend_from_slice(&path[module.len() + 1..]);
                self.module(&target, depth - 1)
            }
            _ => module,
        }
    }
}

fn module_of(root: &Path, file: &Path) -> Module {
    let inside = file.strip_prefix(root).expect("below the root").with_extension("");
    let words = inside.iter().map(|word| word.to_str().expect("a plain name").to_owned());
    words.filter(|word| word != "lib").collect()
}

/// Returns the paths that a text names: those of its `use` lines, and others that begin in this crate.
fn paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = String::new();
    for (at, statement) in text.split(';').enumerate() {
        match use_tree(statement) {
            Some((_, tree)) => found.extend(expanded(tree)),
            None => rest.push_str(&format!("{}{statement}", if at > 0 { ";" } else { "" })),
        }
    }
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in rest.match_indices(start) {
            let before = rest[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let path: String = rest[at..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || "_:".contains(*c))
                .collect();
            found.push(path.trim_end_matches(':').to_owned());
        }
    }
    found
}

/// Returns names that a module passes on, with where they come from.
fn reexports(text: &str) -> BTreeMap<String, String> {
    let public = text.split(';').filter_map(use_tree).filter(|(public, _)| *public);
    let paths = public.flat_map(|(_, tree)| expanded(tree));
    paths.filter_map(|path| Some((path.rsplit("::").next()?.to_owned(), path))).collect()
}

/// Returns the tree of a `use` statement, and whether it is public.
fn use_tree(statement: &str) -> Option<(bool, &str)> {
    let line = statement.rsplit_once("use ")?;
    let before = line.0.rsplit(['\n', '}']).next().unwrap_or_default().trim();
    let (public, rest) = (before.starts_with("pub"), before);
    (rest.is_empty() || rest == "pub" || rest.starts_with("pub(")).then_some((public, line.1))
}

/// Returns the paths of a `use` tree, without braces and without new names.
fn expanded(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, inside)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.trim().trim_end_matches("::self").to_owned()];
    };
    let inside = inside.rsplit_once('}').map_or(inside, |(inside, _)| inside);
    let (mut paths, mut depth, mut one) = (Vec::new(), 0, String::new());
    for c in inside.chars().chain([',']) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            let each = expanded(&one).into_iter().filter(|path| !path.is_empty());
            paths.extend(each.map(|path| match path.as_str() {
                "self" => before.trim().trim_end_matches("::").to_owned(),
                path => format!("{}{path}", before.trim()),
            }));
            one.clear();
        } else {
            one.push(c);
        }
    }
    paths
}
