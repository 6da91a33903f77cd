//! The command line: what it prints, and what it refuses.

use std::process::{Command, Output};

const NAMES: &[&str] = &[
    "yield",
    "spawn_join",
    "pingpong",
    "mutex",
    "fib_forkjoin",
    "fanin",
    "skynet",
    "steal",
    "timers",
    "preemption_cost",
    "prologue",
    "tail_latency",
    "stack_alloc",
    "copystack",
    "deep_recursion",
    "walk",
    "segment_call",
    "grow64k",
    "idle_memory",
    "thaw",
    "hog",
    "prologues",
    "prologues_size",
    "preemption_lateness",
    "growth",
];

/// Those that build programs first, which takes minutes.
const BUILD: &[&str] = &["prologues", "prologues_size", "preemption_lateness", "growth"];

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_morestack-bench")).args(args).output().expect("the binary runs")
}

fn refused(args: &[&str], words: &str) {
    let output = bench(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.contains(words), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn one_line_for_bad_arguments() {
    refused(&["yeild"], &format!("there are {}, all, list", NAMES.join(", ")));
    refused(&[], "<NAME>");
    refused(&["yield", "--reps", "0"], "--reps");
    refused(&["yield", "--reps", "many"], "many");
    refused(&["yield", "--fast"], "--fast");
    refused(&["yield", "--json", "/nowhere/at/all"], "/nowhere/at/all");
    refused(&["yield", "--markdown", "/nowhere/at/all"], "/nowhere/at/all");
    refused(&["yield", "--baseline", "/nowhere/at/all"], "/nowhere/at/all");
    refused(&["yield", "--peers", "boost"], "boost");
    refused(&["all", "--skip", "yeild"], "yeild");
}

#[test]
fn list() {
    let output = bench(&["list"]);
    assert!(output.status.success());
    let stdout = String::from_utf8_lossy(&output.stdout);
    let names: Vec<_> = stdout.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, NAMES);
}

#[test]
fn quick_run_with_json() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = file.path().to_str().expect("a plain path");
    let tables = tempfile::NamedTempFile::new().expect("a temporary file");
    let markdown = tables.path().to_str().expect("a plain path");
    let skip = BUILD.join(",");
    let output = bench(&["all", "--skip", &skip, "--quick", "--reps", "2", "--json", path, "--markdown", markdown]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8_lossy(&output.stdout);
    let report: serde_json::Value = serde_json::from_reader(&file).expect("JSON");
    let tables = std::fs::read_to_string(tables).expect("text");
    assert_eq!(report["repetitions"], 2);
    for &name in NAMES.iter().filter(|name| !BUILD.contains(name)) {
        assert!(stdout.contains(&format!("{name}: ")), "{stdout}");
        if ["segment_call", "walk"].contains(&name) {
            // Of programs that `cargo morestack` builds, and this is none.
            continue;
        }
        let entry = report["benchmarks"].as_array().and_then(|all| all.iter().find(|entry| entry["name"] == name));
        let entry = entry.unwrap_or_else(|| panic!("{name} is missing: {report}"));
        for contender in entry["contenders"].as_array().expect("a list") {
            assert_eq!(contender["samples"].as_array().map(Vec::len), Some(2), "{contender}");
            assert!(contender["median"].as_f64().is_some_and(|median| median > 0.0), "{contender}");
            assert!(contender["ratio"].is_number(), "{contender}");
        }
        assert!(tables.contains(&format!("\n## {name}\n")), "{tables}");
    }

    // The same machine is compared with, another one is not.
    let output = bench(&["lists", "--baseline", path]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no benchmark"), "{output:?}");
    let output = bench(&["stack_alloc", "--quick", "--reps", "1", "--baseline", path]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("then"), "{output:?}");
    let mut other = report.clone();
    other["machine"]["cpus"] = 4096.into();
    std::fs::write(file.path(), other.to_string()).expect("a file to write");
    refused(&["stack_alloc", "--baseline", path], "of another machine");
}
