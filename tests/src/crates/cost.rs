//! What checks and side stacks cost: the same programs, timed and weighed.
//!
//! Samples of the builds are interleaved, so that what else the machine does concerns all alike. A sample of a program is as
//! many rounds as take some `SAMPLE` in the plain build; its figure is the median.
//!
//! With side stacks a program runs on a green thread. Without, green threads have stacks of a fixed size that libraries do not know of:
//! one that leaves for a new stack where it believes the old one full (`stacker`) does so at each call. So it is an OS thread there.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use object::{Object, ObjectSection};

use super::LIMIT;
use super::build::Builder;
use crate::command::run_for;

/// Long enough that starting a sample costs nothing, short enough for many.
const SAMPLE: Duration = Duration::from_millis(60);

/// Times the programs, and prints a table. All have been built by all builders.
pub fn measure(names: &[String], samples: usize) -> Result<(), String> {
    let builders = [Builder::Plain, Builder::Checks, Builder::Morestack];
    println!(
        "{:<18}{:>12}{:>10}{:>10}{:>12}{:>10}{:>10}",
        "crate", "plain", "checks", "side", "text", "checks", "side"
    );
    let (mut times, mut sizes) = ([0.0; 2], [0.0; 2]);
    for name in names {
        let once = sample(Builder::Plain, name, 1)?.max(Duration::from_nanos(1));
        let rounds = (SAMPLE.as_nanos() / once.as_nanos()).clamp(1, 100_000) as u64;
        let mut taken = builders.map(|_| Vec::new());
        for _ in 0..samples {
            for (builder, taken) in builders.iter().zip(&mut taken) {
                taken.push(sample(*builder, name, rounds)?);
            }
        }
        let [plain, checks, side] = taken.map(|mut taken| {
            taken.sort();
            taken[taken.len() / 2].as_secs_f64()
        });
        let mut texts = [0.0; 3];
        for (builder, text) in builders.iter().zip(&mut texts) {
            *text = text_size(&builder.dir().join(name))? as f64;
        }
        let ratios = [checks / plain, side / plain, texts[1] / texts[0], texts[2] / texts[0]];
        println!(
            "{name:<18}{:>9.1} us{:>10.3}{:>10.3}{:>9.0} KB{:>10.3}{:>10.3}",
            plain * 1e6 / rounds as f64,
            ratios[0],
            ratios[1],
            texts[0] / 1000.0,
            ratios[2],
            ratios[3]
        );
        for i in 0..2 {
            times[i] += ratios[i].ln();
            sizes[i] += ratios[i + 2].ln();
        }
    }
    let mean = |sum: f64| (sum / names.len() as f64).exp();
    println!(
        "{:<30}{:>10.3}{:>10.3}{:>22.3}{:>10.3}",
        "geometric mean",
        mean(times[0]),
        mean(times[1]),
        mean(sizes[0]),
        mean(sizes[1])
    );
    Ok(())
}

/// The time of so many rounds in a process of their own, the second time: the first warms up.
fn sample(builder: Builder, name: &str, rounds: u64) -> Result<Duration, String> {
    let mut command = Command::new(builder.dir().join(name));
    let on = if builder == Builder::Morestack { "spawn" } else { "os" };
    command.args([on, "1", &rounds.to_string(), "2"]);
    let finished = run_for(LIMIT, &mut command)?;
    let nanos = finished.stdout.lines().last().and_then(|line| line.parse().ok());
    nanos.map(Duration::from_nanos).filter(|_| finished.status.success()).ok_or_else(|| finished.to_string())
}

/// Bytes of machine code.
fn text_size(program: &Path) -> Result<u64, String> {
    let bytes = fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
    let file = object::File::parse(&*bytes).map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(file.section_by_name(".text").map_or(0, |text| text.size()))
}
