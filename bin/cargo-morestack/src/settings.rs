//! What is to be instrumented and how: from the command line, `morestack.toml` and the manifests, to the wrappers that cargo starts.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::Options;
use crate::graph::Graph;
use crate::support::Library;

/// The name of the file that carries [`Settings`] to the wrappers: it is beside them.
pub(crate) const FILE_NAME: &str = "settings.json";

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
    /// Whether locals that anything may point at are on side stacks; they are, unless said otherwise.
    side_stack: Option<bool>,
}

/// What is said to who writes something else.
const ALLOWED: &str = "allowed: workspace-only = true|false, exclude = [packages], side-stack = true|false";

/// What the wrappers need to know.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Settings {
    /// Of this program and of the settings: of all that other code is made from the same sources by.
    pub(crate) fingerprint: String,
    pub(crate) support: Library,
    /// The rustdoc to call.
    pub(crate) rustdoc: String,
    workspace_only: bool,
    pub(crate) side_stacks: bool,
    /// Packages that the user wants to stay as they are.
    exclude: BTreeSet<String>,
    /// The directories of the packages that the scheduler itself is made of and stands on, and what they are called.
    runtime: BTreeMap<PathBuf, String>,
    /// The directories of the workspace's packages.
    members: BTreeSet<PathBuf>,
    /// Names of libraries whose functions may be preempted, wherever they are compiled.
    preemptible: BTreeSet<String>,
    /// Names of libraries that are not the workspace's: by name alone, what they define is not told from what a program of the same
    /// name does.
    foreign: BTreeSet<String>,
    /// Names of libraries whose functions are never touched, wherever they are compiled.
    untouched: BTreeSet<String>,
}

/// What the settings say of the crate that is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Untouched,
    /// Of the scheduler itself, in a build with side stacks.
    Own,
    ThirdParty,
    Member,
}

/// The crates of the scheduler.
const SCHEDULER: [&str; 3] = ["morestack", "morestack_asm", "morestack_stacks"];

impl Settings {
    /// Of all that is written, what the user has chosen for this workspace. The error is one line.
    pub(crate) fn new(
        options: &Options,
        graph: &Graph,
        rustdoc: String,
        support: impl FnOnce(bool) -> Result<Library, String>,
    ) -> Result<Settings, String> {
        let written = written(graph)?;
        let side_stacks = !options.no_side_stack && written.side_stack.unwrap_or(true);
        let exclude: BTreeSet<String> = options.exclude.iter().chain(&written.exclude).cloned().collect();
        if let Some(unknown) = exclude.iter().find(|name| !graph.has_package(name)) {
            return Err(format!(
                "exclude {unknown:?}: no package of this name is among the dependencies; {}",
                near(graph, unknown)
            ));
        }
        let foreign = graph.foreign_libraries();
        let (preemptible, shared): (BTreeSet<String>, BTreeSet<String>) =
            graph.own_libraries(&exclude).into_iter().partition(|name| !foreign.contains(name));
        if let Some(name) = shared.first() {
            eprintln!(
                "note: both a library of the workspace and one of its dependencies are called {name}: \
                 functions of neither are preempted"
            );
        }
        let workspace_only = options.workspace_only || written.workspace_only;
        let runtime = graph.runtime();
        let mut hasher = DefaultHasher::new();
        let program = std::env::current_exe().and_then(std::fs::read);
        program.map_err(|error| format!("cannot read this program: {error}"))?.hash(&mut hasher);
        let called: BTreeSet<_> = runtime.values().collect();
        (workspace_only, side_stacks, &exclude, called, &preemptible).hash(&mut hasher);
        Ok(Settings {
            fingerprint: format!("{:016x}", hasher.finish()),
            support: support(side_stacks)?,
            side_stacks,
            rustdoc,
            workspace_only,
            runtime,
            members: graph.member_dirs(),
            preemptible,
            foreign,
            untouched: graph.libraries_of(&exclude),
            exclude,
        })
    }

    /// Those of the wrapper that was started by this name.
    pub(crate) fn beside(wrapper: &OsStr) -> Result<Settings, String> {
        let path = Path::new(wrapper).with_file_name(FILE_NAME);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and paths of a manifest are JSON")
    }

    /// Of a crate of a package.
    pub(crate) fn class(&self, package: &str, dir: &Path, crate_name: &str) -> Class {
        let member = self.members.contains(dir);
        // Not the examples and tests in the scheduler's own packages.
        let runtime = self.runtime.contains_key(dir) && !(member && crate_name != package.replace('-', "_"));
        if runtime && self.side_stacks && SCHEDULER.contains(&crate_name) {
            Class::Own
        } else if runtime || self.exclude.contains(package) || self.workspace_only && !member {
            Class::Untouched
        } else if member {
            Class::Member
        } else {
            Class::ThirdParty
        }
    }

    /// Whether code of third parties has neither checks nor side stacks.
    pub(crate) fn leaves_out(&self) -> bool {
        self.workspace_only || !self.exclude.is_empty()
    }

    /// Whether a function gets the check, by the crate that defines it.
    pub(crate) fn is_checked(&self, defined_in: Option<&str>) -> bool {
        // Functions of the scheduler are compiled into crates that use it, too.
        defined_in.is_none_or(|name| !self.untouched.contains(name) && !SCHEDULER.contains(&name))
    }

    /// Whether a function is the scheduler's own, wherever it is compiled.
    pub(crate) fn is_own(&self, defined_in: Option<&str>) -> bool {
        self.side_stacks && defined_in.is_some_and(|name| SCHEDULER.contains(&name))
    }

    /// Whether a function may be preempted that is compiled in the crate of this class and name.
    pub(crate) fn is_preemptible(&self, defined_in: Option<&str>, class: Class, compiled: &str) -> bool {
        let own = class == Class::Member;
        match defined_in {
            Some(name) if own && name == compiled => !self.foreign.contains(name),
            Some(name) => self.preemptible.contains(name),
            // A name of the author's choice: it is not generic, so it is this crate's.
            None => own,
        }
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
            serde_json::from_value::<Written>(value.clone())
                .map(|written| (place.clone(), written))
                .map_err(|error| format!("{place}: {error}; {ALLOWED}"))
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
    toml::from_str(text).map_err(|error| format!("{}; {ALLOWED}", error.message().replace('\n', " ")))
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
        let written = parse("workspace-only = true\nexclude = [\"regex\"]\nside-stack = false").unwrap();
        let exclude = vec!["regex".to_owned()];
        assert_eq!(written, Written { workspace_only: true, exclude, side_stack: Some(false) });
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
