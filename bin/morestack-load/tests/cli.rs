//! The program as its users meet it: what it refuses and how, and what a run writes.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_morestack-load"));
    command.args(args).stdin(Stdio::null());
    command
}

fn load(args: &[&str]) -> Output {
    program(args).output().expect("the program starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("errors are UTF-8")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("reports are UTF-8")
}

/// Options of a run that takes a fraction of a second.
const SHORT: [&str; 9] = ["run", "--workers", "2", "--rate", "2000", "--duration", "200ms", "--warmup", "50ms"];

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    serde_json::from_str(&stdout(output)).expect("JSON and nothing else")
}

fn short(more: &[&str]) -> Output {
    load(&[&SHORT[..], more].concat())
}

/// Arguments after `run`, and what the one line has to contain: the value, and a word of what is allowed.
const REFUSED: [(&[&str], [&str; 2]); 80] = [
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
    (&["--service", "json:1"], ["'json:1'", "json, sha256"]),
    (&["--service", "empty:0"], ["'empty:0'", "or empty"]),
    (&["--service", "sha256:"], ["'sha256:'", "KiB"]),
    (&["--service", "sha256:1GiB"], ["'sha256:1GiB'", "to 64MiB"]),
    (&["--trace", "/no/such/trace"], ["--trace /no/such/trace", "No such file"]),
    (&["--trace", "/dev/null"], ["--trace /dev/null", "no request"]),
    (&["--trace", "/proc/self/status"], ["--trace /proc/self/status", "line 1"]),
    (&["--trace", "t", "--rate", "5"], ["--trace", "--rate"]),
    (&["--trace", "t", "--service", "json"], ["--trace", "--service"]),
    (&["--compare", "java"], ["'java'", "tokio, rayon, may and threads"]),
    (&["--compare", "tokio,"], ["''", "tokio, rayon, may and threads"]),
    (&["--compare", "morestack"], ["'morestack'", "tokio, rayon, may and threads"]),
    (&["--compare", "tokio,rayon,tokio"], ["tokio", "twice"]),
    (&["--html", "/no/such/directory/out.html"], ["--html /no/such/directory/out.html", "No such file"]),
    (&["--html", "-"], ["--html -", "file"]),
    (&["--hgrm", "/"], ["--hgrm /", "directory"]),
    (&["--hgrm", "-"], ["--hgrm -", "file"]),
    (&["--service", "fib:99"], ["'fib:99'", "1 to 40"]),
    (&["--service", "fib:"], ["'fib:'", "1 to 40"]),
    (&["--deep", "1%"], ["'1%'", "SHARE:SIZE"]),
    (&["--deep", "1:256KiB"], ["'1:256KiB'", "0% to 100%"]),
    (&["--deep", "1%:256"], ["'1%:256'", "KiB"]),
    (&["--deep", "1%:256kB"], ["'1%:256kB'", "KiB"]),
    (&["--deep", "1%:513MiB"], ["'1%:513MiB'", "512MiB"]),
    (&["--deep", "1%:10B"], ["'1%:10B'", "1KiB"]),
    (&["--deep", "-1%:256KiB"], ["'-1%:256KiB'", "0% to 100%"]),
    (&["--deep", "1%:512MiB", "--workers", "1024", "--stack", "copying"], ["1%:512MiB", "available"]),
    (&["--deep", "1%:512MiB", "--stack", "reserved"], ["1%:512MiB", "at most"]),
    (&["--stack", "segmented"], ["'segmented'", "auto, copying, reserved"]),
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

/// The same of `sweep`, in a directory where there are some files.
const REFUSED_BY_SWEEP: [(&[&str], [&str; 2]); 20] = [
    (&["--loads", ""], ["''", "percentage"]),
    (&["--loads", "0.5"], ["'0.5'", "percentage"]),
    (&["--loads", "0%"], ["'0%'", "above 0%"]),
    (&["--loads", "10%,101%"], ["'101%'", "at most 100%"]),
    (&["--loads", "50%,10%"], ["50%,10%", "higher"]),
    (&["--loads", "10%,10%"], ["10%,10%", "higher"]),
    (&["--slices", "10us"], ["'10us'", "from 20us"]),
    (&["--slices", "1ms,"], ["''", "or off"]),
    (&["--slices", "off,off"], ["morestack off", "twice"]),
    (&["--executors", "go"], ["'go'", "morestack, tokio"]),
    (&["--executors", "tokio,tokio"], ["tokio", "twice"]),
    (&["--duration", "0s"], ["'0s'", "longer than 0"]),
    (&["--warmup", "soon"], ["'soon'", "unit"]),
    (&["--csv", "-"], ["--csv -", "file"]),
    (&["--html", "-"], ["--html -", "file"]),
    (&["--csv", "same", "--html", "same"], ["same", "the same file"]),
    (&["--csv", "/no/such/directory/s.csv"], ["--csv /no/such/directory/s.csv", "No such file"]),
    (&["--csv", "notes.txt"], ["--csv notes.txt", "holds no sweep"]),
    (&["--rate", "1000"], ["'--rate'", "unexpected"]),
    (&["--trace", "t"], ["'--trace'", "unexpected"]),
];

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("notes.txt"), "not, a\nsweep, at\nall, see\n").unwrap();
    let run = REFUSED.iter().map(|(args, words)| ("run", *args, words));
    let sweep = REFUSED_BY_SWEEP.iter().map(|(args, words)| ("sweep", *args, words));
    for (command, args, words) in run.chain(sweep) {
        let output =
            program(&[&[command], args].concat()).current_dir(&directory).output().expect("the program starts");
        let line = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
        assert!(line.starts_with("error: ") && line.ends_with('\n'), "{args:?}: {line}");
        for word in *words {
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
        "--trace",
        "--compare",
        "--pin",
        "--seed",
        "--json",
        "--html",
        "--hgrm",
        "--progress",
    ] {
        assert!(text.contains(option), "{option}");
    }
}

