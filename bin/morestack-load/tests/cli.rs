//! The program as its users meet it: what it refuses and how, and what a run writes.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn load(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_morestack-load"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("errors are UTF-8")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("reports are UTF-8")
}

/// Options of a run that takes a fraction of a second.
const SHORT: [&str; 9] = ["run", "--workers", "2", "--rate", "2000", "--duration", "200ms", "--warmup", "50ms"];

fn short(more: &[&str]) -> Output {
    load(&[&SHORT[..], more].concat())
}

/// Arguments after `run`, and what the one line has to contain: the value, and a word of what is allowed.
const REFUSED: [(&[&str], [&str; 2]); 63] = [
    (&["--workers", "0"], ["'0'", "1 to 1024"]),
    (&["--workers", "1025"], ["'1025'", "1 to 1024"]),
    (&["--workers", "-3"], ["'-3'", "1 to 1024"]),
    (&["--workers", "2.5"], ["'2.5'", "1 to 1024"]),
    (&["--workers", "many"], ["'many'", "1 to 1024"]),
    (&["--workers", ""], ["''", "1 to 1024"]),
    (&["--workers"], ["--workers", "value is required"]),
    (&["--workers", "2", "--workers", "3"], ["--workers", "multiple times"]),
    (&["--rate", "0"], ["'0'", "above 0"]),
    (&["--rate", "-5"], ["'-5'", "above 0"]),
    (&["--rate", "nan"], ["'nan'", "above 0"]),
    (&["--rate", "inf"], ["'inf'", "at most 50000000"]),
    (&["--rate", "1e6"], ["'1e6'", "number"]),
    (&["--rate", "50000001"], ["'50000001'", "at most 50000000"]),
    (&["--rate", "0.01", "--duration", "10s"], ["--rate 0.01", "one arrival"]),
    (&["--rate", "1000", "--load", "0.5"], ["--rate", "--load"]),
    (&["--load", "0"], ["'0'", "above 0"]),
    (&["--load", "1.51"], ["'1.51'", "at most 1.5"]),
    (&["--load", "-0.5"], ["'-0.5'", "above 0"]),
    (&["--load", "70%"], ["'70%'", "at most 1.5"]),
    (&["--duration", "0s"], ["'0s'", "longer than 0"]),
    (&["--duration", "10"], ["'10'", "unit"]),
    (&["--duration", "10m"], ["'10m'", "ns, us, ms or s"]),
    (&["--duration", "-1s"], ["'-1s'", "unit"]),
    (&["--duration", "2000000s"], ["'2000000s'", "3600s"]),
    (&["--warmup", "soon"], ["'soon'", "unit"]),
    (&["--warmup", "3601s"], ["'3601s'", "3600s"]),
    (&["--service", ""], ["''", "fixed:TIME"]),
    (&["--service", "sleep:10us"], ["'sleep:10us'", "fib:N"]),
    (&["--service", "fixed:10"], ["'fixed:10'", "unit"]),
    (&["--service", "fixed:1ns"], ["'fixed:1ns'", "from 100ns"]),
    (&["--service", "exp:1000s"], ["'exp:1000s'", "to 1s"]),
    (&["--service", "bimodal:5us,1ms"], ["'bimodal:5us,1ms'", "share of the long"]),
    (&["--service", "bimodal:5us,1ms,0.5"], ["'bimodal:5us,1ms,0.5'", "0% to 100%"]),
    (&["--service", "bimodal:5us,1ms,101%"], ["'bimodal:5us,1ms,101%'", "0% to 100%"]),
    (&["--service", "bimodal:1ms,5us,1%"], ["'bimodal:1ms,5us,1%'", "short"]),
    (&["--service", "fib:99"], ["'fib:99'", "1 to 40"]),
    (&["--service", "fib:"], ["'fib:'", "1 to 40"]),
    (&["--deep", "1%"], ["'1%'", "SHARE:SIZE"]),
    (&["--deep", "1:256KiB"], ["'1:256KiB'", "0% to 100%"]),
    (&["--deep", "1%:256"], ["'1%:256'", "KiB"]),
    (&["--deep", "1%:256kB"], ["'1%:256kB'", "KiB"]),
    (&["--deep", "1%:513MiB"], ["'1%:513MiB'", "512MiB"]),
    (&["--deep", "1%:10B"], ["'1%:10B'", "1KiB"]),
    (&["--deep", "-1%:256KiB"], ["'-1%:256KiB'", "0% to 100%"]),
    (&["--deep", "1%:512MiB", "--workers", "1024"], ["1%:512MiB", "available"]),
    (&["--deep", "1%:512MiB", "--stack", "reserved"], ["1%:512MiB", "at most"]),
    (&["--stack", "segmented"], ["'segmented'", "copying, reserved"]),
    (&["--time-slice", "19us"], ["'19us'", "from 20us"]),
    (&["--time-slice", "0"], ["'0'", "off"]),
    (&["--time-slice", "never"], ["'never'", "off"]),
    (&["--time-slice", "11s"], ["'11s'", "to 10s"]),
    (&["--pin", "--workers", "1024"], ["1024", "CPUs"]),
    (&["--pin=yes"], ["'yes'", "--pin"]),
    (&["--seed", "-1"], ["'-1'", "from 0"]),
    (&["--seed", "18446744073709551616"], ["'18446744073709551616'", "18446744073709551615"]),
    (&["--progress", "always"], ["'always'", "auto, never"]),
    (&["--json", "/no/such/directory/out.json"], ["/no/such/directory/out.json", "No such file"]),
    (&["--json", "/"], ["--json /", "directory"]),
    (&["--xyzzy"], ["'--xyzzy'", "--help"]),
    (&["--worker", "2"], ["'--worker'", "'--workers'"]),
    (&["extra"], ["'extra'", "--help"]),
    (&["--service", "fixed:\n1us"], ["fixed:\\n1us", "control character"]),
];

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    for (args, words) in REFUSED {
        let output = load(&[&["run"], args].concat());
        let line = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
        assert!(line.starts_with("error: ") && line.ends_with('\n'), "{args:?}: {line}");
        for word in words {
            assert!(line.contains(word), "{args:?}: {word:?} is not in {line}");
        }
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn without_a_subcommand_there_is_help_and_exit_code_2() {
    let output = load(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("Usage: morestack-load <COMMAND>"));

    let output = load(&["walk"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output).lines().count(), 1);
    assert!(stderr(&output).contains("'walk'"));
}

#[test]
fn help_names_every_option() {
    let output = load(&["run", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for option in [
        "--workers",
        "--rate",
        "--load",
        "--duration",
        "--warmup",
        "--service",
        "--deep",
        "--stack",
        "--time-slice",
        "--pin",
        "--seed",
        "--json",
        "--progress",
    ] {
        assert!(text.contains(option), "{option}");
    }
}

/// All keys of the JSON, in their order.
const KEYS: [&str; 20] = [
    "workers",
    "offered_rps",
    "completed_rps",
    "latency_ns",
    "slowdown",
    "preemptions",
    "steals",
    "grows",
    "shrinks",
    "bytes_copied",
    "freezes",
    "rss_peak_bytes",
    "arrivals",
    "completions",
    "classes",
    "seed",
    "service",
    "time_slice_ns",
    "load",
    "capacity_rps",
];

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn sorted(keys: &[&'static str]) -> Vec<&'static str> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys
}

fn check(report: &Value) {
    assert_eq!(keys(report), sorted(&KEYS));
    assert!(report["arrivals"].as_u64().unwrap() > 0);
    assert_eq!(report["arrivals"], report["completions"]);
    assert!(report["rss_peak_bytes"].as_u64().unwrap() > 1 << 20);
    let rows = report["classes"].as_array().unwrap();
    for row in rows.iter().chain([report]) {
        assert_eq!(keys(&row["latency_ns"]), sorted(&["p50", "p90", "p99", "p999", "max", "mean"]));
        assert_eq!(keys(&row["slowdown"]), sorted(&["p50", "p99", "p999"]));
        let at = |key: &str| row["latency_ns"][key].as_u64().unwrap();
        let ladder = [at("p50"), at("p90"), at("p99"), at("p999"), at("max")];
        assert!(ladder.is_sorted(), "{row}");
    }
    if !rows.is_empty() {
        let sum: u64 = rows.iter().map(|row| row["completions"].as_u64().unwrap()).sum();
        assert_eq!(sum, report["completions"].as_u64().unwrap());
    }
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("the file was written");
    serde_json::from_str(&text).expect("it is JSON")
}

#[test]
fn a_run_loses_nothing_and_writes_json() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.json");
    // Longer than the new content: nothing of it may stay.
    std::fs::write(&path, "x".repeat(100_000)).unwrap();
    let output = short(&["--json", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let text = stdout(&output);
    assert!(text.contains("nothing lost"), "{text}");
    assert!(!text.contains('\u{1b}'), "colours are for terminals: {text}");

    let report = read(&path);
    check(&report);
    assert_eq!(report["workers"], 2);
    assert_eq!(report["seed"], 1);
    assert_eq!(report["service"], "bimodal:5us,1ms,0.5%");
    assert_eq!(report["time_slice_ns"], 100_000);
    assert_eq!(report["load"], Value::Null);
    assert_eq!(report["capacity_rps"], Value::Null);
    let rows = report["classes"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["short", "long", "deep"]);
}

#[test]
fn json_to_standard_output_is_alone_there() {
    let output = short(&["--json", "-", "--service", "fixed:10us", "--deep", "0", "--time-slice", "off"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON and nothing else");
    check(&report);
    assert_eq!(report["classes"], Value::Array(Vec::new()));
    assert_eq!(report["time_slice_ns"], Value::Null);
    assert!(stderr(&output).contains("nothing lost"));
}

#[test]
fn the_same_seed_brings_the_same_arrivals() {
    let arrivals = |seed: &str| {
        let output = short(&["--json", "-", "--seed", seed]);
        let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        let rows = report["classes"].as_array().unwrap();
        let of_class: Vec<u64> = rows.iter().map(|row| row["completions"].as_u64().unwrap()).collect();
        (report["arrivals"].as_u64().unwrap(), of_class)
    };
    assert_eq!(arrivals("42"), arrivals("42"));
    assert_ne!(arrivals("42"), arrivals("43"));
}

#[test]
fn every_stack_and_service_completes() {
    for service in ["fixed:10us", "exp:20us", "bimodal:5us,1ms,0.5%", "fib:15"] {
        for stack in ["copying", "reserved"] {
            let output = short(&["--service", service, "--stack", stack, "--deep", "5%:64KiB"]);
            assert_eq!(output.status.code(), Some(0), "{service} {stack}: {}", stderr(&output));
            assert!(stdout(&output).contains("nothing lost"), "{service} {stack}");
        }
    }
}

#[test]
fn a_load_is_a_share_of_the_capacity_found() {
    let run = ["run", "--workers", "1", "--load", "0.3", "--service", "fixed:50us", "--deep", "0"];
    let output = load(&[&run[..], &["--duration", "500ms", "--warmup", "0s", "--json", "-"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    check(&report);
    let capacity = report["capacity_rps"].as_f64().unwrap();
    let offered = report["offered_rps"].as_f64().unwrap();
    // Arrivals are random: of some hundred or thousand, the rate is within some percent.
    assert!((offered / (0.3 * capacity) - 1.0).abs() < 0.3, "{offered} of {capacity}");
    assert_eq!(report["load"], 0.3);
}
