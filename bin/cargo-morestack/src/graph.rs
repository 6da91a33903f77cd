//! The packages of a build, as `cargo metadata` tells them: which are the workspace's own, and which are the scheduler.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId, TargetKind};

use crate::TARGET;
use crate::arguments::Arguments;

/// The package that the program depends on. What it stands on is found from it.
const RUNTIME: &str = "morestack";

pub(crate) struct Graph {
    metadata: Metadata,
}

impl Graph {
    /// Of the workspace that the arguments of cargo choose. The error is cargo's own.
    pub(crate) fn load(cargo: &Path, arguments: &Arguments) -> Result<Graph, String> {
        let common = arguments.only(&["--manifest-path", "--config"], &["--offline", "--locked", "--frozen"]);
        let of_features = arguments.only(&["-F", "--features"], &["--all-features", "--no-default-features"]);
        // Every feature, so that the answer is the same for every command: what is not built is never asked for. That may need a
        // package that the command does not, and that is not here.
        let metadata =
            ask(cargo, &common, &["--all-features".into()]).or_else(|_| ask(cargo, &common, &of_features))?;
        Ok(Graph { metadata })
    }

    pub(crate) fn root(&self) -> &Path {
        self.metadata.workspace_root.as_std_path()
    }

    pub(crate) fn target_dir(&self) -> &Path {
        self.metadata.target_directory.as_std_path()
    }

    pub(crate) fn packages(&self) -> impl Iterator<Item = &str> {
        self.metadata.packages.iter().map(|package| package.name.as_str())
    }

    pub(crate) fn has_package(&self, name: &str) -> bool {
        self.packages().any(|package| package == name)
    }

    pub(crate) fn member_dirs(&self) -> BTreeSet<PathBuf> {
        self.metadata.workspace_packages().into_iter().map(dir).collect()
    }

    /// The `morestack` tables of the workspace's manifests, each with its place.
    pub(crate) fn metadata(&self) -> impl Iterator<Item = (String, &serde_json::Value)> {
        let manifest = self.metadata.workspace_root.join("Cargo.toml");
        let of_workspace = (format!("[workspace.metadata.morestack] in {manifest}"), &self.metadata.workspace_metadata);
        let packages =
            self.metadata.workspace_packages().into_iter().map(|package| {
                (format!("[package.metadata.morestack] in {}", package.manifest_path), &package.metadata)
            });
        std::iter::once(of_workspace)
            .chain(packages)
            .filter_map(|(place, table)| Some((place, table.get("morestack")?)))
    }

    /// The packages of the scheduler, and all that they stand on: it calls them where a stack must not move. What its macros stand on
    /// runs in the compiler only.
    pub(crate) fn runtime(&self) -> BTreeMap<PathBuf, String> {
        let nodes: HashMap<&PackageId, _> =
            self.metadata.resolve.iter().flat_map(|resolve| &resolve.nodes).map(|node| (&node.id, node)).collect();
        let mut found = HashSet::new();
        let mut ahead: Vec<&PackageId> =
            self.metadata.packages.iter().filter(|p| p.name.as_str() == RUNTIME).map(|p| &p.id).collect();
        while let Some(id) = ahead.pop() {
            if has_kind(&self.metadata[id], &TargetKind::ProcMacro) || !found.insert(id) {
                continue;
            }
            let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps);
            ahead.extend(
                dependencies
                    .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal))
                    .map(|dep| &dep.pkg),
            );
        }
        let named = |package: &Package| format!("{}@{}", package.name, package.version);
        found.into_iter().map(|id| (dir(&self.metadata[id]), named(&self.metadata[id]))).collect()
    }

    /// The names of the libraries that packages of these names have.
    pub(crate) fn libraries_of(&self, packages: &BTreeSet<String>) -> BTreeSet<String> {
        self.metadata.packages.iter().filter(|p| packages.contains(p.name.as_str())).flat_map(libraries).collect()
    }

    /// The names of the workspace's libraries, but for those of these packages.
    pub(crate) fn own_libraries(&self, exclude: &BTreeSet<String>) -> BTreeSet<String> {
        let own = self.metadata.workspace_packages().into_iter();
        own.filter(|package| !exclude.contains(package.name.as_str())).flat_map(libraries).collect()
    }

    /// The names of all other libraries.
    pub(crate) fn foreign_libraries(&self) -> BTreeSet<String> {
        let members: HashSet<_> = self.metadata.workspace_members.iter().collect();
        self.metadata.packages.iter().filter(|package| !members.contains(&package.id)).flat_map(libraries).collect()
    }
}

fn ask(cargo: &Path, common: &[OsString], of_features: &[OsString]) -> Result<Metadata, String> {
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--color=never", "--filter-platform", TARGET])
        .args(common)
        .args(of_features)
        .output()
        .map_err(|error| format!("cannot start {}: {error}", cargo.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let error = said.find("error: ").map_or(&*said, |at| &said[at + "error: ".len()..]);
        return Err(error.trim_end().to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    MetadataCommand::parse(&*text).map_err(|error| format!("cargo metadata: {error}"))
}

fn dir(package: &Package) -> PathBuf {
    package.manifest_path.parent().map(|dir| dir.as_std_path().to_owned()).unwrap_or_default()
}

fn has_kind(package: &Package, kind: &TargetKind) -> bool {
    package.targets.iter().any(|target| target.kind.contains(kind))
}

/// The names that rustc knows the libraries of a package by, as far as they end up in a program.
fn libraries(package: &Package) -> impl Iterator<Item = String> {
    use TargetKind::{Bench, Bin, CustomBuild, Example, ProcMacro, Test};
    let is_library = |kind: &TargetKind| !matches!(kind, Bench | Bin | CustomBuild | Example | ProcMacro | Test);
    package
        .targets
        .iter()
        .filter(move |target| target.kind.iter().any(is_library))
        .map(|target| target.name.replace('-', "_"))
}
