//! What is to be instrumented and how: from the command line, `morestack.toml` and the manifests, through the environment, to the
//! processes that cargo starts.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::Options;
use crate::graph::Graph;

/// The environment variable that carries [`Settings`] to the wrappers.
pub(crate) const VARIABLE: &str = "CARGO_MORESTACK_SETTINGS";

/// The file beside the workspace's `Cargo.toml`.
pub(crate) const FILE: &str = "morestack.toml";

/// What `morestack.toml` and `metadata.morestack` may say.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Written {
    /// Third-party crates stay as they are.
    #[serde(default)]
    workspace_only: bool,
    /// Packages that stay as they are.
    #[serde(default)]
    exclude: Vec<String>,
}

/// What the wrappers need to know.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Settings {
    /// Directory for what is kept between builds.
    pub(crate) dir: PathBuf,
    /// The rustdoc to call.
    pub(crate) rustdoc: PathBuf,
    pub(crate) workspace_only: bool,
    /// Packages that the user wants to stay as they are.
    pub(crate) exclude: BTreeSet<String>,
    /// Packages that the scheduler itself is made of, and what it stands on.
    pub(crate) runtime: BTreeSet<String>,
    /// The directories of the workspace's packages.
    pub(crate) members: BTreeSet<PathBuf>,
    /// Names of crates whose functions may be preempted.
    pub(crate) preemptible: BTreeSet<String>,
    /// Names of crates whose functions are never touched, wherever they are compiled.
    pub(crate) untouched: BTreeSet<String>,
}

impl Settings {
    /// Of all that is written, what the user has chosen for this workspace. The error is one line.
    pub(crate) fn new(options: &Options, graph: &Graph, dir: PathBuf) -> Result<Settings, String> {
        let written = written(graph)?;
        let exclude: BTreeSet<String> = options.exclude.iter().chain(&written.exclude).cloned().collect();
        if let Some(unknown) = exclude.iter().find(|name| !graph.has_package(name)) {
            return Err(format!(
                "exclude {unknown:?}: no package of this name is among the dependencies; {}",
                near(graph, unknown)
            ));
        }
        Ok(Settings {
            dir,
            rustdoc: std::env::var_os("RUSTDOC").unwrap_or_else(|| "rustdoc".into()).into(),
            workspace_only: options.workspace_only || written.workspace_only,
            runtime: graph.runtime(),
            members: graph.member_dirs(),
            preemptible: graph.preemptible(&exclude),
            untouched: graph.crates_of(&exclude),
            exclude,
        })
    }

    /// Those that cargo's wrappers were started with.
    pub(crate) fn from_environment() -> Result<Settings, String> {
        let text = std::env::var(VARIABLE)
            .map_err(|_| format!("{VARIABLE} is not set: this is started by `cargo morestack`"))?;
        serde_json::from_str(&text).map_err(|error| format!("{VARIABLE}: {error}"))
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and paths of a manifest are JSON")
    }

    /// Whether the package of this directory is one of the workspace's.
    pub(crate) fn is_member(&self, dir: &Path) -> bool {
        self.members.contains(dir)
    }

    /// What other code is made from the same sources by. It enters cargo's fingerprints by way of rustc's version.
    pub(crate) fn fingerprint(&self) -> String {
        format!("workspace-only={} exclude={:?} runtime={:?}", self.workspace_only, self.exclude, self.runtime)
    }
}

/// From `morestack.toml`, or the metadata of the workspace or of its root package.
fn written(graph: &Graph) -> Result<Written, String> {
    let path = graph.root().join(FILE);
    let file = match std::fs::read_to_string(&path) {
        Ok(text) => Some(parse(&text).map_err(|error| format!("{}: {error}", path.display()))?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let manifests = graph
        .metadata()
        .map(|(place, value)| {
            serde_json::from_value::<Written>(value.clone()).map(|written| (place.clone(), written)).map_err(|error| {
                format!("{place}: {error}; allowed: workspace-only = true|false, exclude = [packages]")
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut all = file.map(|written| (path.display().to_string(), written)).into_iter().chain(manifests);
    let Some((first, written)) = all.next() else { return Ok(Written::default()) };
    match all.next() {
        Some((second, _)) => Err(format!("{first} and {second} both have settings: keep one of them")),
        None => Ok(written),
    }
}

fn parse(text: &str) -> Result<Written, String> {
    toml::from_str(text).map_err(|error| {
        format!("{}; allowed: workspace-only = true|false, exclude = [packages]", error.message().replace('\n', " "))
    })
}

/// Names that `unknown` may have been meant for.
fn near(graph: &Graph, unknown: &str) -> String {
    let plain = |name: &str| name.replace('_', "-").to_lowercase();
    let wanted = plain(unknown);
    let near: Vec<_> = graph
        .packages()
        .filter(|name| {
            let name = plain(name);
            name.contains(&wanted) || wanted.contains(&name)
        })
        .take(5)
        .collect();
    if near.is_empty() { "`cargo tree` lists them".to_owned() } else { format!("there is {}", near.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_is_allowed() {
        let written = parse("workspace-only = true\nexclude = [\"regex\"]").unwrap();
        assert_eq!(written, Written { workspace_only: true, exclude: vec!["regex".to_owned()] });
        for (text, expected) in [("workspace_only = true", "unknown field"), ("exclude = 3", "invalid type"), ("=", "")]
        {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains(expected) && error.contains("allowed: workspace-only") && !error.contains('\n'),
                "{error}"
            );
        }
    }
}
