//! The files that a volume is to hold, by path. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::KeyToPath;

/// Mode of files whose spec names none.
const DEFAULT_MODE: i32 = 0o644;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File<'a> {
    /// Contents.
    pub(super) data: Cow<'a, [u8]>,
    /// Permission bits.
    pub(super) mode: u32,
    /// Owner, where it is not root.
    pub(super) owner: Option<u32>,
}

impl<'a> File<'a> {
    /// A file of root's with the mode of the first of `modes` that is set.
    pub(super) fn new(data: impl Into<Cow<'a, [u8]>>, modes: [Option<i32>; 2]) -> Self {
        let mode = modes.into_iter().flatten().next().unwrap_or(DEFAULT_MODE);
        Self { data: data.into(), mode: mode.unsigned_abs() & 0o777, owner: None }
    }
}

/// Files by their path in the volume.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Payload<'a> {
    files: BTreeMap<String, File<'a>>,
}

impl<'a> Payload<'a> {
    /// Files in the order of their paths.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &File<'a>)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// The file at a path.
    pub(super) fn get(&self, path: &str) -> Option<&File<'a>> {
        self.files.get(path)
    }

    /// Adds a file at a path that the pod's spec names: a second one at the same path is a mistake.
    pub(super) fn add(&mut self, path: &str, file: File<'a>) -> Result<(), String> {
        match self.files.insert(clean(path)?, file) {
            None => Ok(()),
            Some(_) => Err(format!("path {path:?} is given twice; give every file a path of its own")),
        }
    }

    /// Adds the keys of a ConfigMap or Secret: those that `items` names, or all of them with `items` empty.
    ///
    /// Whole objects in one volume may share keys; the later one wins, as upstream has it.
    pub(super) fn add_keys<'k>(
        &mut self,
        what: &str,
        items: Option<&[KeyToPath]>,
        mode: Option<i32>,
        optional: bool,
        get: impl Fn(&str) -> Option<&'a [u8]>,
        keys: impl Iterator<Item = &'k String>,
    ) -> Result<(), String> {
        let items = items.unwrap_or_default();
        if items.is_empty() {
            for key in keys {
                let Some(data) = get(key) else { continue };
                self.files.insert(clean(key)?, File::new(data, [mode, None]));
            }
        }
        for item in items {
            match get(&item.key) {
                Some(data) => self.add(&item.path, File::new(data, [item.mode, mode]))?,
                None if optional => {}
                None => {
                    return Err(format!("{what} references non-existent key {:?}; add the key or mark the reference optional", item.key));
                }
            }
        }
        Ok(())
    }

    /// Checks that no file stands where another one needs a directory.
    pub(super) fn check(&self) -> Result<(), String> {
        for path in self.files.keys() {
            let parents = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
            if let Some(file) = parents.into_iter().find(|p| self.files.contains_key(*p)) {
                return Err(format!("path {path:?} lies below {file:?}, which is a file"));
            }
        }
        Ok(())
    }
}

/// A relative path without `.`, `..` or doubled slashes, whose first part can't be taken for the writer's own `..data`.
fn clean(path: &str) -> Result<String, String> {
    let refuse = |why: &str| Err(format!("path {path:?} {why}; write a relative path such as conf.d/app.conf"));
    if path.starts_with('/') {
        return refuse("is absolute");
    }
    if path.contains('\0') || path.len() > 4096 {
        return refuse("is no path");
    }
    let parts: Vec<&str> = path.split('/').filter(|p| !matches!(*p, "" | ".")).collect();
    match parts.first() {
        None => return refuse("is empty"),
        Some(first) if first.starts_with("..") => return refuse("starts with '..'"),
        Some(_) => {}
    }
    if parts.iter().any(|p| *p == ".." || p.len() > 255) {
        return refuse("has '..' or a name of more than 255 bytes in it");
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File<'_> {
        File::new(text.as_bytes(), [None, None])
    }

    #[test]
    fn paths_are_cleaned_or_refused() {
        for (path, want) in [("a", "a"), ("a/b", "a/b"), ("./a//b/.", "a/b"), ("a/..b", "a/..b"), (".hidden", ".hidden"), ("a/", "a")] {
            assert_eq!(clean(path).as_deref(), Ok(want), "{path}");
        }
        let long = "x".repeat(256);
        for path in ["", "/", ".", "/etc/passwd", "..", "../a", "a/../b", "..data", "..data/a", "...", "a\0", &long] {
            assert!(clean(path).is_err(), "{path}");
        }
    }

    #[test]
    fn modes() {
        for (modes, want) in [([None, None], 0o644), ([Some(0o400), Some(0o600)], 0o400), ([None, Some(0o600)], 0o600)] {
            assert_eq!(File::new("".as_bytes(), modes).mode, want);
        }
        assert_eq!(File::new("".as_bytes(), [Some(0o107_777), None]).mode, 0o777);
    }

    #[test]
    fn conflicts() {
        let mut payload = Payload::default();
        payload.add("a/b", file("1")).unwrap();
        assert!(payload.add("a//b", file("2")).unwrap_err().contains("given twice"));
        assert_eq!(payload.check(), Ok(()));
        payload.add("a", file("3")).unwrap();
        assert!(payload.check().unwrap_err().contains("below \"a\""));
    }

    #[test]
    fn keys_and_items() {
        let data: BTreeMap<String, Vec<u8>> = [("k".to_owned(), b"v".to_vec()), ("l".to_owned(), b"w".to_vec())].into();
        fn add<'a>(
            payload: &mut Payload<'a>,
            data: &'a BTreeMap<String, Vec<u8>>,
            items: &[KeyToPath],
            optional: bool,
        ) -> Result<(), String> {
            let get = |k: &str| data.get(k).map(Vec::as_slice);
            payload.add_keys("configmap \"c\"", Some(items), Some(0o440), optional, get, data.keys())
        }
        let item = |key: &str, path: &str| KeyToPath { key: key.into(), path: path.into(), mode: None };

        let mut payload = Payload::default();
        add(&mut payload, &data, &[], false).unwrap();
        add(&mut payload, &data, &[], false).expect("whole objects may overlap");
        assert_eq!(payload.files().map(|(p, f)| (p.to_owned(), f.mode)).collect::<Vec<_>>(), [("k".into(), 0o440), ("l".into(), 0o440)]);

        let mut payload = Payload::default();
        add(&mut payload, &data, &[item("k", "dir/x")], false).unwrap();
        assert_eq!(payload.get("dir/x").map(|f| &*f.data), Some(&b"v"[..]));
        assert!(add(&mut payload, &data, &[item("none", "y")], false).unwrap_err().contains("non-existent key \"none\""));
        assert_eq!(add(&mut payload, &data, &[item("none", "y")], true), Ok(()));
        assert_eq!(payload.files().count(), 1);
    }
}
