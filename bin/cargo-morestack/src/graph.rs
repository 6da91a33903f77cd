//! The packages of a build, as `cargo metadata` tells them: which are the workspace's own, and which are the scheduler.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, Package, PackageId, TargetKind};

/// The package that the program depends on. What it stands on is found from it.
const RUNTIME: &str = "morestack";

pub(crate) struct Graph {
    metadata: Metadata,
}

impl Graph {
    /// Of the workspace that the arguments of cargo choose. The error is cargo's own.
    pub(crate) fn load(cargo: &Path, arguments: &[String]) -> Result<Graph, String> {
        let mut command = MetadataCommand::new();
        command.cargo_path(cargo);
        let mut passed = Vec::new();
        for pair in arguments.windows(2) {
            if matches!(pair[0].as_str(), "--manifest-path" | "--config") {
                passed.extend_from_slice(pair);
            }
        }
        passed.extend(
            arguments
                .iter()
                .filter(|a| {
                    a.starts_with("--manifest-path=")
                        || a.starts_with("--config=")
                        || matches!(a.as_str(), "--offline" | "--locked" | "--frozen")
                })
                .cloned(),
        );
        // Every feature: what is not built for this command is never seen.
        command.features(CargoOpt::AllFeatures).other_options(passed);
        let metadata = command.exec().map_err(|error| match error {
            cargo_metadata::Error::CargoMetadata { stderr } => {
                stderr.trim_end().trim_start_matches("error: ").to_owned()
            }
            error => error.to_string(),
        })?;
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
        self.metadata
            .workspace_packages()
            .iter()
            .filter_map(|package| package.manifest_path.parent())
            .map(|dir| dir.as_std_path().to_owned())
            .collect()
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

    /// The packages of the scheduler, and all that they stand on: it calls them where a stack must not move.
    pub(crate) fn runtime(&self) -> BTreeSet<String> {
        let Some(resolve) = &self.metadata.resolve else { return BTreeSet::new() };
        let nodes: HashMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
        let mut found = BTreeSet::new();
        let mut ahead: Vec<&PackageId> =
            self.metadata.packages.iter().filter(|p| p.name.as_str() == RUNTIME).map(|p| &p.id).collect();
        while let Some(id) = ahead.pop() {
            if !found.insert(&self.metadata[id].name) {
                continue;
            }
            let dependencies = nodes.get(id).into_iter().flat_map(|node| &node.deps);
            ahead.extend(
                dependencies
                    .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal))
                    .map(|dep| &dep.pkg),
            );
        }
        found.into_iter().map(|name| name.to_string()).collect()
    }

    /// The names of the crates that packages of these names have.
    pub(crate) fn crates_of(&self, packages: &BTreeSet<String>) -> BTreeSet<String> {
        self.metadata.packages.iter().filter(|p| packages.contains(p.name.as_str())).flat_map(crates).collect()
    }

    /// The names of the workspace's crates, but for those that a third-party crate has, too: by its name alone a function of the
    /// one cannot be told from one of the other.
    pub(crate) fn preemptible(&self, exclude: &BTreeSet<String>) -> BTreeSet<String> {
        let members: BTreeSet<_> = self.metadata.workspace_members.iter().collect();
        let (own, others): (Vec<_>, Vec<_>) =
            self.metadata.packages.iter().partition(|package| members.contains(&package.id));
        let others: BTreeSet<_> = others.into_iter().flat_map(crates).collect();
        own.into_iter()
            .filter(|package| !exclude.contains(package.name.as_str()))
            .flat_map(crates)
            .filter(|name| !others.contains(name))
            .collect()
    }
}

/// The names that rustc knows the targets of a package by, as far as they end up in a program.
fn crates(package: &Package) -> impl Iterator<Item = String> {
    package
        .targets
        .iter()
        .filter(|target| {
            !target.kind.iter().any(|kind| matches!(kind, TargetKind::CustomBuild | TargetKind::ProcMacro))
        })
        .map(|target| target.name.replace('-', "_"))
}
