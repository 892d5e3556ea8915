//! Files of the configuration: what `--config` names, a folder's `*.yaml` in the order of their names, and `conf.d` beside a
//! file that is named alone.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is read, in this order, and what stands beside it and is not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) files: Vec<PathBuf>,
    pub(super) ignored: Vec<PathBuf>,
}

/// The files that these paths stand for; or all that is wrong with them, a line each.
pub(super) fn find(paths: &[PathBuf]) -> Result<Found, String> {
    let (mut found, mut wrong) = (Found::default(), Vec::new());
    for path in paths {
        if path.is_dir() {
            let before = found.files.len();
            match folder(path, &mut found) {
                Ok(()) if found.files.len() == before => wrong.push(format!(
                    "the folder {} has no file whose name ends in .yaml{}",
                    path.display(),
                    if found.ignored.is_empty() { "" } else { "; others are not read" }
                )),
                Ok(()) => {}
                Err(error) => wrong.push(format!("cannot read the folder {}: {error}", path.display())),
            }
            continue;
        }
        found.files.push(path.clone());
        let beside = path.parent().unwrap_or(Path::new("")).join(FOLDER);
        // Whoever names several says all that is meant.
        if paths.len() == 1
            && beside.is_dir()
            && let Err(error) = folder(&beside, &mut found)
        {
            wrong.push(format!("cannot read the folder {}: {error}", beside.display()));
        }
    }
    tell_doubles(&found.files, &mut wrong);
    if found.files.len() > FILES_MAX {
        wrong.push(format!("{} files of configuration; the most is {FILES_MAX}", found.files.len()));
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong.join("\n")) }
}

/// What is in a folder, in the order of the bytes of the names. Folders in it are not looked into.
fn folder(path: &Path, found: &mut Found) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name());
        if names.len() > NAMES_MAX {
            return Err(io::Error::other(format!("it has more than {NAMES_MAX} names in it")));
        }
    }
    names.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
    for name in names {
        let file = path.join(&name);
        // A mapped volume has links to files, and hidden folders that they lead to.
        let list = if is_read(&name) && !file.is_dir() { &mut found.files } else { &mut found.ignored };
        list.push(file);
    }
    Ok(())
}

/// A name that is no editor's copy, no package manager's and no hidden one.
fn is_read(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !name.starts_with(b".") && name.ends_with(b".yaml")
}

/// A file that is named twice would say everything twice.
fn tell_doubles(files: &[PathBuf], wrong: &mut Vec<String>) {
    if files.len() < 2 {
        return;
    }
    let mut seen = std::collections::HashMap::new();
    for file in files {
        let Ok(real) = file.canonicalize() else { continue };
        if let Some(first) = seen.insert(real, file) {
            wrong.push(format!("{} and {} are the same file", first.display(), file.display()));
        }
    }
}

/// Names for a log line: the first of many.
pub(super) fn listed(files: &[String]) -> String {
    let (first, more) = files.split_at(files.len().min(LISTED_MAX));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    format!("{}{more}", first.join(", "))
}

const FOLDER: &str = "conf.d";
/// Each holds a listener or a pool at least, of which there are 1,000.
const FILES_MAX: usize = 1_000;
/// A folder with more is another one than was meant.
const NAMES_MAX: usize = 10_000;
const LISTED_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn names(root: &Path, paths: &[PathBuf]) -> Vec<String> {
        paths.iter().map(|path| path.strip_prefix(root).unwrap().display().to_string()).collect()
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_its_names() {
        let tree =
            tree(&["b.yaml", "a.yaml", "Z.yaml", ".hidden.yaml", "c.yaml~", "d.yml", "sub.yaml/x.yaml"]);
        let found = find(&[tree.path().to_owned()]).unwrap();
        assert_eq!(names(tree.path(), &found.files), ["Z.yaml", "a.yaml", "b.yaml"]);
        assert_eq!(names(tree.path(), &found.ignored), [".hidden.yaml", "c.yaml~", "d.yml", "sub.yaml"]);
    }

    #[test]
    fn conf_d_belongs_to_a_file_that_is_named_alone() {
        let tree = tree(&["main.yaml", "other.yaml", "conf.d/b.yaml", "conf.d/a.yaml"]);
        let at = |name: &str| tree.path().join(name);
        let found = find(&[at("main.yaml")]).unwrap();
        assert_eq!(names(tree.path(), &found.files), ["main.yaml", "conf.d/a.yaml", "conf.d/b.yaml"]);
        let found = find(&[at("other.yaml"), at("main.yaml")]).unwrap();
        assert_eq!(names(tree.path(), &found.files), ["other.yaml", "main.yaml"]);
        let found = find(&[at("main.yaml"), at("conf.d")]).unwrap();
        assert_eq!(found.files.len(), 3);
    }

    #[test]
    fn what_is_wrong_is_told_at_once() {
        let tree = tree(&["main.yaml", "empty/x.yml", "b/main.yaml"]);
        std::os::unix::fs::symlink(tree.path().join("main.yaml"), tree.path().join("b/a.yaml")).unwrap();
        let at = |name: &str| tree.path().join(name);
        let told = find(&[at("main.yaml"), at("empty"), at("b")]).unwrap_err();
        assert!(told.contains("empty has no file whose name ends in .yaml; others are not read"), "{told}");
        assert!(told.contains("main.yaml and") && told.contains("b/a.yaml are the same file"), "{told}");
        assert_eq!(told.lines().count(), 2);
        // One that is not there is told by whoever reads it.
        assert_eq!(find(&[at("nothing.yaml")]).unwrap().files, [at("nothing.yaml")]);
    }

    #[test]
    fn long_lists_are_cut() {
        let files: Vec<String> = (0..30).map(|at| at.to_string()).collect();
        assert!(listed(&files).ends_with("18, 19 and 10 more"));
        assert_eq!(listed(&files[..2]), "0, 1");
    }
}
