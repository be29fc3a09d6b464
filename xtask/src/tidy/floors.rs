//! The floors: a crate depends only on crates of strictly lower floors. Dev-dependencies are free, since tests
//! may set anything on top of anything.

use super::Finding;
use super::tree::Tree;

/// Every crate of `crates/` and its floor.
const FLOORS: &[(&str, u8)] = &[
    ("offshoot-block", 0),
    ("offshoot-format", 0),
    ("offshoot-device", 1),
    ("offshoot-reactor", 1),
    ("offshoot-store", 1),
    ("offshoot-nbd", 2),
    ("offshoot-rpc", 2),
    ("offshoot-sim", 2),
    ("diskengine", 3),
    ("offshoot", 3),
];

/// Crates that may use only some of what lies below them: the control plane speaks RPC and links no engine.
const ONLY: &[(&str, &[&str])] = &[("diskengine", &["offshoot-rpc"])];

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, manifest) in tree.texts("/Cargo.toml") {
        let Some(name) = crate_name(path) else { continue };
        let Some(floor) = floor_of(name) else {
            findings
                .push(Finding::of_file(path, format!("{name} has no floor: add it to the table in xtask")));
            continue;
        };
        let only = ONLY.iter().find(|(of, _)| *of == name).map(|(_, allowed)| *allowed);
        for (line, dependency) in dependencies(manifest) {
            let Some(below) = floor_of(dependency) else {
                continue;
            };
            if below >= floor {
                let message =
                    format!("{name} (floor {floor}) must not depend on {dependency} (floor {below})");
                findings.push(Finding::of_line(path, line, message));
            } else if only.is_some_and(|allowed| !allowed.contains(&dependency)) {
                let message = format!("{name} must not depend on {dependency}");
                findings.push(Finding::of_line(path, line, message));
            }
        }
    }
    findings
}

/// The crate whose manifest is at `path`, if it is one of `crates/`.
fn crate_name(path: &str) -> Option<&str> {
    let name = path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
    (!name.contains('/')).then_some(name)
}

fn floor_of(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

/// The packages that a manifest depends on, for building or running, with the number of their line. Knows as
/// much of TOML as manifests use: `name.workspace = true`, `name = { package = "p" }` and a table per
/// dependency, also under `target.'cfg(..)'`.
fn dependencies(manifest: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let (table, dependency) = dependency_table(header.0);
            inside = table;
            found.extend(dependency.map(|name| (index + 1, name)));
        } else if inside && !line.starts_with('#') {
            let name = line.split(['.', ' ', '=']).next().map(|name| name.trim_matches('"'));
            let name = package_of(line).or(name);
            found.extend(name.filter(|name| !name.is_empty()).map(|name| (index + 1, name)));
        }
    }
    found
}

/// Whether the table `header` lists dependencies or describes one, and the name of that one.
fn dependency_table(header: &str) -> (bool, Option<&str>) {
    // The condition of a target table may hold dots; what matters comes after it.
    let header = header
        .strip_prefix("target.")
        .and_then(|rest| rest.rsplit_once("'."))
        .map_or(header, |(_, rest)| rest);
    let (kind, name) = header.split_once('.').map_or((header, None), |(kind, name)| (kind, Some(name)));
    let is_dependency = matches!(kind, "dependencies" | "build-dependencies");
    (is_dependency, name.filter(|_| is_dependency))
}

/// The package that a renamed dependency stands for.
fn package_of(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("package = \"").or_else(|| line.split_once("package=\""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::super::findings;
    use super::*;

    #[test]
    fn a_dependency_upwards_or_sideways_is_found() {
        let found = "offshoot-store (floor 1) must not depend on";
        for (manifest, expected) in [
            ("[dependencies]\noffshoot-format.workspace = true\nuuid = \"1\"\n", vec![]),
            ("[dev-dependencies]\noffshoot-device.workspace = true\n", vec![]),
            ("[dependencies]\n# offshoot-nbd = \"1\"\n", vec![]),
            (
                "[dependencies]\noffshoot-device.workspace = true\n",
                vec![format!("2: {found} offshoot-device (floor 1)")],
            ),
            (
                "[dependencies.offshoot-nbd]\npath = \"../x\"\n",
                vec![format!("1: {found} offshoot-nbd (floor 2)")],
            ),
            (
                "[dependencies]\nx = { package = \"offshoot\" }\n",
                vec![format!("2: {found} offshoot (floor 3)")],
            ),
            (
                "[target.'cfg(target_os = \"linux\")'.dependencies]\noffshoot-sim = \"1\"\n",
                vec![format!("2: {found} offshoot-sim (floor 2)")],
            ),
            (
                "[build-dependencies]\noffshoot-rpc={ path = \"x\" }\n",
                vec![format!("2: {found} offshoot-rpc (floor 2)")],
            ),
        ] {
            let path = "crates/offshoot-store/Cargo.toml";
            let expected: Vec<String> = expected.iter().map(|rest| format!("{path}:{rest}")).collect();
            assert_eq!(findings(check, &[(path, manifest)]), expected, "{manifest}");
        }
    }

    #[test]
    fn the_control_plane_links_no_engine() {
        let manifest = "[dependencies]\noffshoot-rpc.workspace = true\noffshoot-store.workspace = true\n";
        assert_eq!(
            findings(check, &[("crates/diskengine/Cargo.toml", manifest)]),
            ["crates/diskengine/Cargo.toml:3: diskengine must not depend on offshoot-store"]
        );
    }

    #[test]
    fn a_crate_without_a_floor_is_found() {
        let files =
            [("crates/offshoot-extra/Cargo.toml", "[package]\n"), ("xtask/Cargo.toml", "[package]\n")];
        assert_eq!(
            findings(check, &files),
            ["crates/offshoot-extra/Cargo.toml: offshoot-extra has no floor: add it to the table in xtask"]
        );
    }
}
