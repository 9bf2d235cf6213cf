use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use models::segment::IMAGE_EXTENSIONS;

use super::{Content, Found};
use crate::Result;

/// How often a file that cannot be decoded is tried: it may still be being written.
const ATTEMPTS: u32 = 3;
/// A file that has not changed for so long is not being written any more.
const SETTLED: Duration = Duration::from_secs(60);

/// A folder in which images appear, watched by looking at it.
///
/// Images are the files ending in `.png`, `.jpg` or `.jpeg`, in folders below it too. What begins with a dot is
/// ignored, so that a writer can use a dotted name until a file is whole, and so are links. Each name is classified
/// once: a new image needs a new name.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    failures: HashMap<String, u32>,
    skipped: HashSet<String>,
}

/// What becomes of a file that could not be read or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may still be being written: the next scan finds it again.
    Retry,
    /// It is no image and will not become one: no scan finds it again.
    Skip,
    /// It is gone.
    Gone,
}

impl Folder {
    /// The source `root`, which need not exist yet.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), failures: HashMap::new(), skipped: HashSet::new() }
    }

    /// The images that are neither done nor skipped, sorted by path, at most `limit`.
    ///
    /// # Errors
    /// [`crate::Error::Models`] if the folder cannot be listed. Folders below it that cannot are passed over with a
    /// warning.
    pub fn scan(&self, limit: usize, is_done: impl Fn(&str) -> bool) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        self.list(&self.root, "", &mut found).map_err(models::Error::io("list", &self.root))?;
        found.retain(|f| !self.skipped.contains(&f.name) && !is_done(&f.name));
        found.sort_unstable_by(|a, b| a.name.split('/').cmp(b.name.split('/')));
        found.truncate(limit);
        Ok(found)
    }

    fn list(&self, folder: &Path, prefix: &str, found: &mut Vec<Found>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            let file_name = entry.file_name();
            let Some(file_name) = file_name.to_str() else {
                tracing::warn!("{}: ignored, since its name is not UTF-8", path.display());
                continue;
            };
            if file_name.starts_with('.') {
                continue;
            }
            let name = format!("{prefix}{file_name}");
            if kind.is_dir() {
                if let Err(e) = self.list(&path, &format!("{name}/"), found) {
                    tracing::warn!("cannot list {}: {e}", path.display());
                }
            } else if kind.is_file() {
                let file = Found { name, content: Content::File(path) };
                if IMAGE_EXTENSIONS.contains(&file.extension().as_str()) {
                    found.push(file);
                }
            }
        }
        Ok(())
    }

    /// Takes note that a file could not be read or decoded, and decides what becomes of it.
    pub fn failed(&mut self, file: &Found, now: SystemTime) -> Failure {
        let Content::File(path) = &file.content else { return Failure::Skip };
        let Ok(modified) = fs::metadata(path).and_then(|m| m.modified()) else {
            self.failures.remove(&file.name);
            return Failure::Gone;
        };
        let attempts = self.failures.entry(file.name.clone()).or_default();
        *attempts += 1;
        let settled = now.duration_since(modified).is_ok_and(|age| age >= SETTLED);
        if settled || *attempts >= ATTEMPTS {
            self.failures.remove(&file.name);
            self.skipped.insert(file.name.clone());
            return Failure::Skip;
        }
        Failure::Retry
    }

    /// Takes note that a file was classified.
    pub fn done(&mut self, file: &Found) {
        self.failures.remove(&file.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::TestResult;

    fn names(found: &[Found]) -> Vec<&str> {
        found.iter().map(|f| f.name.as_str()).collect()
    }

    #[test]
    fn finds_images_in_order_and_nothing_else() -> TestResult {
        let root = tempfile::tempdir()?;
        fs::create_dir_all(root.path().join("b/c"))?;
        fs::create_dir(root.path().join(".hidden"))?;
        for name in ["z.JPG", "a.png", "b/c/1.jpeg", ".a.png", ".hidden/1.png", "a.txt", "b/a.png.part", "png"] {
            fs::write(root.path().join(name), name)?;
        }
        std::os::unix::fs::symlink(root.path(), root.path().join("loop"))?;
        let source = Folder::new(root.path());
        assert_eq!(names(&source.scan(9, |_| false)?), ["a.png", "b/c/1.jpeg", "z.JPG"]);
        assert_eq!(names(&source.scan(1, |name| name == "a.png")?), ["b/c/1.jpeg"]);
        assert!(Folder::new(&root.path().join("missing")).scan(9, |_| false).is_err());
        Ok(())
    }

    #[test]
    fn a_fresh_file_is_retried_and_an_old_one_is_not() -> TestResult {
        let root = tempfile::tempdir()?;
        fs::write(root.path().join("half.png"), b"half")?;
        let mut source = Folder::new(root.path());
        let file = source.scan(9, |_| false)?.remove(0);
        let path = root.path().join("half.png");
        let now = fs::metadata(&path)?.modified()?;
        assert_eq!([(); 3].map(|()| source.failed(&file, now)), [Failure::Retry, Failure::Retry, Failure::Skip]);
        assert!(source.scan(9, |_| false)?.is_empty());

        let mut source = Folder::new(root.path());
        assert_eq!(source.failed(&file, now + SETTLED), Failure::Skip);
        fs::remove_file(&path)?;
        assert_eq!(source.failed(&file, now), Failure::Gone);
        Ok(())
    }
}
