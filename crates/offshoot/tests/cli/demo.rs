//! `demo`: the whole main job, and what it leaves.

use super::bench::Bench;

#[test]
fn the_demonstration_passes_and_its_files_are_kept() {
    let bench = Bench::new();
    let text = bench.ok(&["demo", "folder"]);
    assert!(text.ends_with("\ndemo passed\n"), "{text}");
    for command in ["init", "import", "snapshot", "clone", "serve", "tree", "export", "rm", "check"] {
        assert!(text.contains(&format!("\n$ offshoot {command} demo.offshoot")), "{command}: {text}");
    }
    bench.ok(&["check", "folder/demo.offshoot"]);
    assert_eq!(bench.refused(&["demo", "folder"]), "folder: is not empty");
}
