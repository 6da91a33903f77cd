//! Cargo's own configuration, as far as our wrappers stand in its place: cargo tells it nobody on stable Rust.
//!
//! In order: `--config`, the environment, `.cargo/config.toml` of this directory and those above it, that of cargo's home.

use std::path::{Path, PathBuf};

use crate::arguments::Arguments;

/// The value of `build.KEY`, where it is a program or a name.
pub(crate) fn build(key: &str, arguments: &Arguments) -> Option<String> {
    let here = std::env::current_dir().ok()?;
    let given = arguments.values("--config").filter_map(|value| value.to_str());
    // The last one counts.
    let given: Vec<_> = given.filter_map(|value| of_argument(value, &here, key)).collect();
    let variable = format!("CARGO_BUILD_{}", key.to_uppercase().replace('-', "_"));
    given.into_iter().next_back().or_else(|| std::env::var(variable).ok()).or_else(|| of_files(&here, key))
}

/// Of `--config`: a file, or a line of one.
fn of_argument(value: &str, here: &Path, key: &str) -> Option<String> {
    let path = here.join(value);
    if path.is_file() { of_file(&path, here, key) } else { of_text(value, here, key) }
}

fn of_files(here: &Path, key: &str) -> Option<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let above = here.ancestors().map(|dir| dir.join(".cargo"));
    // The older name comes first, as it does for cargo.
    above.chain(home).find_map(|dir| {
        let file = ["config", "config.toml"].map(|name| dir.join(name)).into_iter().find(|path| path.is_file())?;
        of_file(&file, dir.parent()?, key)
    })
}

fn of_file(path: &Path, base: &Path, key: &str) -> Option<String> {
    of_text(&std::fs::read_to_string(path).ok()?, base, key)
}

/// A path with a directory in it starts where the configuration is; a name is looked for in `PATH`.
fn of_text(text: &str, base: &Path, key: &str) -> Option<String> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let value = table.get("build")?.get(key)?.as_str()?;
    Some(if value.contains('/') { base.join(value).to_str()?.to_owned() } else { value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_lines_and_files() {
        let base = Path::new("/a");
        assert_eq!(of_argument("build.rustc-wrapper='b'", base, "rustc-wrapper").as_deref(), Some("b"));
        assert_eq!(of_argument("build.rustc-wrapper='b/c'", base, "rustc-wrapper").as_deref(), Some("/a/b/c"));
        assert_eq!(of_argument("build.rustc-wrapper='b'", base, "rustdoc"), None);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(".cargo")).unwrap();
        std::fs::create_dir_all(dir.path().join("inner")).unwrap();
        std::fs::write(dir.path().join(".cargo/config.toml"), "[build]\nrustdoc = 'x/y'\n").unwrap();
        let expected = dir.path().join("x/y").to_str().unwrap().to_owned();
        assert_eq!(of_files(&dir.path().join("inner"), "rustdoc"), Some(expected));
    }
}
