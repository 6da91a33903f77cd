//! `#[prologue]` as compiled: the check of each class stands in front of the frame, at each opt-level; and it works in
//! position-dependent and -independent programs, and in a shared object that a green thread loads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;

use morestack_tests::command::run;

/// What is built, and how.
struct Build {
    /// `--lib` or `--bin program`.
    target: &'static [&'static str],
    opt_level: &'static str,
    relocation_model: &'static str,
}

/// One that was built.
struct Built {
    directory: tempfile::TempDir,
    assembly: String,
}

impl Built {
    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Build {
    /// Compiles what is in `tests/images`. What it depends on is there since this test was compiled, in the same profile.
    fn build(&self) -> Built {
        // The next build overwrites what this one made.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());

        let program = std::env::current_exe().expect("the test's own path");
        let profile = program.parent().and_then(Path::parent).expect("target/PROFILE/deps");
        let name = match profile.file_name().and_then(|name| name.to_str()).expect("a profile") {
            "debug" => "dev",
            name => name,
        };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["rustc", "--quiet", "--offline", "--package", "morestack-images", "--profile", name]);
        cargo.args(self.target).arg("--target-dir").arg(profile.parent().expect("target"));
        cargo.args(["--", "--emit", "asm,link", "-C", "codegen-units=1", "-C", "llvm-args=-x86-asm-syntax=intel"]);
        cargo.args(["-C", &format!("opt-level={}", self.opt_level)]);
        cargo.args(["-C", &format!("relocation-model={}", self.relocation_model)]);
        // Never as before, so that it is compiled, and its assembly is the newest.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock that is set");
        cargo.arg("--cfg").arg(format!("built=\"{}\"", now.as_nanos()));
        let output = cargo.output().expect("cargo runs");
        assert!(output.status.success(), "{cargo:?}: {}", String::from_utf8_lossy(&output.stderr));

        let directory = tempfile::tempdir().expect("a directory");
        for name in ["program", "libimage.so"] {
            if profile.join(name).exists() {
                fs::copy(profile.join(name), directory.path().join(name)).expect("a copy");
            }
        }
        let deps = fs::read_dir(profile.join("deps")).expect("target/PROFILE/deps");
        let stem = if self.target[0] == "--lib" { "image-" } else { "program-" };
        let files = deps.filter_map(|entry| entry.ok()).filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            (name.starts_with(stem) || name == "image.s") && name.ends_with(".s")
        });
        let newest = files.max_by_key(|entry| entry.metadata().and_then(|data| data.modified()).ok());
        let assembly = fs::read_to_string(newest.expect("assembly was asked for").path()).expect("assembly");
        Built { directory, assembly }
    }
}

/// The instructions of a function.
fn function<'a>(assembly: &'a str, name: &str) -> Vec<&'a str> {
    let label = format!("\n{name}:\n");
    let start = assembly.find(&label).unwrap_or_else(|| panic!("no {name}")) + label.len();
    let body = assembly[start..].split(".Lfunc_end").next().expect("a function ends");
    let lines = body.lines().map(str::trim);
    lines.filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

/// Bytes that are taken off the stack pointer.
fn taken(instructions: &[&str]) -> usize {
    let bytes = |line: &&str| {
        if line.starts_with("push") {
            return 8;
        }
        let line = line.replace('\t', " ");
        line.strip_prefix("sub rsp, ").map_or(0, |bytes| bytes.parse().unwrap_or(usize::MAX))
    };
    instructions.iter().map(bytes).max().unwrap_or(0)
}

/// Checks that the function begins with this check, in next to no frame of its own.
fn begins_with(assembly: &str, name: &str, check: &[&str]) {
    let instructions = function(assembly, name);
    let text: Vec<String> = instructions.iter().map(|line| line.replace('\t', " ")).collect();
    let found = text.windows(check.len()).position(|window| window.iter().zip(check).all(|(a, b)| a.starts_with(b)));
    let at = found.unwrap_or_else(|| panic!("{name} has no {check:?}: {text:#?}"));
    assert!(at <= 12, "{name} begins with something else: {text:#?}");
    assert!(!text[..at].iter().any(|line| line.starts_with("call")), "{name} calls before its check: {text:#?}");
    assert!(taken(&instructions) <= 128, "{name} has a large frame: {text:#?}");
}

/// Checks every class, and where the frame is.
fn checks_stand_in_front(assembly: &str) {
    let classes: [(&str, &[&str]); 4] = [
        ("image_class_small", &["cmp rsp, qword ptr fs:[112]", "jbe"]),
        ("image_class_big", &["lea r11, [rsp - 3968]", "cmp r11, qword ptr fs:[112]", "jbe"]),
        (
            "image_class_large",
            &[
                "mov r11, qword ptr fs:[112]",
                "cmp r11, -1314",
                "je",
                "lea r10, [rsp + 32768]",
                "sub r10, r11",
                "cmp r10, 132640",
                "jbe",
            ],
        ),
        ("image_fill", &["mov r11, qword ptr fs:[112]", "cmp r11, -1314", "je"]),
    ];
    for (name, check) in classes {
        begins_with(assembly, name, check);
    }
    // No check at all: neither here nor in what it calls, which is not looked at.
    assert!(!function(assembly, "image_class_leaf").iter().any(|line| line.contains("fs:[112]")));
    // The large frames are elsewhere.
    let outlined = |name: &&str| name.contains("Outline") || name.contains("closure");
    let labels = assembly.lines().filter_map(|line| line.strip_suffix(':')).filter(|label| label.starts_with("_ZN"));
    let frames = labels.filter(outlined).filter(|name| {
        let lines = function(assembly, name);
        // A frame of many pages is touched page by page: the sum is in the register that the loop ends at.
        taken(&lines) >= 4096 || lines.iter().any(|line| line.contains("[rsp - 1") && line.starts_with("lea"))
    });
    assert!(frames.count() >= 3, "where are the frames of 25 and 100 thousand bytes?");
    // A check in the frame comes first, too.
    let plain = function(assembly, "image_descend");
    let at = |what: &str| plain.iter().position(|line| line.contains(what)).unwrap_or(usize::MAX);
    assert!(at("fs:[112]") < at("call"), "{plain:#?}");
    assert_ne!(at("fs:[112]"), usize::MAX);
}

#[test]
fn programs() {
    let ways = [("0", "pic"), ("1", "static"), ("2", "pie"), ("3", "static"), ("3", "pie"), ("s", "pic")];
    for (opt_level, relocation_model) in ways {
        let built = Build { target: &["--bin", "program"], opt_level, relocation_model }.build();
        checks_stand_in_front(&built.assembly);
        assert_eq!(run(&mut Command::new(built.file("program"))).success(), "done\n", "{opt_level} {relocation_model}");
    }
}

#[test]
fn shared_objects() {
    let program = Build { target: &["--bin", "program"], opt_level: "2", relocation_model: "pie" }.build();
    for opt_level in ["0", "1", "2", "3", "s"] {
        let image = Build { target: &["--lib"], opt_level, relocation_model: "pic" }.build();
        checks_stand_in_front(&image.assembly);
        let mut command = Command::new(program.file("program"));
        assert_eq!(run(command.arg(image.file("libimage.so"))).success(), "done\n", "{opt_level}");
    }
}