/// All keys of the JSON. They are an interface: see docs/load.md, which a test below compares with.
const KEYS: [&str; 32] = [
    "executor",
    "workers",
    "offered_rps",
    "completed_rps",
    "latency_ns",
    "slowdown",
    "generator_error_ns",
    "arrivals",
    "completions",
    "missing",
    "saturated",
    "classes",
    "preemptions",
    "steals",
    "grows",
    "shrinks",
    "bytes_copied",
    "freezes",
    "peak_stacks",
    "rss_peak_bytes",
    "stacks",
    "seed",
    "service",
    "deep",
    "pin",
    "time_slice_ns",
    "warmup_ns",
    "measured_ns",
    "load",
    "capacity_rps",
    "interrupted",
    "compare",
];

/// Those of a peer.
const PEER_KEYS: [&str; 14] = [
    "executor",
    "offered_rps",
    "completed_rps",
    "latency_ns",
    "slowdown",
    "generator_error_ns",
    "arrivals",
    "completions",
    "missing",
    "saturated",
    "classes",
    "rss_peak_bytes",
    "p99_range_ns",
    "ratio",
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
    assert_eq!(keys(&report["generator_error_ns"]), sorted(&["p50", "p90", "p99", "p999", "max", "mean"]));
    assert_eq!(report["missing"], 0);
    assert_eq!(report["interrupted"], false);
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
    for service in ["fixed:10us", "exp:20us", "bimodal:5us,1ms,0.5%", "fib:15", "json", "sha256:64KiB", "empty"] {
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

#[test]
fn the_documentation_has_every_key() {
    let text = include_str!("../../../docs/load.md");
    for key in KEYS.iter().chain(&PEER_KEYS) {
        assert!(text.contains(&format!("| `{key}` |")), "{key}");
    }
}

#[test]
fn a_trace_is_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    // One in the warm-up, three after, one late and long.
    std::fs::write(&path, "# arrival service\n0ms 5us\n20ms 5us\n20ms,1ms\n25ms 100us\n\n60ms 50ms # the end\n")
        .unwrap();
    let trace = path.to_str().unwrap();
    let report = json(&load(&["run", "--workers", "1", "--trace", trace, "--warmup", "10ms", "--json", "-"]));
    check(&report);
    assert_eq!(report["arrivals"], 4);
    assert_eq!(report["deep"], Value::Null);
    assert_eq!(report["capacity_rps"], Value::Null);
    assert!(report["latency_ns"]["max"].as_u64().unwrap() > 20_000_000, "{report}");

    let report = json(&load(&["run", "--trace", trace, "--deep", "100%:16KiB", "--json", "-"]));
    assert_eq!(report["classes"][1]["name"], "deep");
    assert_eq!(report["classes"][1]["completions"], 5);

    std::fs::write(&path, "5us 5us\n4us 5us\n").unwrap();
    let output = load(&["run", "--trace", trace]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("line 2: it arrives before"), "{}", stderr(&output));
    std::fs::write(&path, "5us 5us\n").unwrap();
    let output = load(&["run", "--trace", trace, "--warmup", "1s"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("nothing arrives after"), "{}", stderr(&output));
}

#[test]
fn peers_play_the_same_schedule() {
    let directory = tempfile::tempdir().unwrap();
    let hgrm = directory.path().join("out.hgrm");
    let output = short(&["--compare", "tokio,rayon,may,threads", "--json", "-", "--hgrm", hgrm.to_str().unwrap()]);
    let report = json(&output);
    check(&report);
    let peers = report["compare"].as_array().unwrap();
    let names: Vec<&str> = peers.iter().map(|peer| peer["executor"].as_str().unwrap()).collect();
    assert_eq!(names, ["tokio", "rayon", "may", "threads"]);
    for peer in peers {
        assert_eq!(keys(peer), sorted(&PEER_KEYS));
        assert_eq!(peer["arrivals"], report["arrivals"]);
        assert_eq!(peer["completions"], report["completions"]);
        for (own, theirs) in report["classes"].as_array().unwrap().iter().zip(peer["classes"].as_array().unwrap()) {
            assert_eq!(own["completions"], theirs["completions"], "{peer}");
        }
        let ratio = peer["latency_ns"]["p99"].as_f64().unwrap() / report["latency_ns"]["p99"].as_f64().unwrap();
        assert!((peer["ratio"]["p99"].as_f64().unwrap() / ratio - 1.0).abs() < 1e-6);
        let range = &peer["p99_range_ns"];
        assert!(range[0].as_u64().unwrap() <= range[1].as_u64().unwrap());
    }
    let table = stderr(&output);
    assert!(table.contains("over morestack's") && table.contains("  threads "), "{table}");
    // One run has as many parts as a comparison has: the cut schedule is the whole one.
    let alone = json(&short(&["--json", "-"]));
    assert_eq!(alone["arrivals"], report["arrivals"]);

    for name in ["morestack", "tokio", "rayon", "may", "threads"] {
        let text = std::fs::read_to_string(hgrm.with_extension(format!("{name}.hgrm"))).unwrap();
        assert!(text.contains("1/(1-Percentile)") && text.contains("#[Max"), "{text}");
    }
}

/// What Ctrl-C does: SIGINT after a while.
fn interrupted(directory: &Path, args: &[&str], after: Duration) -> Output {
    let child = program(args).current_dir(directory).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("the program starts");
    std::thread::sleep(after);
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(status.success(), "the program has ended before: {args:?}");
    child.wait_with_output().expect("it ends")
}

#[test]
fn an_interruption_gives_the_results_so_far() {
    let directory = tempfile::tempdir().unwrap();
    let run = ["run", "--workers", "1", "--rate", "2000", "--duration", "60s", "--warmup", "0s", "--json", "out.json"];
    let output = interrupted(directory.path(), &run, Duration::from_millis(700));
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(stderr(&output), "error: interrupted: the results are those so far\n");
    assert!(stdout(&output).contains("interrupted"), "{}", stdout(&output));
    let report = read(&directory.path().join("out.json"));
    assert_eq!(report["interrupted"], true);
    let measured = report["measured_ns"].as_f64().unwrap() / 1e9;
    assert!(measured > 0.05 && measured < 10.0, "{measured}");
    // The rate is over the time that there was, not over the minute that was asked for.
    let offered = report["offered_rps"].as_f64().unwrap();
    assert!(offered > 1_000.0 && offered < 3_000.0, "{offered}");
}

/// A sweep of a second or two.
const SWEEP: [&str; 12] = [
    "sweep",
    "--workers",
    "1",
    "--executors",
    "morestack,tokio",
    "--slices",
    "100us",
    "--duration",
    "100ms",
    "--warmup",
    "10ms",
    "--loads",
];

/// Loads and executors of a CSV, in order.
fn measured(path: &Path) -> Vec<(String, String)> {
    let mut csv = csv::Reader::from_path(path).unwrap();
    let heads = csv.headers().unwrap().clone();
    let at = |name| heads.iter().position(|head| head == name).unwrap();
    let (load, executor, class) = (at("load_percent"), at("executor"), at("class"));
    let rows = csv.records().map(Result::unwrap).filter(|row| &row[class] == "all");
    rows.map(|row| (row[load].to_string(), row[executor].to_string())).collect()
}

fn pairs(loads: &[&str]) -> Vec<(String, String)> {
    let both = |load: &&str| ["morestack", "tokio"].map(|executor| (load.to_string(), executor.to_string()));
    loads.iter().flat_map(both).collect()
}

#[test]
fn a_sweep_goes_on_where_it_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let csv = directory.path().join("sweep.csv");
    let sweep = |loads: &[&str]| {
        program(&[&SWEEP[..], loads].concat()).current_dir(&directory).output().expect("the program starts")
    };
    let output = sweep(&["10%,20%"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let text = stdout(&output);
    assert!(text.contains("capacity: ") && text.contains("p99 latency of short requests"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("20%")), "{text}");
    assert!(!text.contains('\u{1b}'), "colours are for terminals: {text}");
    assert_eq!(measured(&csv), pairs(&["10.0", "20.0"]));
    let first = std::fs::read_to_string(&csv).unwrap();

    // What is there stays as it is, byte by byte; what is missing is added.
    let output = sweep(&["10%,20%,30%"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("(from sweep.csv)"), "{}", stdout(&output));
    assert_eq!(measured(&csv), pairs(&["10.0", "20.0", "30.0"]));
    let second = std::fs::read_to_string(&csv).unwrap();
    assert!(second.starts_with(&first), "{second}");
    let page = std::fs::read_to_string(directory.path().join("sweep.html")).unwrap();
    assert!(page.contains("morestack 100us at 30%"), "{page}");

    // Another sweep is refused, and the file left alone.
    let output = sweep(&["10%", "--seed", "7"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("seed 1, not 7"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&csv).unwrap(), second);
    let names = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    assert_eq!(names, ["sweep.csv", "sweep.html"]);
}

#[test]
fn an_interrupted_sweep_keeps_whole_loads() {
    let directory = tempfile::tempdir().unwrap();
    let more = ["10%,20%,30%,40%,50%,60%,70%,80%,90%,95%", "--duration", "1s"];
    // SWEEP without its own duration.
    let args = [&SWEEP[..7], &SWEEP[9..], &more].concat();
    let output = interrupted(directory.path(), &args, Duration::from_millis(4500));
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    let rows = std::fs::read_to_string(directory.path().join("sweep.csv")).unwrap();
    if !rows.is_empty() {
        let measured = measured(&directory.path().join("sweep.csv"));
        assert!(measured.len() < 20 && measured.len().is_multiple_of(2), "{measured:?}");
    }
}

#[test]
fn colours_are_where_they_are_wanted() {
    let args = [&SHORT[..], &["--service", "fixed:10us", "--deep", "0"]].concat();
    let coloured = |no_color: bool| {
        let mut command = program(&args);
        // As on a terminal, which a test has none of.
        command.env("CLICOLOR_FORCE", "1");
        if no_color {
            command.env("NO_COLOR", "1");
        } else {
            command.env_remove("NO_COLOR");
        }
        stdout(&command.output().expect("the program starts")).contains('\u{1b}')
    };
    assert!(coloured(false));
    assert!(!coloured(true));
}
